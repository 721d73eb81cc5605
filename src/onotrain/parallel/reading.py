"""Many files, read once on a node by all its ranks.

The first rank decides what is read, for it makes the data; the others wait for its requests.  A request goes to all of
them, each reads its share and sends every file's part as soon as it has read it, and the first rank takes in what has
come whenever it has read a file of its own.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from onotrain.data.dataset import DataSpec
from onotrain.data.reading import FileReader, FilesRead, Progress, no_progress, size_of
from onotrain.errors import OnotrainError
from onotrain.parallel.shared_memory import allocate, share

if TYPE_CHECKING:
    from mpi4py import MPI

    from onotrain.parallel.world import World

__all__ = ["NodeReader", "dealt", "share_read"]

P = TypeVar("P")

_TAG = 3
#: What opening a file costs, in bytes read meanwhile.
_OPENING_BYTES = 1 << 16


def dealt(sizes: Sequence[int], ranks: int) -> list[list[int]]:
    """Deal files to ranks so that each has about as many bytes to read.

    Parameters
    ----------
    sizes
        Of the files [bytes].
    ranks
        How many share them.

    Returns
    -------
    list of list of int
        The numbers of the files of each rank, ascending.
    """
    shares: list[list[int]] = [[] for _ in range(ranks)]
    loads = [(0, rank) for rank in range(ranks)]  # a heap
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        load, rank = heapq.heappop(loads)
        shares[rank].append(number)
        heapq.heappush(loads, (load + sizes[number] + _OPENING_BYTES, rank))
    return [sorted(share) for share in shares]


@dataclass(frozen=True)
class _Request(Generic[P]):
    """What the first rank asks of the others."""

    read: Callable[[DataSpec], P]
    specs: Sequence[DataSpec]
    shares: Sequence[Sequence[int]]


@dataclass(frozen=True)
class _Failed:
    """Stands for the part of a file that could not be read."""

    error: OnotrainError


class NodeReader(FileReader):
    """Reads files on all ranks of a node (`onotrain.data.reading.ReadFiles`).

    *Collective* over the node when it is made, then `lead` on its first rank beside `follow` on the others.  The first
    rank holds all parts when the last one has come; the others hold theirs until they are sent.

    Parameters
    ----------
    node
        The ranks.
    progress
        Called on the first of them.
    """

    def __init__(self, node: MPI.Comm, progress: Progress = no_progress) -> None:
        super().__init__(progress)
        self._node = node
        if node.size > 1:
            from mpi4py.util import pkl5

            self._messages: Any = pkl5.Intracomm(node)  # sends arrays from where they are, of any size
            #: Of each rank, the first file that it could not read.  Files after any of them need not be read.
            self._failed = allocate(node, {"failed": ((node.size,), np.int64)})["failed"]

    def lead(self, make: Callable[[], P]) -> P:
        """Return `make()`, in which this reader may be called, and let the other ranks go."""
        try:
            return make()
        finally:
            if self._node.size > 1:
                self._node.bcast(None, root=0)

    def follow(self) -> None:
        """Read what the first rank asks for, until it lets this rank go."""
        while (request := self._node.bcast(None, root=0)) is not None:
            pending: list[Any] = []
            for message in self._own_parts(request):
                pending = [sending for sending in pending if not sending.test()[0]]
                pending.append(self._messages.isend(message, dest=0, tag=_TAG))
            self._messages.send(None, dest=0, tag=_TAG)
            for sending in pending:
                sending.wait()

    def _read_all(self, read: Callable[[DataSpec], P], specs: Sequence[DataSpec]) -> list[P]:
        if self._node.size == 1 or len(specs) == 1:
            return super()._read_all(read, specs)
        request = _Request(read, specs, dealt([size_of(spec) for spec in specs], self._node.size))
        self._failed[:] = len(specs)
        self._node.bcast(request, root=0)
        found = self._collected(request)
        first = min(self._failed)
        if first < len(specs):
            raise found[first].error
        return [found[number] for number in range(len(specs))]

    def _collected(self, request: _Request[Any]) -> dict[int, Any]:
        """Read the first rank's share, and return all parts by the number of their files."""
        found: dict[int, Any] = {}
        reading, total = self._node.size - 1, len(request.specs)
        self._progress(0, total)

        def take(message: tuple[int, Any] | None) -> int:
            """Keep a part; return how many ranks have no more of them."""
            if message is None:
                return 1
            found[message[0]] = message[1]
            self._progress(len(found), total)
            return 0

        for part in self._own_parts(request):
            take(part)
            while self._waits():
                reading -= take(self._messages.recv(tag=_TAG))
        while reading:
            reading -= take(self._messages.recv(tag=_TAG))
        return found

    def _waits(self) -> bool:
        """Return whether a part has come; the second look sees one that came while this rank was reading."""
        return self._messages.iprobe(tag=_TAG) or self._messages.iprobe(tag=_TAG)

    def _own_parts(self, request: _Request[Any]) -> Any:
        """Yield the number and the part of each file of this rank's share; of one that fails, and is the last, why."""
        for number in request.shares[self._node.rank]:
            if number > min(self._failed):
                return
            try:
                part = self._read_one(request.read, request.specs[number])
            except OnotrainError as error:
                part, self._failed[self._node.rank] = _Failed(error), number
            yield number, part

    def report(self, world: World) -> FilesRead:
        """Return what all ranks have read.  *Collective* over `world`, of whose node this reader is."""
        mine = (self.files, self.nbytes, self.seconds)
        on_node, all_ranks = self._node.allgather(mine), world.comm.allgather(mine)
        return FilesRead(
            files=sum(files for files, _, _ in on_node),
            nbytes=sum(nbytes for _, nbytes, _ in on_node),
            seconds=max(seconds for _, _, seconds in on_node),
            ranks_files=tuple(files for files, _, _ in all_ranks),
            ranks_bytes=tuple(nbytes for _, nbytes, _ in all_ranks),
        )


def share_read(
    reader: NodeReader, node: MPI.Comm, make: Callable[[], tuple[dict[str, np.ndarray], Any]]
) -> tuple[dict[str, np.ndarray], Any]:
    """Make arrays once on the node, from files that `reader` reads, and give them to all its ranks.

    *Collective* over the node, as `onotrain.parallel.shared_memory.share`: `make` runs on the first rank only.
    """
    if node.rank > 0:
        reader.follow()
    return share(node, lambda: reader.lead(make))

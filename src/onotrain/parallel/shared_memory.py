"""Memory that all ranks of a node share.

The segment is an anonymous file in memory (``memfd_create``): it has no name, so nothing is left behind however a job
dies, and it does not count against a small ``/dev/shm`` in a container.  Its pages are allocated when it is made, so
that a lack of memory is an error message here and not a bus error in the middle of training.

Ranks in containers of their own may not open each other's descriptors.  Then the segment is a shared window of MPI.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from onotrain._kernels import ALIGNMENT_BYTES
from onotrain.errors import PlatformError, ResourceError
from onotrain.memory import available_bytes
from onotrain.parallel.agreement import agreed, broadcast

if TYPE_CHECKING:
    from mpi4py import MPI

#: Name of an array -> (shape, dtype).
Fields = Mapping[str, tuple[tuple[int, ...], "np.dtype | type | str"]]


def _create(nbytes: int) -> int:
    """Return a file descriptor of `nbytes` zeroed bytes of memory."""
    hint = "use fewer ranks on a node, a smaller model, or data.stream: true"
    if nbytes > available_bytes():
        raise ResourceError(
            f"{nbytes / 2**20:.0f} MiB of shared memory wanted, {available_bytes() / 2**20:.0f} MiB left", hint=hint
        )
    fd = os.memfd_create("onotrain", os.MFD_CLOEXEC)
    try:
        os.posix_fallocate(fd, 0, nbytes)
    except OSError as error:
        os.close(fd)
        raise ResourceError(f"cannot allocate {nbytes / 2**20:.0f} MiB of shared memory: {error}", hint=hint) from error
    return fd


def _identity(fd: int) -> tuple[int, int]:
    """Return what tells a file from all others of the machine."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def open_segment(pid: int, fd: int, identity: tuple[int, int]) -> int:
    """Return a descriptor of the segment that process `pid` holds as `fd`."""
    hint = "run all ranks of a node in one container (one PID namespace) and as one user"
    try:
        descriptor = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise PlatformError(f"cannot open the memory that the ranks of this node share: {error}", hint=hint) from error
    if _identity(descriptor) != identity:
        os.close(descriptor)
        raise PlatformError(
            f"cannot open the memory that the ranks of this node share: process {pid} is another one here", hint=hint
        )
    return descriptor


def _segment(node: MPI.Comm, nbytes: int) -> mmap.mmap | memoryview:
    """Map one segment on all ranks of the node.  *Collective*."""

    def create() -> tuple[int, int, tuple[int, int]]:
        fd = _create(nbytes)
        return os.getpid(), fd, _identity(fd)

    pid, fd, identity = broadcast(node, create)
    segment, refused = None, None
    try:
        descriptor = fd if node.rank == 0 else open_segment(pid, fd, identity)
    except PlatformError as error:
        descriptor, refused = None, error
    if any(node.allgather(refused is not None)):
        if descriptor is not None:
            os.close(descriptor)
        return _window(node, nbytes, refused)
    with agreed(node):
        assert descriptor is not None  # noqa: S101 - for the type checker
        try:
            segment = mmap.mmap(descriptor, nbytes)
        except OSError as error:
            raise ResourceError(
                f"cannot map {nbytes / 2**20:.0f} MiB of shared memory: {error}", hint="raise the limit (ulimit -v)"
            ) from error
        finally:
            if node.rank != 0:
                os.close(descriptor)
    if node.rank == 0:
        os.close(fd)
    assert segment is not None  # noqa: S101 - for the type checker: agreed() has raised otherwise
    return segment


class _Window:
    """The memory of a shared window of MPI, which is there as long as this is."""

    def __init__(self, window: Any) -> None:
        self._window = window
        self.__array_interface__ = np.asarray(memoryview(window.Shared_query(0)[0])).__array_interface__


def _window(node: Any, nbytes: int, refused: PlatformError | None) -> memoryview:
    """Return a segment that MPI makes, which has other ways.  *Collective*; `refused` is why ours did not go."""
    from mpi4py import MPI

    made = None
    with agreed(node):
        try:
            # With room to begin at a boundary, as our own segments do.
            size = nbytes + ALIGNMENT_BYTES if node.rank == 0 else 0
            made = _Window(MPI.Win.Allocate_shared(size, 1, comm=node))
        except MPI.Exception as error:
            raise refused or PlatformError(f"MPI cannot share memory on this node: {error}") from error
    array = np.asarray(made)
    shift = -array.ctypes.data % ALIGNMENT_BYTES  # the same on all ranks: pages are mapped whole
    array = array[shift : shift + nbytes]
    if node.rank == 0:
        array[:] = 0
    node.Barrier()
    return array.data


def allocate(node: MPI.Comm, fields: Fields) -> dict[str, np.ndarray]:
    """Return zeroed arrays in memory that the ranks of `node` share, each at a 64-byte boundary.

    *Collective* over the node: same fields on all its ranks.

    Raises
    ------
    ResourceError
        The node has not so much memory.
    PlatformError
        The ranks cannot see each other's memory.
    """
    offsets, end = {}, 0
    for name, (shape, dtype) in fields.items():
        offsets[name] = end
        nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        end += -(-nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    segment = _segment(node, max(end, ALIGNMENT_BYTES))
    return {
        name: np.ndarray(shape, dtype, buffer=segment, offset=offsets[name]) for name, (shape, dtype) in fields.items()
    }


def share(node: MPI.Comm, make: Callable[[], tuple[dict[str, np.ndarray], Any]]) -> tuple[dict[str, np.ndarray], Any]:
    """Make arrays once on the node and give them to all its ranks.

    *Collective* over the node.  `make` runs on the node's first rank only and returns the arrays and a small object,
    which is sent along; its failure is everyone's.
    """
    made: dict[str, np.ndarray] = {}

    def header() -> tuple[dict[str, tuple[tuple[int, ...], str]], Any]:
        arrays, extra = make()
        made.update(arrays)
        return {name: (array.shape, array.dtype.str) for name, array in arrays.items()}, extra

    fields, extra = broadcast(node, header)
    if node.size == 1:
        return made, extra
    shared = allocate(node, fields)
    for name, array in made.items():
        np.copyto(shared[name], array)
    node.Barrier()
    return shared, extra

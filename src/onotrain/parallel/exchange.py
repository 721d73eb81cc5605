"""Sums over nodes that go on while this rank computes.

MPI's own ``MPI_Iallreduce`` is left aside: that of Open MPI, in place, sends the whole vector at every doubling of the
ranks (2.1 times its bytes from each of 3 or 4 ranks, where 1.3 and 1.5 are enough), and which algorithm runs, hence the
order of additions, depends on the length.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from onotrain.parallel.world import Comm, start_mpi

#: Most bytes of one message.  Up to 64 KiB, header included, Open MPI sends over TCP without asking the receiver first,
#: so that a rank that computes has nothing to answer; larger ones took a third longer at 1 Gbit/s.
MESSAGE_BYTES = 60 << 10


class Exchange:
    """The sum of a vector over some ranks, in place: each rank sums one part of it, and sends that to the others.

    Every rank sends ``2 (n - 1) / n`` times the vector to its ``n - 1`` peers, which is the least that is possible.  Of
    two ranks, each sums the whole vector instead: the same bytes, in one step.  The order of additions is that of
    the ranks, for every element, however a long vector is cut into several exchanges.

    Parameters
    ----------
    peers
        At least two ranks.
    vector
        Same dtype and length on all; it must not be touched between `start` and the end.
    tag
        Messages have this tag and the one after it.  *Collective*: same tag on all ranks, another for every exchange
        that may be under way at the same time.
    """

    def __init__(self, peers: Comm, vector: np.ndarray, tag: int) -> None:
        ranks, me, length = peers.size, peers.rank, len(vector)
        cuts = [length * rank // ranks for rank in range(ranks + 1)]
        parts = [vector if ranks == 2 else vector[cuts[rank] : cuts[rank + 1]] for rank in range(ranks)]
        others = [rank for rank in range(ranks) if rank != me]
        self._sum = parts[me]
        received = {rank: np.empty_like(self._sum) for rank in others}
        #: What is summed, in the order of the ranks.
        self._rows = [self._sum if rank == me else received[rank] for rank in range(ranks)]
        self._collect = [
            *(peers.Recv_init(m, rank, tag) for rank in others for m in _messages(received[rank])),
            *(peers.Send_init(m, rank, tag) for rank in others for m in _messages(parts[rank])),
        ]
        spread = [] if ranks == 2 else others
        self._spread = [
            *(peers.Recv_init(m, rank, tag + 1) for rank in spread for m in _messages(parts[rank])),
            *(peers.Send_init(m, rank, tag + 1) for rank in spread for m in _messages(self._sum)),
        ]
        self._mpi = start_mpi()
        self._collecting = self._spreading = False

    @property
    def flying(self) -> bool:
        """Whether it is started and not at its end."""
        return self._collecting or self._spreading

    def start(self) -> None:
        """Begin."""
        self._collecting = True
        _start_in_order(self._collect)

    def advance(self) -> None:
        """Do what can be done without waiting."""
        if self._collecting and self._mpi.Request.Testall(self._collect):
            self._collected()
        if self._spreading and self._mpi.Request.Testall(self._spread):
            self._spreading = False

    def collect(self) -> None:
        """Wait for the others' numbers, and send them what comes of it."""
        if self._collecting:
            self._mpi.Request.Waitall(self._collect)
            self._collected()

    def finish(self) -> None:
        """Wait for the end."""
        self.collect()
        if self._spreading:
            self._mpi.Request.Waitall(self._spread)
            self._spreading = False

    def _collected(self) -> None:
        """Sum, and begin to spread the sum."""
        first, *rows, last = self._rows
        for row in rows:
            np.add(first, row, out=first)
        np.add(first, last, out=self._sum)
        self._collecting, self._spreading = False, bool(self._spread)
        _start_in_order(self._spread)

    def close(self) -> None:
        """Give back what MPI holds for it; nothing while messages are under way, as when the job fails."""
        if self.flying:
            return
        for request in (*self._collect, *self._spread):
            request.Free()
        self._collect, self._spread = [], []


def _start_in_order(requests: Iterable[Any]) -> None:
    """Start them one by one: messages of one tag are matched in their order, which MPI_Startall need not keep."""
    for request in requests:
        request.Start()


def _messages(vector: np.ndarray) -> Iterable[np.ndarray]:
    step = MESSAGE_BYTES // vector.itemsize
    return (vector[begin : begin + step] for begin in range(0, len(vector), step))

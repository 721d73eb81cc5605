"""Messages between all of some ranks, and sums made of them, that go on while this rank computes.

MPI's own ``MPI_Iallreduce`` is left aside: that of Open MPI, in place, sends the whole vector at every doubling of the
ranks (2.1 times its bytes from each of 3 or 4 ranks, where 1.3 and 1.5 are enough), and which algorithm runs, hence the
order of additions, depends on the length.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from onotrain.parallel.world import Comm, start_mpi

#: Most bytes of one message.  Up to 64 KiB, header included, Open MPI sends over TCP without asking the receiver first,
#: so that a rank that computes has nothing to answer; larger ones took a third longer at 1 Gbit/s.
MESSAGE_BYTES = 60 << 10


class Exchange:
    """Two rounds of messages; what is made of them is up to classes that derive from this one.

    In the first round every rank sends something to each of the others.  Of what it gets it makes something, which in
    the second round it sends to all of them.

    Parameters
    ----------
    peers
        At least two ranks.
    tag
        Messages have this tag and the one after it.  *Collective*: same tag on all ranks, another for every exchange
        that may be under way at the same time.
    sent, received
        Of the first round, by rank; this rank's own are not looked at.
    made
        Of the second round, by rank: this rank's own is sent, the others' are received.  None: there is no second one.
    """

    def __init__(
        self,
        peers: Comm,
        tag: int,
        sent: Sequence[np.ndarray],
        received: Mapping[int, np.ndarray],
        made: Sequence[np.ndarray] | None,
    ) -> None:
        others = [rank for rank in range(peers.size) if rank != peers.rank]
        self._collect = [
            *(peers.Recv_init(m, rank, tag) for rank in others for m in _messages(received[rank])),
            *(peers.Send_init(m, rank, tag) for rank in others for m in _messages(sent[rank])),
        ]
        #: What this rank sends in one exchange.
        self.sent_bytes = sum(sent[rank].nbytes for rank in others)
        self._spread = []
        if made is not None:
            mine = made[peers.rank]
            self._spread = [
                *(peers.Recv_init(m, rank, tag + 1) for rank in others for m in _messages(made[rank])),
                *(peers.Send_init(m, rank, tag + 1) for rank in others for m in _messages(mine)),
            ]
            self.sent_bytes += mine.nbytes * len(others)
        requests = start_mpi().Request
        self._wait_all, self._test_all = requests.Waitall, requests.Testall
        self._collecting = self._spreading = False

    @property
    def flying(self) -> bool:
        """Whether it is started and not at its end."""
        return self._collecting or self._spreading

    def start(self) -> None:
        """Begin."""
        self._prepare()
        self._collecting = True
        _start_in_order(self._collect)

    def advance(self) -> None:
        """Do what can be done without waiting."""
        if self._collecting and self._test_all(self._collect):
            self._collected()
        if self._spreading and self._test_all(self._spread):
            self._ended()

    def collect(self) -> None:
        """Wait for the first round's messages, and begin the second."""
        if self._collecting:
            self._wait_all(self._collect)
            self._collected()

    def finish(self) -> None:
        """Wait for the end."""
        self.collect()
        if self._spreading:
            self._wait_all(self._spread)
            self._ended()

    def _collected(self) -> None:
        self._combine()
        self._collecting = False
        if self._spread:
            self._spreading = True
            _start_in_order(self._spread)
        else:
            self._complete()

    def _ended(self) -> None:
        self._spreading = False
        self._complete()

    def _prepare(self) -> None:
        """Make what is sent in the first round."""

    def _combine(self) -> None:
        """Make what is sent in the second round of what came in the first."""

    def _complete(self) -> None:
        """Take what came in the second round."""

    def close(self) -> None:
        """Give back what MPI holds for it; nothing while messages are under way, as when the job fails."""
        if self.flying:
            return
        for request in (*self._collect, *self._spread):
            request.Free()
        self._collect, self._spread = [], []


class Sum(Exchange):
    """The sum of a vector over some ranks, in place: each rank sums one part of it, and sends that to the others.

    Every rank sends ``2 (n - 1) / n`` times the vector to its ``n - 1`` peers, which is the least that is possible.  Of
    two ranks, each sums the whole vector instead: the same bytes, in one round.  The order of additions is that of
    the ranks, for every element, however a long vector is cut into several exchanges.

    Parameters
    ----------
    peers
        At least two ranks.
    vector
        Same dtype and length on all; it must not be touched between `start` and the end.
    tag
        As of `Exchange`.
    """

    def __init__(self, peers: Comm, vector: np.ndarray, tag: int) -> None:
        parts = [vector[part] for part in cut(len(vector), peers.size)]
        self._sum = parts[peers.rank]
        received = {rank: np.empty_like(self._sum) for rank in range(peers.size) if rank != peers.rank}
        #: What is summed, in the order of the ranks.
        self._rows = [received.get(rank, self._sum) for rank in range(peers.size)]
        super().__init__(peers, tag, parts, received, parts if peers.size > 2 else None)

    def _combine(self) -> None:
        first, last = self._rows[0], self._rows[-1]
        for row in self._rows[1:-1]:
            np.add(first, row, out=first)
        np.add(first, last, out=self._sum)


def bytes_of_sum(vector: np.ndarray, peers: Comm) -> int:
    """Return what this rank sends to sum a vector by `Sum`."""
    if peers.size == 2:
        return vector.nbytes
    own = vector[cut(len(vector), peers.size)[peers.rank]].nbytes
    return vector.nbytes - own + own * (peers.size - 1)


def cut(length: int, ranks: int) -> list[slice]:
    """Return which part of a vector each rank sums: nearly equal ones, or of two ranks, each the whole."""
    if ranks == 2:
        return [slice(0, length)] * 2
    return [slice(length * rank // ranks, length * (rank + 1) // ranks) for rank in range(ranks)]


def _start_in_order(requests: Iterable[Any]) -> None:
    """Start them one by one: messages of one tag are matched in their order, which MPI_Startall need not keep."""
    for request in requests:
        request.Start()


def _messages(vector: np.ndarray) -> Iterable[np.ndarray]:
    step = MESSAGE_BYTES // vector.itemsize
    return (vector[begin : begin + step] for begin in range(0, len(vector), step))

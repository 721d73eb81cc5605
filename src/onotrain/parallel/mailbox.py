"""Letters between workers and those who serve them: a few numbers and an array, again and again.

Each worker has one letter to every server, and gets one back.  Buffers and messages are made once; nothing here knows
what the numbers mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from time import perf_counter, sleep

import numpy as np

from onotrain.parallel.collectives import chunks
from onotrain.parallel.world import Comm, start_mpi

_TAG = 1
#: A server that waits looks again after an eighth of the time that it has waited, within these bounds [s]: it comes a
#: little late, and leaves the core to the workers.  To sleep and look costs up to 0.4 ms of a virtual machine's core,
#: which has gone to sleep meanwhile, so that pauses of 4 ms would take a tenth of it.
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 50e-6, 10e-3


class _Letter:
    """Numbers and a vector that go one way between two ranks; they must not be touched while it is `flying`."""

    def __init__(self, comm: Comm, peer: int, numbers: np.ndarray, vector: np.ndarray, *, sends: bool) -> None:
        make = comm.Send_init if sends else comm.Recv_init
        self.requests = [make(part, peer, _TAG) for part in (numbers, *chunks(vector))]
        self.flying = False

    def start(self) -> None:
        """Begin.  One by one: messages of one tag are matched in their order, which MPI_Startall need not keep."""
        for request in self.requests:
            request.Start()
        self.flying = True

    def close(self) -> None:
        """Give back what MPI holds for it; nothing while it is flying, as when the job fails."""
        if not self.flying:
            for request in self.requests:
                request.Free()
            self.requests = []


def _finish(letters: Iterable[_Letter]) -> None:
    """Wait until these letters have arrived."""
    flying = [letter for letter in letters if letter.flying]
    if flying:
        start_mpi().Request.Waitall([request for letter in flying for request in letter.requests])
    for letter in flying:
        letter.flying = False


class Outbox:
    """A worker's side.

    Parameters
    ----------
    comm
        Of workers and servers; nobody else sends messages of tag 1.
    servers
        Their ranks.
    numbers
        How many each server gets, the same ones, and how many come back from each.
    sent, received
        What each server gets besides, and what it fills: the caller's.  Empty ones are not sent.
    """

    def __init__(
        self,
        comm: Comm,
        servers: Sequence[int],
        numbers: tuple[int, int],
        sent: Sequence[np.ndarray],
        received: Sequence[np.ndarray],
    ) -> None:
        #: float64: what is sent with the vector, and what came back, with a row for each server.
        self.numbers, self.replies = np.zeros(numbers[0]), np.zeros((len(servers), numbers[1]))
        rows = zip(servers, self.replies, sent, received, strict=True)
        self._out, self._back = [], []
        for server, reply, to_server, from_server in rows:
            self._out.append(_Letter(comm, server, self.numbers, to_server, sends=True))
            self._back.append(_Letter(comm, server, reply, from_server, sends=False))

    def send(self) -> None:
        """Send to all servers, and wait until they have it."""
        for letter in self._out:
            letter.start()
        _finish(self._out)

    def start(self) -> None:
        """Begin to send to all servers, and be ready for their replies."""
        for letter in (*self._back, *self._out):
            letter.start()

    def sent(self) -> bool:
        """Return whether all that was begun is sent, without waiting."""
        return bool(start_mpi().Request.Testall([request for letter in self._out for request in letter.requests]))

    def finish(self) -> None:
        """Wait until all is sent, and for all replies."""
        _finish((*self._out, *self._back))

    def close(self) -> None:
        """Give back what MPI holds."""
        for letter in (*self._out, *self._back):
            letter.close()


class Inbox:
    """A server's side.

    Parameters
    ----------
    comm
        Of workers and servers; nobody else sends messages of tag 1.
    workers
        Their ranks; here they are counted from 0 in this order.
    numbers
        How many each worker sends, and how many it gets back.
    received, replied
        What each worker fills besides, and what it gets: the caller's, the latter not to be written before `finish`.
        Empty ones are not sent.
    waiting
        Called again and again while this rank waits; what it raises ends the wait.
    """

    def __init__(
        self,
        comm: Comm,
        workers: Sequence[int],
        numbers: tuple[int, int],
        received: Sequence[np.ndarray],
        replied: Sequence[np.ndarray],
        waiting: Callable[[], None],
    ) -> None:
        count = len(workers)
        #: What came, with a row for each worker.
        self.numbers, self._replies = np.zeros((count, numbers[0])), np.zeros((count, numbers[1]))
        rows = zip(workers, self.numbers, received, self._replies, replied, strict=True)
        self._in, self._out = [], []
        for worker, said, came, reply, answer in rows:
            self._in.append(_Letter(comm, worker, said, came, sends=False))
            self._out.append(_Letter(comm, worker, reply, answer, sends=True))
        self._requests = [request for letter in self._in for request in letter.requests]
        self._sender = [worker for worker, letter in enumerate(self._in) for _ in letter.requests]
        self._missing = [len(letter.requests) for letter in self._in]
        self._some, self._waiting = start_mpi().Request.Testsome, waiting

    def expect(self, worker: int) -> None:
        """Be ready for the next letter of `worker`; what came with the last one will be overwritten."""
        if not self._in[worker].flying:
            self._missing[worker] = len(self._in[worker].requests)
            self._in[worker].start()

    def wait(self) -> list[int]:
        """Wait until letters are complete; return whose, in ascending order."""
        began = perf_counter()
        while not (whose := self._arrived()):
            self._waiting()
            sleep(min(_LONGEST_PAUSE_S, max(_SHORTEST_PAUSE_S, (perf_counter() - began) / 8)))
        return whose

    def _arrived(self) -> list[int]:
        for index in self._some(self._requests) or []:
            self._missing[self._sender[index]] -= 1
        whose = [worker for worker, letter in enumerate(self._in) if letter.flying and not self._missing[worker]]
        for worker in whose:
            self._in[worker].flying = False
        return whose

    def reply(self, worker: int, *numbers: float) -> None:
        """Begin to send `worker` its reply; it has the one before, for it has sent a letter since."""
        _finish([self._out[worker]])
        self._replies[worker] = numbers
        self._out[worker].start()

    def finish(self) -> None:
        """Wait until all replies are taken."""
        _finish(self._out)

    def close(self) -> None:
        """Give back what MPI holds; letters that were expected in vain are not any longer."""
        for letter, missing in zip(self._in, self._missing, strict=True):
            if letter.flying and missing == len(letter.requests):
                for request in letter.requests:
                    request.Cancel()
                letter.flying = False
        for letter in (*self._in, *self._out):
            letter.close()

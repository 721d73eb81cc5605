"""Persistent message channels between two groups of ranks: a header and a vector in each direction, again and again.

Each rank of one group has an `Endpoint` with a channel to every rank of the other group, and one back.  Buffers and
requests are made once; nothing here knows what headers mean.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter, sleep

import numpy as np

from onotrain.parallel.collectives import chunks
from onotrain.parallel.world import Comm, start_mpi

_TAG = 1
#: So long a rank that waits looks again at once, and only lets others go first: the shortest sleep takes as long [s].
BUSY_S = 100e-6
#: Then it looks again after an eighth of the time that it has waited, within these bounds [s]: it is a little
#: late, and leaves the core to others.  To sleep and look costs up to 0.4 ms of a virtual machine's core, which has
#: gone to sleep meanwhile, so that pauses of 4 ms would take a tenth of it.  A part of a message begins the wait anew:
#: the rest of it comes only as fast as somebody looks.
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 50e-6, 10e-3


class Channel:
    """Header and vector in one direction between two ranks; they must not be touched while it is `active`.

    Parameters
    ----------
    comm
        Nobody else sends messages of tag 1 in it.
    peer
        The other rank.
    header
        Of fixed length, contiguous; sent as bytes.
    vector
        The caller's; an empty one is not sent.
    sends
        Whether this rank is the sender.
    """

    def __init__(self, comm: Comm, peer: int, header: np.ndarray, vector: np.ndarray, *, sends: bool) -> None:
        make = comm.Send_init if sends else comm.Recv_init
        self.requests = [make(part, peer, _TAG) for part in (header, *chunks(vector))]
        self.active, self._wait_all = False, start_mpi().Request.Waitall

    def start(self) -> None:
        """Begin.  One by one: messages of one tag are matched in their order, which MPI_Startall need not keep."""
        for request in self.requests:
            request.Start()
        self.active = True

    def finish(self) -> None:
        """Wait until its messages have arrived, or are sent; nothing if it is not active."""
        if self.active:
            self._wait_all(self.requests)
            self.active = False

    def close(self) -> None:
        """Give back what MPI holds for it; nothing while it is active, as when the job fails."""
        if not self.active:
            for request in self.requests:
                request.Free()
            self.requests = []


def finish(channels: Iterable[Channel]) -> None:
    """Wait until the messages of these channels have arrived, or are sent."""
    active = [channel for channel in channels if channel.active]
    if active:
        start_mpi().Request.Waitall([request for channel in active for request in channel.requests])
    for channel in active:
        channel.active = False


class Endpoint:
    """Channels to and from each of some peers.

    Parameters
    ----------
    comm
        As of `Channel`.
    peers
        Their ranks; in everything here they are counted from 0 in this order.
    sent, received
        Structured dtype of the headers, and vectors, one for each peer: the caller's.
    """

    def __init__(
        self,
        comm: Comm,
        peers: Sequence[int],
        sent: tuple[np.dtype, Sequence[np.ndarray]],
        received: tuple[np.dtype, Sequence[np.ndarray]],
    ) -> None:
        #: Headers, one for each peer.
        self.sent, self.received = np.zeros(len(peers), sent[0]), np.zeros(len(peers), received[0])
        self.incoming = [
            Channel(comm, peer, header, vector, sends=False)
            for peer, header, vector in zip(peers, _as_bytes(self.received), received[1], strict=True)
        ]
        self.outgoing = [
            Channel(comm, peer, header, vector, sends=True)
            for peer, header, vector in zip(peers, _as_bytes(self.sent), sent[1], strict=True)
        ]
        self._sends = [request for each in self.outgoing for request in each.requests]
        self._test_all = start_mpi().Request.Testall

    def all_sent(self) -> bool:
        """Return whether all that was begun is sent, without waiting."""
        return bool(self._test_all(self._sends))

    def close(self) -> None:
        """Give back what MPI holds."""
        for channel in (*self.incoming, *self.outgoing):
            channel.close()


class Arrivals:
    """Messages that come in any order; whoever waits long for one sleeps between looks.

    Parameters
    ----------
    channels
        Incoming ones; in everything here they are counted from 0.
    while_waiting
        Called between looks; what it raises ends the wait.
    waits
        1 while nothing has come, int64 ``(1,)``, for others to see.
    now, let_go, sleep
        Time source, how to let others have the core for a moment, and how to sleep [s].
    """

    def __init__(
        self,
        channels: Sequence[Channel],
        while_waiting: Callable[[], None],
        waits: np.ndarray,
        now: Callable[[], float] = perf_counter,
        let_go: Callable[[], None] = getattr(os, "sched_yield", lambda: None),  # noqa: B008 - macOS has none
        sleep: Callable[[float], None] = sleep,
    ) -> None:
        self._channels, self._while_waiting, self._waits = channels, while_waiting, waits
        self._now, self._let_go, self._sleep = now, let_go, sleep
        self._requests = [request for channel in channels for request in channel.requests]
        #: The channel of each request, and how many of its requests are not complete.
        self._channel_of = [index for index, channel in enumerate(channels) for _ in channel.requests]
        self._missing = [len(channel.requests) for channel in channels]
        #: Whether the last look has found a part of any message.
        self._moved = False
        self._test_some = start_mpi().Request.Testsome

    def expect(self, index: int) -> None:
        """Be ready for the next message of a channel; the last one will be overwritten."""
        channel = self._channels[index]
        if not channel.active:
            self._missing[index] = len(channel.requests)
            channel.start()

    def wait(self) -> list[int]:
        """Wait until messages are complete; return of which channels, in ascending order."""
        began = self._now()
        while not (complete := self._complete()):
            self._waits[0] = 1
            self._while_waiting()
            now = self._now()
            if self._moved:
                began = now
            waited = now - began
            if waited < BUSY_S:
                self._let_go()
            else:
                self._sleep(min(LONGEST_PAUSE_S, max(SHORTEST_PAUSE_S, waited / 8)))
        self._waits[0] = 0
        return complete

    def _complete(self) -> list[int]:
        complete, ended = [], self._test_some(self._requests) or ()
        self._moved = bool(ended)
        for request in ended:
            index = self._channel_of[request]
            self._missing[index] -= 1
            if not self._missing[index]:
                self._channels[index].active = False
                complete.append(index)
        return sorted(complete)

    def cancel(self) -> None:
        """Expect no longer what has not begun to come."""
        for channel, missing in zip(self._channels, self._missing, strict=True):
            if channel.active and missing == len(channel.requests):
                for request in channel.requests:
                    request.Cancel()
                channel.active = False


def _as_bytes(records: np.ndarray) -> np.ndarray:
    """Return records as uint8 in the same memory, a row for each."""
    return records.view(np.uint8).reshape(len(records), -1)

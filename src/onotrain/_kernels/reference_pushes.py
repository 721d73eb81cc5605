"""Discrete events of servers whose workers do not wait for each other: the reference implementation.

A worker computes; what it pushes goes through the link of its node, the link of its group, and that of the servers,
which take pushes one after the other; the reply goes back the same.  Links of nodes and groups carry first who comes
first.  The servers' link is shared by all that is under way, as flows of TCP share it, in each direction; all messages
are of one size, so they end in the order in which they begin (processor sharing).  What passes several links travels on
while it is sent.  A push behind which the worker would be more than `bound` ahead of the slowest one gets its reply
when that has caught up.  With `overlap` the worker computes on while a push is under way, and waits for its reply
before it pushes again.  The last push gets no reply.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable

import numpy as np

_ARRIVE, _FINISH, _REPLY, _LEAVE, _KINDS = 0, 1, 2, 3, 4


class SharedLink:
    """A link of which all messages under way have equal parts, but none more than its own link carries.

    Parameters
    ----------
    seconds
        What a message takes that is alone [s].
    own
        What it takes of its own link, at least [s].
    """

    def __init__(self, seconds: float, own: float) -> None:
        self._seconds, self._most = seconds, 1.0 if own <= seconds else seconds / own
        self._served = self._at = 0.0
        self._queue: deque[tuple[float, int]] = deque()
        #: When the first message ends, if no other one begins before.
        self.next_end = math.inf

    def begin(self, worker: int, now: float) -> None:
        """Let the message of a worker begin."""
        self._advance(now)
        self._queue.append((self._served + self._seconds, worker))
        self._plan(now)

    def end(self, now: float) -> int:
        """End the first message; return whose it is."""
        self._advance(now)
        worker = self._queue.popleft()[1]
        self._plan(now)
        return worker

    def _rate(self) -> float:
        return min(self._most, 1.0 / len(self._queue))

    def _advance(self, now: float) -> None:
        if self._queue:
            self._served += (now - self._at) * self._rate()
        self._at = now

    def _plan(self, now: float) -> None:
        left = self._queue[0][0] - self._served if self._queue else math.inf
        self.next_end = now + max(left, 0.0) / self._rate() if self._queue else math.inf


class Pushes:
    """A number of pushes of some workers to servers, all of which have the same load, so that one stands for all.

    Parameters
    ----------
    computing
        What each worker computes before each push ``(pushes, workers)`` [s], float64.
    start
        When each worker begins [s], float64.
    node, group, local
        Of each worker: its node and its group, int64, and whether it shares memory with the servers, uint8.
    nodes
        Their number.
    group_seconds
        What a push and a reply take of the link of each group ``(2, groups)`` [s].
    link, server_link
        What they take of a node's link, and of the servers', in each direction [s].
    apply
        What a push takes the servers [s].
    latency
        Of a message between nodes [s].
    bound
        Pushes that a worker may be ahead of the slowest one; negative: any number.
    overlap
        Whether workers compute on while a push is under way.
    cores
        That all workers share; 0: each has its own.
    compute, wait, end
        Out, of each worker: seconds of computing, seconds in which servers held its replies back, and when its last
        push has left [s].
    histogram
        Gets the number of pushes of each staleness added; the last entry counts all larger ones.
    """

    def __init__(
        self, computing: np.ndarray, start: np.ndarray, node: np.ndarray, group: np.ndarray, local: np.ndarray,
        nodes: int, group_seconds: np.ndarray, link: float, server_link: float, apply: float, latency: float,
        bound: int, overlap: bool, cores: float, compute: np.ndarray, wait: np.ndarray, end: np.ndarray,
        histogram: np.ndarray,
    ) -> None:  # fmt: skip
        pushes, workers = computing.shape
        self._pushes, self._workers, self._start = pushes, workers, start.tolist()
        self._computing, self._node, self._group = computing.tolist(), node.tolist(), group.tolist()
        self._local, self._group_seconds = local.tolist(), group_seconds.tolist()
        self._link, self._apply, self._latency = link, apply, latency
        self._bound, self._overlap, self._cores = bound, overlap, cores
        self._compute, self._wait, self._end, self._histogram = compute, wait, end, histogram
        compute[:], wait[:], end[:] = 0.0, 0.0, 0.0
        self._cpu_free = 0.0
        self._incoming, self._outgoing = (SharedLink(server_link, link) for _ in range(2))
        self._version = self._slowest = self._active = 0
        self._up_free, self._down_free = [0.0] * nodes, [0.0] * nodes
        self._group_free = [[0.0] * len(each) for each in self._group_seconds]
        self._leaves, self._parked_at = [0.0] * workers, [0.0] * workers
        self._begun, self._clock, self._known, self._used, self._flying = ([0] * workers for _ in range(5))
        self._at_clock = [workers, *[0] * pushes]
        self._parked: list[list[int]] = [[] for _ in range(pushes + 1)]
        self._outstanding, self._waiting = [False] * workers, [False] * workers
        self._heap: list[tuple[float, int]] = []

    def run(self) -> float:
        """Let all workers make all pushes; return when the servers have taken the last one [s]."""
        handlers: dict[int, Callable[[int, float], None]] = {
            _ARRIVE: self._incoming.begin, _FINISH: self._finish, _REPLY: self._replied, _LEAVE: self._outgoing.begin
        }  # fmt: skip
        for worker in range(self._workers):
            self._begin(worker, self._start[worker])
        while True:
            first = self._heap[0][0] if self._heap else math.inf
            taken, sent = self._incoming.next_end, self._outgoing.next_end
            if min(first, taken, sent) == math.inf:
                return self._cpu_free
            if taken <= min(first, sent):
                self._take(self._incoming.end(taken), taken)
            elif sent <= first:
                self._sent(self._outgoing.end(sent), sent)
            else:
                now, item = heapq.heappop(self._heap)
                handlers[item % _KINDS](item // _KINDS, now)

    def _add(self, time: float, worker: int, kind: int) -> None:
        heapq.heappush(self._heap, (time, worker * _KINDS + kind))

    def _begin(self, worker: int, now: float) -> None:
        if self._begun[worker] == self._pushes:
            return
        self._active += 1
        seconds = self._computing[self._begun[worker]][worker]
        if self._cores > 0.0 and self._active > self._cores:
            seconds *= self._active / self._cores
        self._begun[worker] += 1
        self._used[worker] = self._known[worker]
        self._compute[worker] += seconds
        self._add(now + seconds, worker, _FINISH)

    def _finish(self, worker: int, now: float) -> None:
        self._active -= 1
        if self._overlap and self._outstanding[worker]:
            self._waiting[worker] = True
        else:
            self._push(worker, now)

    def _push(self, worker: int, now: float) -> None:
        node, group = self._node[worker], self._group[worker]
        self._flying[worker] = self._used[worker]
        self._outstanding[worker] = True
        if not self._local[worker]:
            start = max(now, self._up_free[node])
            self._up_free[node] = start + self._link
            enters = max(start, self._group_free[0][group])
            self._group_free[0][group] = enters + self._group_seconds[0][group]
            leaves = max(self._up_free[node], self._group_free[0][group]) + self._latency
            start = enters + self._latency
            self._leaves[worker] = self._end[worker] = leaves
            self._add(start, worker, _ARRIVE)
        else:
            self._leaves[worker] = self._end[worker] = now
            self._take(worker, now)
        if self._overlap:
            self._begin(worker, now)

    def _take(self, worker: int, now: float) -> None:
        self._end[worker] = max(now, self._leaves[worker])
        self._cpu_free = max(self._end[worker], self._cpu_free) + self._apply
        staleness = self._version - self._flying[worker]
        self._histogram[min(staleness, len(self._histogram) - 1)] += 1
        self._version += 1
        self._at_clock[self._clock[worker]] -= 1
        self._clock[worker] += 1
        clock = self._clock[worker]
        self._at_clock[clock] += 1
        if clock < self._pushes:
            if 0 <= self._bound < clock - self._slowest:
                self._parked_at[worker] = self._cpu_free
                self._parked[clock].append(worker)
            else:
                self._reply(worker, self._cpu_free)
        while self._slowest < self._pushes and not self._at_clock[self._slowest]:
            self._slowest += 1
            if self._bound >= 0 and self._slowest + self._bound < self._pushes:
                self._release(self._slowest + self._bound, self._cpu_free)

    def _release(self, clock: int, now: float) -> None:
        released, self._parked[clock] = self._parked[clock], []
        for worker in released:
            self._wait[worker] += now - self._parked_at[worker]
            self._reply(worker, now)

    def _reply(self, worker: int, now: float) -> None:
        self._known[worker] = self._version
        if self._local[worker]:
            self._add(now, worker, _REPLY)
            return
        group = self._group[worker]
        enters = max(now, self._group_free[1][group])
        self._group_free[1][group] = self._leaves[worker] = enters + self._group_seconds[1][group]
        self._add(enters, worker, _LEAVE)

    def _sent(self, worker: int, now: float) -> None:
        node = self._node[worker]
        now = max(now, self._leaves[worker]) + self._latency
        self._down_free[node] = max(now, self._down_free[node] + self._link)
        self._add(self._down_free[node], worker, _REPLY)

    def _replied(self, worker: int, now: float) -> None:
        self._outstanding[worker] = False
        if not self._overlap:
            self._begin(worker, now)
        elif self._waiting[worker]:
            self._waiting[worker] = False
            self._push(worker, now)

"""Discrete events of servers whose workers do not wait for each other: `reference_pushes` says what they are.

Times are float64 [s].  Events are taken in the order of their times; of equal times, those of the servers' link first,
then all others in the order of their numbers, so that compiled code and the reference implementation agree to the bit.

Dimensions: W workers, P pushes of each, N nodes, G groups, S kinds of staleness that are told apart.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint8_t

import numpy as np

from onotrain._kernels.arrays cimport expect

cdef enum:
    ARRIVE = 0      # a push reaches the servers' link
    FINISH = 1      # a worker has computed what it pushes
    REPLY = 2       # parameters reach a worker
    LEAVE = 3       # a reply is put into the servers' link
    KINDS = 4


cdef class SharedLink:
    """A link of which all messages under way have equal parts; at most one of each worker, in a ring of them."""

    cdef double seconds, most, served, at, next_end
    cdef double[::1] ends
    cdef int64_t[::1] workers
    cdef int64_t first, count

    def __init__(self, double seconds, double own, Py_ssize_t workers):
        self.seconds, self.most = seconds, 1.0 if own <= seconds else seconds / own
        self.served, self.at, self.next_end = 0.0, 0.0, INFINITY
        self.ends, self.workers = np.zeros(workers), np.zeros(workers, np.int64)
        self.first, self.count = 0, 0

    cdef void begin(self, int64_t worker, double now) noexcept nogil:
        cdef int64_t place
        self.advance(now)
        place = (self.first + self.count) % self.ends.shape[0]
        self.ends[place], self.workers[place] = self.served + self.seconds, worker
        self.count += 1
        self.plan(now)

    cdef int64_t end(self, double now) noexcept nogil:
        cdef int64_t worker = self.workers[self.first]
        self.advance(now)
        self.first = (self.first + 1) % self.ends.shape[0]
        self.count -= 1
        self.plan(now)
        return worker

    cdef double rate(self) noexcept nogil:
        return min(self.most, 1.0 / self.count)

    cdef void advance(self, double now) noexcept nogil:
        if self.count:
            self.served += (now - self.at) * self.rate()
        self.at = now

    cdef void plan(self, double now) noexcept nogil:
        self.next_end = INFINITY
        if self.count:
            self.next_end = now + max(self.ends[self.first] - self.served, 0.0) / self.rate()


cdef class Pushes:
    cdef const double[:, ::1] computing
    cdef const double[::1] start
    cdef const int64_t[::1] node
    cdef const int64_t[::1] group
    cdef const uint8_t[::1] local
    cdef const double[:, ::1] group_seconds
    cdef SharedLink incoming, outgoing
    cdef double link, apply, latency, cores, cpu_free
    cdef int64_t bound, version, slowest, active, events
    cdef bint overlap
    cdef double[::1] compute, wait, end, up_free, down_free, leaves, parked_at, heap_time
    cdef double[:, ::1] group_free
    cdef int64_t[::1] histogram, begun, clock, known, used, flying, at_clock, first, last, following, heap_item
    cdef uint8_t[::1] outstanding, waiting

    def __init__(
        self,
        const double[:, ::1] computing not None,        # IN  (P, W)
        const double[::1] start not None,               # IN  (W,)
        const int64_t[::1] node not None,               # IN  (W,)    below N
        const int64_t[::1] group not None,              # IN  (W,)    below G
        const uint8_t[::1] local not None,              # IN  (W,)
        Py_ssize_t nodes,
        const double[:, ::1] group_seconds not None,    # IN  (2, G)
        double link,
        double server_link,
        double apply,
        double latency,
        int64_t bound,
        bint overlap,
        double cores,
        double[::1] compute not None,                   # OUT (W,)
        double[::1] wait not None,                      # OUT (W,)
        double[::1] end not None,                       # OUT (W,)
        int64_t[::1] histogram not None,                # IN, OUT (S,)
    ):
        cdef Py_ssize_t pushes = computing.shape[0], workers = computing.shape[1], groups = group_seconds.shape[1]
        for name, array in (("start", start), ("node", node), ("group", group), ("local", local), ("compute", compute),
                            ("wait", wait), ("end", end)):
            expect(name, array.shape[0], workers)
        expect("rows of group_seconds", group_seconds.shape[0], 2)
        if not workers or not pushes or not histogram.shape[0]:
            raise ValueError("expected at least one worker, one push and one kind of staleness")
        if np.min(node) < 0 or np.max(node) >= nodes or np.min(group) < 0 or np.max(group) >= groups:
            raise ValueError(f"expected nodes below {nodes} and groups below {groups}")
        self.computing, self.start, self.node, self.group, self.local = computing, start, node, group, local
        self.group_seconds, self.link = group_seconds, link
        self.incoming = SharedLink(server_link, link, workers)
        self.outgoing = SharedLink(server_link, link, workers)
        self.apply, self.latency, self.bound, self.overlap, self.cores = apply, latency, bound, overlap, cores
        self.compute, self.wait, self.end, self.histogram = compute, wait, end, histogram
        self.cpu_free = 0.0
        self.version = self.slowest = self.active = self.events = 0
        self.up_free, self.down_free = np.zeros(nodes), np.zeros(nodes)
        self.group_free = np.zeros((2, groups))
        self.leaves, self.parked_at = np.zeros((2, workers))
        self.begun, self.clock, self.known, self.used, self.flying = np.zeros((5, workers), np.int64)
        self.following = np.zeros(workers, np.int64)
        self.at_clock = np.zeros(pushes + 1, np.int64)
        self.first, self.last = np.full((2, pushes + 1), -1, np.int64)
        self.outstanding, self.waiting = np.zeros((2, workers), np.uint8)
        self.heap_time, self.heap_item = np.zeros(2 * workers + 1), np.zeros(2 * workers + 1, np.int64)
        self.at_clock[0] = workers
        compute[:], wait[:], end[:] = 0.0, 0.0, 0.0

    def run(self):
        """Let all workers make all pushes; return when the servers have taken the last one [s]."""
        with nogil:
            self._run()
        return self.cpu_free

    cdef void _run(self) noexcept nogil:
        cdef int64_t worker, item
        cdef double now, taken, sent
        for worker in range(self.computing.shape[1]):
            self._begin(worker, self.start[worker])
        while True:
            now = self.heap_time[0] if self.events else INFINITY
            taken, sent = self.incoming.next_end, self.outgoing.next_end
            if taken == INFINITY and sent == INFINITY and now == INFINITY:
                return
            if taken <= now and taken <= sent:
                self._take(self.incoming.end(taken), taken)
            elif sent <= now:
                self._sent(self.outgoing.end(sent), sent)
            else:
                item = self.heap_item[0]
                self._drop()
                self._handle(item % KINDS, item // KINDS, now)

    cdef void _handle(self, int64_t kind, int64_t worker, double now) noexcept nogil:
        if kind == ARRIVE:
            self.incoming.begin(worker, now)
        elif kind == FINISH:
            self._finish(worker, now)
        elif kind == REPLY:
            self._replied(worker, now)
        else:
            self.outgoing.begin(worker, now)

    cdef void _begin(self, int64_t worker, double now) noexcept nogil:
        cdef double seconds
        if self.begun[worker] == self.computing.shape[0]:
            return
        self.active += 1
        seconds = self.computing[self.begun[worker], worker]
        if self.cores > 0.0 and self.active > self.cores:
            seconds *= self.active / self.cores
        self.begun[worker] += 1
        self.used[worker] = self.known[worker]
        self.compute[worker] += seconds
        self._add(now + seconds, worker, FINISH)

    cdef void _finish(self, int64_t worker, double now) noexcept nogil:
        self.active -= 1
        if self.overlap and self.outstanding[worker]:
            self.waiting[worker] = 1
        else:
            self._push(worker, now)

    cdef void _push(self, int64_t worker, double now) noexcept nogil:
        cdef double start, enters
        cdef int64_t node = self.node[worker], group = self.group[worker]
        self.flying[worker] = self.used[worker]
        self.outstanding[worker] = 1
        if not self.local[worker]:
            start = max(now, self.up_free[node])
            self.up_free[node] = start + self.link
            enters = max(start, self.group_free[0, group])
            self.group_free[0, group] = enters + self.group_seconds[0, group]
            self.leaves[worker] = max(self.up_free[node], self.group_free[0, group]) + self.latency
            self.end[worker] = self.leaves[worker]
            self._add(enters + self.latency, worker, ARRIVE)
        else:
            self.leaves[worker] = self.end[worker] = now
            self._take(worker, now)
        if self.overlap:
            self._begin(worker, now)

    cdef void _take(self, int64_t worker, double now) noexcept nogil:
        cdef int64_t staleness
        self.end[worker] = max(now, self.leaves[worker])
        self.cpu_free = max(self.end[worker], self.cpu_free) + self.apply
        staleness = self.version - self.flying[worker]
        self.histogram[min(staleness, self.histogram.shape[0] - 1)] += 1
        self.version += 1
        self.at_clock[self.clock[worker]] -= 1
        self.clock[worker] += 1
        self.at_clock[self.clock[worker]] += 1
        if self.clock[worker] < self.computing.shape[0]:
            if self.bound >= 0 and self.clock[worker] - self.slowest > self.bound:
                self._park(worker, self.cpu_free)
            else:
                self._reply(worker, self.cpu_free)
        while self.slowest < self.computing.shape[0] and not self.at_clock[self.slowest]:
            self.slowest += 1
            if self.bound >= 0 and self.slowest + self.bound < self.computing.shape[0]:
                self._release(self.slowest + self.bound, self.cpu_free)

    cdef void _park(self, int64_t worker, double now) noexcept nogil:
        cdef int64_t clock = self.clock[worker]
        self.parked_at[worker], self.following[worker] = now, -1
        if self.first[clock] < 0:
            self.first[clock] = worker
        else:
            self.following[self.last[clock]] = worker
        self.last[clock] = worker

    cdef void _release(self, int64_t clock, double now) noexcept nogil:
        cdef int64_t worker = self.first[clock]
        self.first[clock] = -1
        while worker >= 0:
            self.wait[worker] += now - self.parked_at[worker]
            self._reply(worker, now)
            worker = self.following[worker]

    cdef void _reply(self, int64_t worker, double now) noexcept nogil:
        cdef double enters
        cdef int64_t group = self.group[worker]
        self.known[worker] = self.version
        if self.local[worker]:
            self._add(now, worker, REPLY)
            return
        enters = max(now, self.group_free[1, group])
        self.group_free[1, group] = self.leaves[worker] = enters + self.group_seconds[1, group]
        self._add(enters, worker, LEAVE)

    cdef void _sent(self, int64_t worker, double now) noexcept nogil:
        cdef int64_t node = self.node[worker]
        now = max(now, self.leaves[worker]) + self.latency
        self.down_free[node] = max(now, self.down_free[node] + self.link)
        self._add(self.down_free[node], worker, REPLY)

    cdef void _replied(self, int64_t worker, double now) noexcept nogil:
        self.outstanding[worker] = 0
        if not self.overlap:
            self._begin(worker, now)
        elif self.waiting[worker]:
            self.waiting[worker] = 0
            self._push(worker, now)

    cdef void _add(self, double time, int64_t worker, int64_t kind) noexcept nogil:
        """Put an event into the heap."""
        cdef int64_t place = self.events, parent, item = worker * KINDS + kind
        self.events += 1
        while place:
            parent = (place - 1) // 2
            if not before(time, item, self.heap_time[parent], self.heap_item[parent]):
                break
            self.heap_time[place], self.heap_item[place] = self.heap_time[parent], self.heap_item[parent]
            place = parent
        self.heap_time[place], self.heap_item[place] = time, item

    cdef void _drop(self) noexcept nogil:
        """Take the first event out of the heap."""
        cdef int64_t place = 0, child, item
        cdef double time
        self.events -= 1
        time, item = self.heap_time[self.events], self.heap_item[self.events]
        while True:
            child = 2 * place + 1
            if child >= self.events:
                break
            if child + 1 < self.events and before(
                self.heap_time[child + 1], self.heap_item[child + 1], self.heap_time[child], self.heap_item[child]
            ):
                child += 1
            if before(time, item, self.heap_time[child], self.heap_item[child]):
                break
            self.heap_time[place], self.heap_item[place] = self.heap_time[child], self.heap_item[child]
            place = child
        self.heap_time[place], self.heap_item[place] = time, item


cdef inline bint before(double time, int64_t item, double other_time, int64_t other_item) noexcept nogil:
    return time < other_time or (time == other_time and item < other_item)

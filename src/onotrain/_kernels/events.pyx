"""What a rank did, and when: a buffer that is written without the GIL, and never grows."""

import numpy as np

from onotrain._kernels.clock cimport clock_seconds
from onotrain._kernels.recording import EVENT


cdef class Events:
    """Events of this rank, in the order in which they ended.

    Parameters
    ----------
    capacity
        Most events; later ones are only counted.

    Attributes
    ----------
    array
        dtype `onotrain._kernels.recording.EVENT`; the first `count` are there.
    labels
        What each label stands for: any object.
    missed
        Events for which there was no place.
    on
        Whether what happens is put down.
    """

    def __init__(self, Py_ssize_t capacity):
        self.array = np.zeros(capacity, EVENT)  # pages come with the first event in them
        cdef char[::1] memory = self.array.view(np.int8)
        if self.array.itemsize != sizeof(Event) or capacity < 1:
            raise ValueError(f"capacity: got {capacity}, expected 1 or more")
        self.events, self.capacity = <Event*> &memory[0], capacity
        self.labels, self.numbers = [], {}

    cdef void put(
        self, int32_t label, int64_t begin, int64_t end, int64_t number, int64_t nbytes, int32_t peer
    ) noexcept nogil:
        """Put down an event; begin and end in nanoseconds."""
        if self.count < self.capacity:
            self.events[self.count] = Event(begin, end - begin, number, nbytes, label, peer)
            self.count += 1
        else:
            self.missed += 1

    def now(self):
        """Return the time of their clock [s]."""
        return clock_seconds()

    def label(self, what):
        """Return the number of a label, which is any object that can be a key."""
        if what not in self.numbers:
            self.numbers[what] = len(self.labels)
            self.labels.append(what)
        return self.numbers[what]

    def add(self, what, double begin, double end, int64_t number=-1, int64_t nbytes=0, int32_t peer=-1):
        """Put down an event, if it is on.

        Parameters
        ----------
        what
            See `label`.
        begin, end
            Times of `now` [s].
        number, nbytes, peer
            Of the step or message, its size [bytes], and the rank at its other end.
        """
        if self.on:
            self.put(self.label(what), <int64_t> (begin * 1e9), <int64_t> (end * 1e9), number, nbytes, peer)

    def clear(self):
        """Forget all events."""
        self.count, self.missed = 0, 0

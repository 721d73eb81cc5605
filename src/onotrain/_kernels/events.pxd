"""What a rank did, and when: a buffer that is written without the GIL, and never grows."""

from libc.stdint cimport int32_t, int64_t

cdef struct Event:
    int64_t begin           # of this rank's clock [ns]
    int64_t duration        # [ns]
    int64_t number          # of the step or message; -1: none
    int64_t nbytes          # of a message
    int32_t label           # what it was
    int32_t peer            # rank at the other end; -1: none


cdef class Events:
    cdef readonly object array
    cdef readonly list labels
    cdef readonly Py_ssize_t count
    cdef readonly long long missed
    cdef public bint on
    cdef dict numbers
    cdef Event* events
    cdef Py_ssize_t capacity

    cdef void put(
        self, int32_t label, int64_t begin, int64_t end, int64_t number, int64_t nbytes, int32_t peer
    ) noexcept nogil

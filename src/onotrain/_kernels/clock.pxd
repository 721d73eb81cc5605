"""The clock that does not go back."""

from libc.stdint cimport int64_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec


cdef inline int64_t clock_nanoseconds() noexcept nogil:
    """Nanoseconds since some moment in the past, the same for all processes of a node."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t> now.tv_sec * 1000000000 + now.tv_nsec


cdef inline double clock_seconds() noexcept nogil:
    """The same in seconds."""
    return clock_nanoseconds() * 1e-9

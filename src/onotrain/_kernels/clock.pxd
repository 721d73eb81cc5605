"""The clock that does not go back."""

from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec


cdef inline double clock_seconds() noexcept nogil:
    """Seconds since some moment in the past, the same for all processes of a node."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9

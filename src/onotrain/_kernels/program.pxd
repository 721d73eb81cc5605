"""Kernels whose arguments are checked and kept, to be run later, and many times, without the GIL."""

cdef struct Moment:
    # What changes from one run of a program to the next.
    long long step          # optimiser step, counted from 0
    long long first_row     # row of the global batch at which this rank's rows begin
    double weight           # 1 / samples of the global batch

#: Runs on the arguments that were kept: `x`, an array, gives its dtype.  Returns 0, or not 0 if a value is wrong.
ctypedef int (*Kernel)(const void* x, const void* arguments, const Moment* now) noexcept nogil


cdef class Call:
    cdef Kernel kernel
    cdef const void* x
    cdef void* arguments
    cdef tuple kept         # arrays that the arguments point to
    cdef str complaint      # what a result other than 0 means


cdef Call recorded(Kernel kernel, const void* x, const void* arguments, size_t nbytes, tuple kept, str complaint)

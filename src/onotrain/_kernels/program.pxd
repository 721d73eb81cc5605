"""Kernels whose arguments are checked and kept, to be run later, and many times, without the GIL."""

cdef struct Moment:
    # What changes from one step to the next.
    long long step          # optimiser step, counted from 0
    long long position      # of the epoch, at which the global batch begins
    long long index         # number of the step among those of the run, counted from 0
    bint late               # whether the time of the run is over

cdef enum:
    # What a kernel returns.
    GO_ON = 0
    WRONG_VALUE = 1
    LAST_STEP = 2           # the run ends after this step
    RAISED = -1             # a Python exception is set

#: Runs on the arguments that were kept: `x`, an array, gives its dtype.
ctypedef int (*Kernel)(const void* x, const void* arguments, const Moment* now) noexcept nogil


cdef class Call:
    cdef Kernel kernel
    cdef const void* x
    cdef void* arguments
    cdef tuple kept         # arrays that the arguments point to
    cdef str complaint      # what a wrong value means
    cdef public str name    # of the kernel
    cdef public object place    # where in a step it belongs (`onotrain._kernels.recording.Place`)


cdef Call recorded(Kernel kernel, const void* x, const void* arguments, size_t nbytes, tuple kept, str complaint)
cdef Moment at_step(long long step) noexcept nogil

"""Programs: calls of kernels that were checked once, run one after the other in C."""

from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport INFINITY
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from onotrain._kernels.clock cimport clock_seconds


cdef class Call:
    """One kernel with its arguments; made by a kernel that is called with ``record=True``."""

    def __dealloc__(self):
        free(self.arguments)


cdef Call recorded(Kernel kernel, const void* x, const void* arguments, size_t nbytes, tuple kept, str complaint):
    """Return a call with a copy of its `nbytes` of arguments."""
    cdef Call call = Call.__new__(Call)
    call.arguments = malloc(nbytes)
    if call.arguments == NULL:
        raise MemoryError
    memcpy(call.arguments, arguments, nbytes)
    call.kernel, call.x, call.kept, call.complaint = kernel, x, kept, complaint
    return call


cdef Moment at_step(long long step) noexcept nogil:
    """Return the moment of a kernel that is not recorded but run at once."""
    return Moment(step, 0, 0, False)


cdef class _Segment:
    """Calls without Python between them."""

    cdef list calls
    cdef Py_ssize_t count
    cdef Kernel* kernels
    cdef const void** x
    cdef const void** arguments
    cdef double* seconds        # that each call has taken; NULL if nobody wants to know

    def __cinit__(self, list calls, bint timed):
        cdef Py_ssize_t n
        cdef Call call
        self.calls, self.count = calls, len(calls)
        self.kernels = <Kernel*> malloc(self.count * sizeof(Kernel))
        self.x = <const void**> malloc(self.count * sizeof(void*))
        self.arguments = <const void**> malloc(self.count * sizeof(void*))
        if self.kernels == NULL or self.x == NULL or self.arguments == NULL:
            raise MemoryError
        if timed:
            self.seconds = <double*> calloc(self.count, sizeof(double))
            if self.seconds == NULL:
                raise MemoryError
        for n in range(self.count):
            call = calls[n]
            self.kernels[n], self.x[n], self.arguments[n] = call.kernel, call.x, call.arguments

    def __dealloc__(self):
        free(self.kernels)
        free(self.x)
        free(self.arguments)
        free(self.seconds)

    cdef int run(self, const Moment* now) except RAISED:
        """Run all calls; return whether one of them says that this is the last step."""
        cdef Py_ssize_t n
        cdef int said, last = GO_ON
        cdef double began = 0
        with nogil:
            for n in range(self.count):
                if self.seconds != NULL:
                    began = clock_seconds()
                said = self.kernels[n](self.x[n], self.arguments[n], now)
                if self.seconds != NULL:
                    self.seconds[n] += clock_seconds() - began
                if said == LAST_STEP:
                    last = LAST_STEP
                elif said != GO_ON:
                    break
            else:
                said = GO_ON
        if said == WRONG_VALUE:
            raise IndexError((<Call> self.calls[n]).complaint)
        return RAISED if said == RAISED else last

    cdef report(self, observe):
        """Tell how long each call took since the last report."""
        cdef Py_ssize_t n
        for n in range(self.count):
            if (<Call> self.calls[n]).name is not None:  # a barrier measures itself
                observe((<Call> self.calls[n]).name, self.seconds[n])
            self.seconds[n] = 0


cdef class Program:
    """Calls one after the other.

    Parameters
    ----------
    calls
        Each a `Call`, or a Python function of step, position, index and lateness (`Moment`), which divides the program
            and may return True: this is the last step.
    observe
        Gets the name of each kernel and its seconds, once a run; None: nothing is measured.
    """

    cdef list parts
    cdef object observe

    def __init__(self, calls, observe=None):
        cdef list together = []
        self.parts, self.observe = [], observe
        for call in calls:
            if isinstance(call, Call):
                together.append(call)
                continue
            if together:
                self.parts.append(_Segment(together, observe is not None))
                together = []
            self.parts.append(call)
        if together:
            self.parts.append(_Segment(together, observe is not None))

    def run(self, long long step, long long position=0, long long steps=1, long long stride=0, double seconds=INFINITY):
        """Run all calls once for each of some steps, between which signals are looked for.

        Parameters
        ----------
        step
            The first optimiser step, counted from 0.
        position
            Position of the epoch at which the first global batch begins.
        steps
            Their number, if no call ends the run.
        stride
            Samples of a global batch.
        seconds
            How long until steps are `late`, which a call may take for a reason to end the run.

        Returns
        -------
        int
            Steps that were made.

        Raises
        ------
        IndexError
            An array holds a value that is wrong, such as the number of no class.
        """
        cdef Moment now = Moment(step, position, 0, False)
        cdef double end = clock_seconds() + seconds
        cdef bint last = False
        while now.index < steps and not last:
            PyErr_CheckSignals()
            now.late = clock_seconds() >= end
            for part in self.parts:
                if isinstance(part, _Segment):
                    last |= (<_Segment> part).run(&now) == LAST_STEP
                else:
                    last |= part(now.step, now.position, now.index, now.late) is True
            now.step += 1
            now.position += stride
            now.index += 1
        if self.observe is not None:
            for part in self.parts:
                if isinstance(part, _Segment):
                    (<_Segment> part).report(self.observe)
        return now.index

"""Programs: calls of kernels that were checked once, run one after the other in C."""

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy


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


cdef class _Segment:
    """Calls without Python between them."""

    cdef list calls
    cdef Py_ssize_t count
    cdef Kernel* kernels
    cdef const void** x
    cdef const void** arguments

    def __cinit__(self, list calls):
        cdef Py_ssize_t n
        cdef Call call
        self.calls, self.count = calls, len(calls)
        self.kernels = <Kernel*> malloc(self.count * sizeof(Kernel))
        self.x = <const void**> malloc(self.count * sizeof(void*))
        self.arguments = <const void**> malloc(self.count * sizeof(void*))
        if self.kernels == NULL or self.x == NULL or self.arguments == NULL:
            raise MemoryError
        for n in range(self.count):
            call = calls[n]
            self.kernels[n], self.x[n], self.arguments[n] = call.kernel, call.x, call.arguments

    def __dealloc__(self):
        free(self.kernels)
        free(self.x)
        free(self.arguments)

    cdef int run(self, const Moment* now) except -1:
        cdef Py_ssize_t n
        cdef int wrong = 0
        with nogil:
            for n in range(self.count):
                wrong = self.kernels[n](self.x[n], self.arguments[n], now)
                if wrong:
                    break
        if wrong:
            raise IndexError((<Call> self.calls[n]).complaint)
        return 0


cdef class Program:
    """Calls one after the other.

    Parameters
    ----------
    calls
        Each a `Call`, or a Python function of step, first row and weight, which divides the program.
    """

    cdef list parts

    def __init__(self, calls):
        cdef list together = []
        self.parts = []
        for call in calls:
            if isinstance(call, Call):
                together.append(call)
                continue
            if together:
                self.parts.append(_Segment(together))
                together = []
            self.parts.append(call)
        if together:
            self.parts.append(_Segment(together))

    def run(self, long long step, long long first_row, double weight):
        """Run all calls.

        Parameters
        ----------
        step
            Optimiser step, counted from 0.
        first_row
            Row of the global batch at which this rank's rows begin.
        weight
            1 / samples of the global batch.

        Raises
        ------
        IndexError
            An array holds a value that is wrong, such as the number of no class.
        """
        cdef Moment now = Moment(step, first_row, weight)
        for part in self.parts:
            if isinstance(part, _Segment):
                (<_Segment> part).run(&now)
            else:
                part(step, first_row, weight)

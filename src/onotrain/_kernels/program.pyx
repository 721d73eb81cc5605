"""Programs: calls of kernels that were checked once, run one after the other in C."""

from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from onotrain._kernels.clock cimport clock_nanoseconds, clock_seconds
from onotrain._kernels.events cimport Events
from onotrain._kernels.recording import label_of


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
    cdef Events events          # None if nobody wants any
    cdef int32_t* labels        # of the events; NULL without

    def __cinit__(self, list calls, bint timed, Events events):
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
        if events is not None:
            self.events, self.labels = events, <int32_t*> malloc(self.count * sizeof(int32_t))
            if self.labels == NULL:
                raise MemoryError
        for n in range(self.count):
            call = calls[n]
            self.kernels[n], self.x[n], self.arguments[n] = call.kernel, call.x, call.arguments
            if events is not None:
                self.labels[n] = events.label(label_of(call))

    def __dealloc__(self):
        free(self.kernels)
        free(self.x)
        free(self.arguments)
        free(self.seconds)
        free(self.labels)

    cdef int run(self, const Moment* now) except RAISED:
        """Run all calls; return whether one of them says that this is the last step."""
        cdef Py_ssize_t n = 0
        cdef int said, last = GO_ON
        if self.seconds != NULL or (self.events is not None and self.events.on):
            return self.run_watched(now)
        with nogil:
            for n in range(self.count):
                said = self.kernels[n](self.x[n], self.arguments[n], now)
                if said == LAST_STEP:
                    last = LAST_STEP
                elif said != GO_ON:
                    break
            else:
                said = GO_ON
        return self.ended(n, said, last)

    cdef int run_watched(self, const Moment* now) except RAISED:
        """The same with a look at the clock after each call."""
        cdef Py_ssize_t n = 0
        cdef int said, last = GO_ON
        cdef int64_t began, ended
        with nogil:
            ended = clock_nanoseconds()
            for n in range(self.count):
                began = ended
                said = self.kernels[n](self.x[n], self.arguments[n], now)
                ended = clock_nanoseconds()
                if self.seconds != NULL:
                    self.seconds[n] += (ended - began) * 1e-9
                if self.labels != NULL and self.events.on:
                    self.events.put(self.labels[n], began, ended, -1, 0, -1)
                if said == LAST_STEP:
                    last = LAST_STEP
                elif said != GO_ON:
                    break
            else:
                said = GO_ON
        return self.ended(n, said, last)

    cdef int ended(self, Py_ssize_t n, int said, int last) except RAISED:
        """Raise what call `n`, which was the last one to run, says is wrong."""
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
    events
        Gets an event for each call that has a place, while it is on; None: there are none.
    label
        What a pass through all calls is among the events; None: it is none.
    """

    cdef list parts
    cdef object observe
    cdef Events events
    cdef int32_t label

    def __init__(self, calls, observe=None, Events events=None, label=None):
        cdef list together = []
        self.parts, self.observe, self.events = [], observe, events
        self.label = -1 if events is None or label is None else events.label(label)
        for call in calls:
            if isinstance(call, Call):
                together.append(call)
                continue
            if together:
                self.parts.append(_Segment(together, observe is not None, events))
                together = []
            self.parts.append(call)
        if together:
            self.parts.append(_Segment(together, observe is not None, events))

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
        cdef bint last = False, events = self.events is not None and self.events.on
        cdef int64_t began = 0
        while now.index < steps and not last:
            PyErr_CheckSignals()
            now.late = clock_seconds() >= end
            if events:
                began = clock_nanoseconds()
            for part in self.parts:
                if isinstance(part, _Segment):
                    last |= (<_Segment> part).run(&now) == LAST_STEP
                elif events:
                    last |= self.call(part, &now)
                else:
                    last |= part(now.step, now.position, now.index, now.late) is True
            if events and self.label >= 0:
                self.events.put(self.label, began, clock_nanoseconds(), now.step + 1, 0, -1)
            now.step += 1
            now.position += stride
            now.index += 1
        if self.observe is not None:
            for part in self.parts:
                if isinstance(part, _Segment):
                    (<_Segment> part).report(self.observe)
        return now.index

    cdef bint call(self, part, const Moment* now) except *:
        """Call a Python function, and put down the event."""
        cdef int64_t began = clock_nanoseconds()
        cdef bint last = part(now.step, now.position, now.index, now.late) is True
        place = getattr(part, "place", None)
        if place is not None and place.phase:
            self.events.put(self.events.label(label_of(part)), began, clock_nanoseconds(), -1, 0, -1)
        return last

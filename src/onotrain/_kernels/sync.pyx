"""The barrier of the ranks that share memory.

Sense-reversing: the last rank to arrive resets the count and moves the generation on, for which the others wait; first
spinning, which costs well under a microsecond where every rank has a core, then giving the core away, without which
ranks that outnumber the cores would wait for a whole time slice of the scheduler at every barrier.
"""

from cpython.exc cimport PyErr_CheckSignals, PyErr_SetObject
from libc.stdint cimport int64_t

from onotrain._kernels.clock cimport clock_seconds
from onotrain._kernels.program cimport GO_ON, RAISED, Kernel, Moment, at_step, recorded

cdef extern from *:
    """
    #include <sched.h>
    #include <time.h>
    #if defined(__x86_64__)
    #define onotrain_pause() __builtin_ia32_pause()
    #elif defined(__aarch64__)
    #define onotrain_pause() __asm__ __volatile__("yield")
    #else
    #define onotrain_pause()
    #endif

    /* Adds one; the last of `size` ranks resets the count before it lets the others go. */
    static int64_t onotrain_arrive(int64_t *count, int64_t *generation, int64_t size) {
        int64_t mine = __atomic_load_n(generation, __ATOMIC_RELAXED);
        if (__atomic_add_fetch(count, 1, __ATOMIC_ACQ_REL) == size) {
            __atomic_store_n(count, 0, __ATOMIC_RELAXED);
            __atomic_store_n(generation, mine + 1, __ATOMIC_RELEASE);
        }
        return mine;
    }
    /* Returns whether the others have come, after at most `spins` looks. */
    static int onotrain_spin(int64_t *generation, int64_t mine, int64_t spins) {
        for (int64_t n = 0; n < spins; n++) {
            if (__atomic_load_n(generation, __ATOMIC_ACQUIRE) != mine) return 1;
            onotrain_pause();
        }
        return 0;
    }
    static int64_t onotrain_nanoseconds(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
    }
    /* The same, and gives the core away after each look, for at least so long. */
    static int onotrain_yield(int64_t *generation, int64_t mine, int64_t nanoseconds) {
        int64_t end = onotrain_nanoseconds() + nanoseconds;
        do {
            if (__atomic_load_n(generation, __ATOMIC_ACQUIRE) != mine) return 1;
            sched_yield();
        } while (onotrain_nanoseconds() < end);
        return 0;
    }
    """
    int64_t onotrain_arrive(int64_t* count, int64_t* generation, int64_t size) nogil
    bint onotrain_spin(int64_t* generation, int64_t mine, int64_t spins) nogil
    bint onotrain_yield(int64_t* generation, int64_t mine, int64_t nanoseconds) nogil

cdef enum:
    #: How long a waiting rank looks at the generation before it looks for signals, and calls `waiting` [ns].
    LOOK_NS = 2000000


cdef struct Barrier:
    int64_t* state
    int64_t size
    int64_t spins
    void* waiting
    double* waited
    int64_t* waits


cdef int look(void* waiting) noexcept with gil:
    """Look for signals, and call what is to be called meanwhile; RAISED: with the exception set."""
    try:
        PyErr_CheckSignals()
        (<object> waiting)()
    except BaseException as error:
        PyErr_SetObject(type(error), error)
        return RAISED
    return GO_ON


cdef int run_barrier(const void* _, const Barrier* a, const Moment* now) noexcept nogil:
    cdef double began = clock_seconds()
    cdef int64_t* generation = a.state + 8
    cdef int64_t mine = onotrain_arrive(a.state, generation, a.size)
    cdef bint done = onotrain_spin(generation, mine, a.spins)
    while not done:
        a.waits[0] = 1
        done = onotrain_yield(generation, mine, LOOK_NS)
        if not done and look(a.waiting) == RAISED:
            return RAISED
        a.waits[0] = 0
    a.waited[0] += clock_seconds() - began
    return GO_ON


def barrier(
    int64_t[::1] state not None, int64_t size, int64_t spins, waiting not None, double[::1] waited not None,
    int64_t[::1] waits not None, bint record=False,
):
    """Wait for all ranks.  *Collective* over the `size` ranks that share `state`.

    Parameters
    ----------
    state
        16 zeros in shared memory at the beginning, used by barriers alone: the count, and in another cache line the
        generation.
    size
        Number of ranks.
    spins
        Looks before a waiting rank begins to give its core away; 0 where ranks outnumber cores.
    waiting
        Called without arguments every few milliseconds of a wait.  What it raises, or the handler of a signal, ends the
        wait; this rank counts as having come, so the barrier is of no use any more.
    waited
        The seconds are added to it, ``(1,)``.
    waits
        1 while this rank waits for longer than `spins`, ``(1,)``, for others to see.
    """
    if state.shape[0] < 16 or waited.shape[0] != 1 or waits.shape[0] != 1:
        raise ValueError(
            f"state, waited and waits: got {state.shape[0]}, {waited.shape[0]} and {waits.shape[0]} elements, "
            "expected 16, 1 and 1"
        )
    cdef Barrier a = Barrier(&state[0], size, spins, <void*> waiting, &waited[0], &waits[0])
    cdef Moment now = at_step(0)
    cdef int said
    if record:
        return recorded(<Kernel> run_barrier, NULL, &a, sizeof(a), (state, waiting, waited, waits), "")
    with nogil:
        said = run_barrier(NULL, &a, &now)
    raise_if_set(said)


cdef int raise_if_set(int said) except RAISED:
    return said

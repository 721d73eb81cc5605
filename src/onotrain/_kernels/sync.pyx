"""A barrier of the ranks that share memory.

Sense-reversing: the last rank to arrive resets the count and moves the generation on, for which the others wait; first
spinning, which costs well under a microsecond where every rank has a core, then giving the core away, without which
ranks that outnumber the cores would wait for a whole time slice of the scheduler at every barrier.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t

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

#: How long a waiting rank looks at the generation before it looks for signals, and calls `waiting` [ns].
cdef enum:
    LOOK_NS = 2000000


def barrier(int64_t[::1] state not None, int64_t size, int64_t spins, waiting not None):
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
    """
    if state.shape[0] < 16:
        raise ValueError(f"state: got {state.shape[0]} elements, expected 16")
    cdef int64_t* count = &state[0]
    cdef int64_t* generation = &state[8]
    cdef int64_t mine
    cdef bint done
    with nogil:
        mine = onotrain_arrive(count, generation, size)
        done = onotrain_spin(generation, mine, spins)
    while not done:
        with nogil:
            done = onotrain_yield(generation, mine, LOOK_NS)
        if not done:
            PyErr_CheckSignals()
            waiting()

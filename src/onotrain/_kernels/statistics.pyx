"""What the ranks of a node tell each other in a step, in memory that they share.

A rank writes its numbers, waits for the others (sync.pyx), and reads all of them.  A step's numbers have one of two
places, used in turn: a rank may be one barrier ahead of another that still reads.

Dimensions: R ranks, f statistics of a step; a rank's row has room for more numbers behind them.
"""

from libc.math cimport isfinite, sqrt

from onotrain._kernels.arrays cimport expect
from onotrain._kernels.program cimport GO_ON, LAST_STEP, WRONG_VALUE, Kernel, Moment, at_step, recorded


cdef struct Place:
    double* shared
    Py_ssize_t ranks
    Py_ssize_t width


cdef inline double* rows(const Place* a, const Moment* now) noexcept nogil:
    """The rows of all ranks in this step."""
    return a.shared + (now.step & 1) * a.ranks * a.width


cdef Place place(double[:, :, ::1] shared, Py_ssize_t rank, Py_ssize_t columns) except *:
    expect("places of shared", shared.shape[0], 2)
    if not 0 <= rank < shared.shape[1]:
        raise ValueError(f"rank: got {rank}, expected one of {shared.shape[1]}")
    if columns > shared.shape[2]:
        raise ValueError(f"columns of shared: got {shared.shape[2]}, expected at least {columns}")
    return Place(&shared[0, 0, 0], shared.shape[1], shared.shape[2])


cdef struct Publish:
    Place place
    Py_ssize_t rank
    Py_ssize_t f
    const double* constant


cdef int run_publish(double* values, const Publish* a, const Moment* now) noexcept nogil:
    cdef double* mine = rows(&a.place, now) + a.rank * a.place.width
    cdef Py_ssize_t c
    for c in range(a.f):
        mine[c] = values[c] + a.constant[c]
        values[c] = 0
    mine[a.f] = now.late
    return GO_ON


def publish(
    double[::1] values not None,            # IN  (f,), OUT 0
    const double[::1] constant not None,    # IN  (f,)
    bint late,
    long long step,
    Py_ssize_t rank,
    double[:, :, ::1] shared not None,      # OUT (2, R, more than f)
    bint record=False,
):
    """Write ``values + constant`` and whether it is late to this rank's row, and begin new values at 0."""
    cdef Publish a = Publish(place(shared, rank, values.shape[0] + 1), rank, values.shape[0], NULL)
    cdef Moment now = at_step(step)
    expect("length of constant", constant.shape[0], values.shape[0])
    a.constant, now.late = &constant[0], late
    if record:
        return recorded(<Kernel> run_publish, &values[0], &a, sizeof(a), (values, constant, shared), "")
    run_publish(&values[0], &a, &now)


cdef struct PublishSum:
    Place place
    Py_ssize_t rank
    Py_ssize_t column
    Py_ssize_t n


cdef int run_publish_sum(const double* values, const PublishSum* a, const Moment* now) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t c
    for c in range(a.n):
        total += values[c]
    rows(&a.place, now)[a.rank * a.place.width + a.column] = total
    return GO_ON


def publish_sum(
    const double[::1] values not None,      # IN  (n,)
    long long step,
    Py_ssize_t rank,
    Py_ssize_t column,
    double[:, :, ::1] shared not None,      # OUT (2, R, more than column)
    bint record=False,
):
    """Write the sum of values to a column of this rank's row."""
    cdef PublishSum a = PublishSum(place(shared, rank, column + 1), rank, column, values.shape[0])
    cdef Moment now = at_step(step)
    cdef const double* first = NULL
    if values.shape[0] > 0:
        first = &values[0]
    if record:
        return recorded(<Kernel> run_publish_sum, first, &a, sizeof(a), (values, shared), "")
    run_publish_sum(first, &a, &now)


cdef struct Total:
    Place place
    Py_ssize_t f
    Py_ssize_t stop
    Py_ssize_t steps
    double* totals


cdef int run_total(const void* nothing, const Total* a, const Moment* now) noexcept nogil:
    cdef const double* shared = rows(&a.place, now)
    cdef double* out = a.totals + now.index * a.f
    cdef double late = 0
    cdef Py_ssize_t _, c
    cdef bint last
    if now.index >= a.steps:
        return WRONG_VALUE
    for c in range(a.f):
        out[c] = 0
    for _ in range(a.place.ranks):
        for c in range(a.f):
            out[c] += shared[c]
        late += shared[a.f]
        shared += a.place.width
    last = late > 0 or out[a.stop] > 0
    for c in range(a.f):
        last |= not isfinite(out[c])
    return LAST_STEP if last else GO_ON


def total(
    double[:, :, ::1] shared not None,      # IN  (2, R, more than f)
    Py_ssize_t stop,
    long long step,
    long long index,
    double[:, ::1] totals not None,         # OUT (steps, f)
    bint record=False,
):
    """Write the sums over the ranks to row `index`; return whether the run ends.

    It does where a rank is late, the column `stop` is more than 0, or a sum is not finite.
    """
    cdef Py_ssize_t f = totals.shape[1]
    cdef Total a = Total(place(shared, 0, f + 1), f, stop, totals.shape[0], &totals[0, 0])
    cdef Moment now = at_step(step)
    now.index = index
    if not 0 <= stop < f or not 0 <= index < totals.shape[0]:
        raise ValueError(f"stop and index: got {stop} and {index}, expected less than {f} and {totals.shape[0]}")
    if record:
        return recorded(<Kernel> run_total, NULL, &a, sizeof(a), (shared, totals), "more steps than rows of totals")
    return run_total(NULL, &a, &now) == LAST_STEP


cdef struct Clip:
    Place place
    Py_ssize_t column
    Py_ssize_t steps
    Py_ssize_t width
    double longest
    double* scalars


cdef int run_clip(const void* _, const Clip* a, const Moment* now) noexcept nogil:
    cdef const double* shared = rows(&a.place, now) + a.column
    cdef double squares = 0
    cdef Py_ssize_t rank
    if now.index >= a.steps:
        return WRONG_VALUE
    for rank in range(a.place.ranks):
        squares += shared[rank * a.place.width]
    squares = a.longest / (sqrt(squares) + 1e-6)
    a.scalars[now.index * a.width] = squares if squares < 1 else 1
    return GO_ON


def clip(
    double[:, :, ::1] shared not None,      # IN  (2, R, more than column)
    Py_ssize_t column,
    double longest,
    long long step,
    long long index,
    double[:, ::1] scalars not None,        # OUT (steps, at least 1)
    bint record=False,
):
    """Write the scale that shortens a gradient to `longest` to ``scalars[index, 0]``; the ranks have its squares."""
    cdef Clip a = Clip(
        place(shared, 0, column + 1), column, scalars.shape[0], scalars.shape[1], longest, &scalars[0, 0]
    )
    cdef Moment now = at_step(step)
    now.index = index
    if not 0 <= index < scalars.shape[0]:
        raise ValueError(f"index: got {index}, expected less than {scalars.shape[0]}")
    if record:
        return recorded(<Kernel> run_clip, NULL, &a, sizeof(a), (shared, scalars), "more steps than rows of scalars")
    run_clip(NULL, &a, &now)

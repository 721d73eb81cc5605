"""Updates of the rows of a table that occur in a batch, such as the vectors of an embedding.

Dimensions: n parameters of some rows of the table, r rows of dz, each the gradient of the row that its code names.
Rows that do not occur are not looked at, so that time does not go with the size of the table; those whose gradients
sum to zero throughout stay as they are.  The sum of squares that is returned is that of update.pyx.
"""

import numpy as np

from cython cimport floating
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport qsort
from libc.string cimport memset

from onotrain._kernels.arrays cimport expect, out_1d
from onotrain._kernels.program cimport WRONG_VALUE, Kernel, Moment, at_step, recorded
from onotrain._kernels.rules cimport Step
from onotrain._kernels.steps cimport COMMON_SCALARS, at, first_nonzero, run, step_of, take_scalars
from onotrain._kernels.vectors cimport flush_subnormals, restore_rounding

cdef enum:
    MOST_ROWS = 0x7fffffff  # of a batch, to be sorted by their codes


cdef struct Scattered:
    Step step
    Py_ssize_t r
    Py_ssize_t row
    Py_ssize_t first        # row of the table at which the parameters begin
    Py_ssize_t end
    const int32_t* codes
    int64_t* order
    void* total
    void* state1
    void* state2
    void* out
    const double* scalars   # as of Update
    Py_ssize_t steps
    Py_ssize_t own
    double* squares


cdef int compare(const void* a, const void* b) noexcept nogil:
    cdef int64_t x = (<const int64_t*> a)[0], y = (<const int64_t*> b)[0]
    return (x > y) - (x < y)


cdef int run_scattered(const floating* dz, const Scattered* u, const Moment* now) noexcept nogil:
    cdef Step step = u.step
    cdef floating* total = <floating*> u.total
    cdef floating* a = <floating*> u.state1
    cdef floating* b = <floating*> u.state2
    cdef floating* out = <floating*> u.out
    cdef const floating* each
    cdef Py_ssize_t found = 0, q, c, start
    cdef int64_t code
    cdef double squares = 0
    cdef unsigned rounding
    if u.scalars != NULL:
        if now.index >= u.steps:
            return WRONG_VALUE
        take_scalars(&step, u.own, u.scalars + now.index * (COMMON_SCALARS + u.own))
    step.k = 1
    for q in range(u.r):
        if u.first <= u.codes[q] < u.end:
            u.order[found] = <int64_t> u.codes[q] << 32 | q
            found += 1
    qsort(u.order, found, sizeof(int64_t), compare)  # all differ: by code, then in the order of the rows
    rounding = flush_subnormals()
    q = 0
    while q < found:
        code = u.order[q] >> 32
        memset(total, 0, u.row * sizeof(floating))
        while q < found and u.order[q] >> 32 == code:
            each = dz + <Py_ssize_t> (u.order[q] & MOST_ROWS) * u.step.stride
            for c in range(u.row):
                total[c] += each[c]
            q += 1
        start = (code - u.first) * u.row
        if first_nonzero(&step, 0, u.row, total) < u.row:
            squares += run(&step, u.row, total, at(a, start), at(b, start), out + start, out + start)
    restore_rounding(rounding)
    u.squares[0] = squares
    return 0


def update_rows(
    rule not None,                              # names its kernel
    tuple scalars not None,                     # as of `update`
    const int32_t[::1] codes not None,          # IN  (r,)
    Py_ssize_t first,                           # row of the table at which out begins
    const floating[:, :] dz not None,           # IN  (r, row)
    tuple state not None,                       # IN, OUT (n,) each
    floating[::1] out not None,                 # IN, OUT (n,): rows of the table
    tuple record=None,                          # as of `update`
):
    """Apply an update rule to the rows of a table that occur; the gradient of one is the sum of its rows of dz."""
    cdef Py_ssize_t r = dz.shape[0], row = dz.shape[1], n = out.shape[0], own = len(scalars) - COMMON_SCALARS
    cdef double squares
    cdef double[:, ::1] later = None
    cdef double[::1] written = None
    cdef floating[::1] a = None, b = None, total
    cdef int64_t[::1] order = np.empty(max(r, 1), np.int64)
    cdef Moment now = at_step(0)
    cdef Scattered u
    expect("length of codes", codes.shape[0], r)
    if row < 1 or n % row != 0 or first < 0 or r > MOST_ROWS:
        raise ValueError(f"out: got {n} elements from row {first} on, expected rows of {row}")
    if r > 0 and ((row > 1 and dz.strides[1] != sizeof(floating)) or dz.strides[0] % sizeof(floating) != 0):
        raise ValueError("dz: got rows with gaps, expected contiguous ones")
    total = np.empty(row, np.float32 if floating is float else np.float64)
    if len(state) > 0:
        a = state[0]
        expect("length of the first state", a.shape[0], n)
    if len(state) > 1:
        b = state[1]
        expect("length of the second state", b.shape[0], n)
    u.step = step_of(rule, scalars, state)
    u.step.stride = dz.strides[0] // <Py_ssize_t> sizeof(floating)
    u.r, u.row, u.first, u.end = r, row, first, first + n // row
    u.codes, u.order, u.total = &codes[0] if r > 0 else NULL, &order[0], &total[0]
    u.state1, u.state2, u.out = out_1d(a), out_1d(b), out_1d(out)
    u.scalars, u.steps, u.own, u.squares = NULL, 0, 0, &squares
    cdef const floating* rows = &dz[0, 0] if r > 0 else NULL
    if record is not None:
        later, written = record
        expect("length of squares", written.shape[0], 1)
        expect("columns of scalars", later.shape[1], COMMON_SCALARS + own)
        u.scalars, u.steps, u.own, u.squares = &later[0, 0], later.shape[0], own, &written[0]
        return recorded(
            <Kernel> run_scattered[floating], rows, &u, sizeof(u),
            (codes, dz, a, b, out, order, total, later, written), "more steps than scalars",
        )
    with nogil:
        run_scattered(rows, &u, &now)
    return squares

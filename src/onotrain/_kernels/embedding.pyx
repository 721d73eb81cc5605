"""Embeddings of categories: for each sample the row of a table that its code names, and the gradient by those rows.

Dimensions: r rows of the batch on this rank, i features, o outputs, a table of n rows of w numbers.
"""

from cython cimport floating
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memset

from onotrain._kernels.arrays cimport expect, in_2d, out_2d
from onotrain._kernels.program cimport GO_ON, WRONG_VALUE, Kernel, Moment, at_step, recorded

WRONG_CODE = "codes: expected whole numbers from 0, below the rows of the table"


cdef int within(str what, Py_ssize_t begin, Py_ssize_t count, Py_ssize_t n) except -1:
    """Raise ValueError unless `count` columns from `begin` are among n."""
    if begin < 0 or begin + count > n:
        raise ValueError(f"{what}: got columns {begin} to {begin + count}, expected some of the {n}")
    return 0


cdef inline int32_t* codes_of(const int32_t[::1] codes) noexcept nogil:
    return <int32_t*> &codes[0] if codes is not None and codes.shape[0] > 0 else NULL


cdef struct Lookup:
    Py_ssize_t r
    Py_ssize_t i
    Py_ssize_t o
    Py_ssize_t n
    Py_ssize_t w
    const void* table
    int32_t* codes
    void* y                 # the first column of the embedding


cdef inline bint is_code(floating x, Py_ssize_t n) noexcept nogil:
    """Whether x is a row of n; NaN is none."""
    return x >= 0 and x < n and x == <floating> <int32_t> x


cdef int run_lookup(const floating* x, const Lookup* a, const Moment* now) noexcept nogil:
    cdef const floating* table = <const floating*> a.table
    cdef floating* y = <floating*> a.y
    cdef Py_ssize_t q
    cdef int32_t code
    for q in range(a.r):  # before anything is written
        if not is_code(x[q * a.i], a.n):
            return WRONG_VALUE
    for q in range(a.r):
        code = <int32_t> x[q * a.i]
        if a.codes != NULL:
            a.codes[q] = code
        memcpy(y + q * a.o, table + code * a.w, a.w * sizeof(floating))
    return GO_ON


def embedding_forward(
    const floating[:, ::1] x not None,          # IN  (r, i)
    Py_ssize_t feature,                         # column of x with the codes
    const floating[:, ::1] table not None,      # IN  (n, w)
    Py_ssize_t begin,                           # first column in y
    int32_t[::1] codes,                         # OUT (r,) or None
    floating[:, ::1] y not None,                # OUT (r, o), of which w columns are written
    bint record=False,
):
    """``codes = x[:, feature]``, ``y[:, begin : begin + w] = table[codes]``."""
    cdef Py_ssize_t r = x.shape[0], n = table.shape[0], w = table.shape[1], q
    cdef Moment now = at_step(0)
    cdef int said
    cdef Lookup a = Lookup(r, x.shape[1], y.shape[1], n, w, in_2d(table), codes_of(codes), NULL)
    cdef const floating* first = in_2d(x)
    within("feature", feature, 1, x.shape[1])
    within("begin", begin, w, y.shape[1])
    expect("rows of y", y.shape[0], r)
    expect("length of codes", r if codes is None else codes.shape[0], r)
    if n > 2147483647:
        raise ValueError(f"rows of table: got {n}, expected at most 2147483647")
    if r > 0:
        first += feature
        a.y = out_2d(y) + begin
    if record:
        return recorded(<Kernel> run_lookup[floating], first, &a, sizeof(a), (x, table, codes, y), WRONG_CODE)
    with nogil:
        said = run_lookup(first, &a, &now)
    if said == WRONG_VALUE:
        for q in range(r):
            if not is_code(x[q, feature], n):
                raise IndexError(f"x[{q}, {feature}]: got {x[q, feature]}, expected one of the {n} rows of table")


cdef struct Scatter:
    Py_ssize_t r
    Py_ssize_t o
    Py_ssize_t n
    Py_ssize_t w
    bint accumulate
    const int32_t* codes
    void* dtable


cdef int run_scatter(const floating* dy, const Scatter* a, const Moment* now) noexcept nogil:
    cdef floating* dtable = <floating*> a.dtable
    cdef floating* row
    cdef Py_ssize_t q, c
    for q in range(a.r):
        if a.codes[q] < 0 or a.codes[q] >= a.n:
            return WRONG_VALUE
    if not a.accumulate and dtable != NULL:
        memset(dtable, 0, a.n * a.w * sizeof(floating))
    for q in range(a.r):
        row = dtable + a.codes[q] * a.w
        for c in range(a.w):
            row[c] += dy[c]
        dy += a.o
    return GO_ON


def embedding_backward(
    const int32_t[::1] codes not None,          # IN  (r,)
    Py_ssize_t begin,                           # first column in dy
    bint accumulate,                            # add to what is there
    const floating[:, ::1] dy not None,         # IN  (r, o), of which w columns are read
    floating[:, ::1] dtable not None,           # OUT (n, w)
    bint record=False,
):
    """``dtable[code]`` is the sum of the rows of dy with that code, in their order; of a code without rows it is 0."""
    cdef Py_ssize_t r = codes.shape[0], n = dtable.shape[0], w = dtable.shape[1], q
    cdef Moment now = at_step(0)
    cdef int said
    cdef Scatter a = Scatter(r, dy.shape[1], n, w, accumulate, codes_of(codes), out_2d(dtable))
    cdef const floating* first = in_2d(dy)
    expect("rows of dy", dy.shape[0], r)
    within("begin", begin, w, dy.shape[1])
    if r > 0:
        first += begin
    if record:
        return recorded(<Kernel> run_scatter[floating], first, &a, sizeof(a), (codes, dy, dtable), WRONG_CODE)
    with nogil:
        said = run_scatter(first, &a, &now)
    if said == WRONG_VALUE:
        for q in range(r):
            if codes[q] < 0 or codes[q] >= n:
                raise IndexError(f"codes[{q}]: got {codes[q]}, expected one of the {n} rows of dtable")


cdef struct Pick:
    Py_ssize_t r
    Py_ssize_t i
    Py_ssize_t o
    Py_ssize_t m
    const int64_t* columns
    void* y


cdef int run_pick(const floating* x, const Pick* a, const Moment* now) noexcept nogil:
    cdef floating* y = <floating*> a.y
    cdef Py_ssize_t _, c
    for _ in range(a.r):
        for c in range(a.m):
            y[c] = x[a.columns[c]]
        x += a.i
        y += a.o
    return GO_ON


def pick_columns(
    const floating[:, ::1] x not None,          # IN  (r, i)
    const int64_t[::1] columns not None,        # IN  (m,), read again when the call runs
    Py_ssize_t begin,                           # first column in y
    floating[:, ::1] y not None,                # OUT (r, o), of which m columns are written
    bint record=False,
):
    """``y[:, begin : begin + m] = x[:, columns]``."""
    cdef Py_ssize_t m = columns.shape[0], c
    cdef Moment now = at_step(0)
    cdef Pick a = Pick(x.shape[0], x.shape[1], y.shape[1], m, NULL, NULL)
    expect("rows of y", y.shape[0], x.shape[0])
    within("begin", begin, m, y.shape[1])
    for c in range(m):
        if columns[c] < 0 or columns[c] >= x.shape[1]:
            raise IndexError(f"columns[{c}]: got {columns[c]}, expected one of the {x.shape[1]} columns of x")
    if m > 0:
        a.columns = &columns[0]
    if x.shape[0] > 0 and y.shape[1] > 0:
        a.y = out_2d(y) + begin
    if record:
        return recorded(<Kernel> run_pick[floating], in_2d(x), &a, sizeof(a), (x, columns, y), "")
    with nogil:
        run_pick(in_2d(x), &a, &now)

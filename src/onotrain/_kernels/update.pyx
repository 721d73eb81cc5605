"""Updates: sum the gradient rows of the ranks, scale, decay, update the state, write the parameters, in one pass.

Dimensions: n parameters of the shard, k gradient rows.  With `inputs (r, i)` the gradient is that of o rows of a dense
layer's weight, n = o i, and `grads (r, o)` are the gradients dz of its outputs: ``dz^T inputs`` is then computed block
by block and used while it is in the caches.  It is never written to memory.

Every array is read and written once, and the one division and square root of a rule (rules.pxd) hide the rest.  Each
kernel returns the sum of squares, in double, of the summed gradient before scale and decay, or 0 for an average; a
gradient that is not finite shows in it.  `shared` says that other ranks read the parameters: large ones are then
written past the caches (vectors.h).

Of a table, such as the vectors of an embedding, a `row` is updated as a whole or not at all: where its summed gradient
is zero throughout, parameters and state stay as they are.
"""

import numpy as np

from cython cimport floating
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport qsort
from libc.string cimport memcpy, memset

from onotrain._kernels.arrays cimport expect, in_1d, in_2d, out_1d
from onotrain._kernels.elementary cimport LANES, total_of_squares
from onotrain._kernels.program cimport WRONG_VALUE, Kernel, Moment, at_step, recorded
from onotrain._kernels.rules cimport MOST_SCALARS, SUM, Rule, Step, apply, rule_of
from onotrain._kernels.tiles cimport SET, column_sums, dz_x_tiles
from onotrain._kernels.vectors cimport (
    VECTOR_BYTES, can_stream, end_of_stream, flush_subnormals, restore_rounding, stream, vector_boundary,
)

cdef enum:
    BLOCK = 128
    # So many rows, as the gradient of a bias has, or that of many ranks, are summed before the rule is applied, many
    # columns side by side.
    MANY_ROWS = 16
    # Of a weight's gradient: as many outputs as its tiles like, and a share of the second-level cache.
    BLOCK_OUTPUTS = 128
    BLOCK_INPUTS = 1024
    COMMON_SCALARS = 3
    MOST_ROWS = 0x7fffffff  # of a batch, to be sorted by their codes
    WIDE = 64               # elements of a table that are looked at together


def update(
    rule not None,                              # names its kernel
    tuple scalars not None,                     # scale, penalty, shrink, and those of the rule
    const floating[:, :] grads not None,        # IN  (k, n), or dz (r, o)
    const floating[:, ::1] inputs,              # IN  None, or (r, i)
    bint shared,
    tuple state not None,                       # IN, OUT (n,) each
    const floating[::1] param,                  # IN  (n,), or None: they are in out
    floating[::1] out not None,                 # IN, OUT (n,), may be a row of grads
    Py_ssize_t row=0,                           # neighbours that stay as they are if their gradients are all 0
    tuple record=None,      # scalars for later (steps, n), and OUT (1,) for the sum of squares, float64
):
    """Apply an update rule: new parameters, or what the rule makes instead."""
    cdef Step step = step_of(rule, scalars, state)
    cdef floating[::1] a = None, b = None
    cdef Py_ssize_t own = len(scalars) - COMMON_SCALARS
    step.shared = shared
    if len(state) > 0:
        a = state[0]
    if len(state) > 1:
        b = state[1]
    return checked[floating](step, own, grads, inputs, a, b, param, out, row, record)


cdef Step step_of(rule, tuple scalars, tuple state) except *:
    """Return what a rule is a function of."""
    cdef Step step
    cdef Py_ssize_t index, own = len(scalars) - COMMON_SCALARS
    memset(&step, 0, sizeof(Step))
    if not 0 <= own <= MOST_SCALARS:
        raise ValueError(f"scalars: got {len(scalars)}, expected {<int> COMMON_SCALARS} and those of the rule")
    step.scale, step.penalty, step.shrink = scalars[0], scalars[1], scalars[2]
    for index in range(own):
        step.scalars[index] = scalars[COMMON_SCALARS + index]
    step.rule = <Rule> rule_of(rule.kernel, step.scalars, own, len(state))
    return step


def sum_gradients(
    const floating[:, :] grads not None,        # IN  (k, n)
    floating[::1] out not None,                 # OUT (n,), may be a row of grads
    tuple record=None,                          # as of `update`
):
    """``out = row 0 + row 1 + ...``; returns the sum of squares of out."""
    cdef Step step
    memset(&step, 0, sizeof(Step))
    step.rule = SUM
    return checked[floating](step, 0, grads, None, None, None, None, out, 0, record)


cdef struct Update:
    Step step
    Py_ssize_t n
    Py_ssize_t i
    Py_ssize_t o
    Py_ssize_t row
    const void* inputs
    void* state1
    void* state2
    const void* param
    void* out
    const double* scalars   # of the steps of a run, one after the other; NULL: those of `step`
    Py_ssize_t steps
    Py_ssize_t own          # how many of them belong to the rule
    double* squares


cdef void take_scalars(Step* step, Py_ssize_t own, const double* scalars) noexcept nogil:
    """Take over the scalars of a step of a run, `own` of which belong to the rule."""
    cdef Py_ssize_t index
    step.scale, step.penalty, step.shrink = scalars[0], scalars[1], scalars[2]
    for index in range(own):
        step.scalars[index] = scalars[COMMON_SCALARS + index]


cdef int run_update(const floating* rows, const Update* u, const Moment* now) noexcept nogil:
    cdef Step step = u.step
    cdef const floating* x = <const floating*> u.inputs
    cdef floating* a = <floating*> u.state1
    cdef floating* b = <floating*> u.state2
    cdef const floating* p = <const floating*> u.param
    cdef floating* out = <floating*> u.out
    cdef unsigned rounding
    if u.scalars != NULL:
        if now.index >= u.steps:
            return WRONG_VALUE
        take_scalars(&step, u.own, u.scalars + now.index * (COMMON_SCALARS + u.own))
    rounding = flush_subnormals()
    if u.row > 0:
        u.squares[0] = run_table(&step, u.n, u.row, rows, a, b, p, out)
    elif x == NULL and step.k >= MANY_ROWS:
        u.squares[0] = run_sums(step, u.n, rows, a, b, p, out)
    elif x == NULL:
        u.squares[0] = run(&step, u.n, rows, a, b, p, out)
    else:
        u.squares[0] = run_products(step, u.i, u.o, rows, x, a, b, p, out)
    restore_rounding(rounding)
    if step.shared:
        end_of_stream()
    return 0


cdef object checked(
    Step step,
    Py_ssize_t own,                 # scalars of the rule
    const floating[:, :] grads,
    const floating[:, ::1] inputs,
    floating[::1] state1,           # or None
    floating[::1] state2,           # or None
    const floating[::1] param,      # or None: out
    floating[::1] out,
    Py_ssize_t row,
    tuple record,
):
    """Check the shapes, and run the rule or record it."""
    cdef Py_ssize_t n = out.shape[0], k = grads.shape[0], i = 1 if inputs is None else inputs.shape[1]
    cdef double squares
    cdef double[:, ::1] scalars = None
    cdef double[::1] written = None
    cdef Moment now = at_step(0)
    if k < 1:
        raise ValueError("grads: got no rows, expected at least one")
    if grads.shape[1] > 1 and grads.strides[1] != sizeof(floating):  # the rows may lie anywhere
        raise ValueError("grads: got rows with gaps, expected contiguous ones")
    if grads.strides[0] % sizeof(floating) != 0:
        raise ValueError("grads: got rows that are not aligned to their elements")
    expect("length of out by columns of grads", grads.shape[1] * i, n)
    expect("rows of inputs", k if inputs is None else inputs.shape[0], k)
    expect("length of the first state", n if state1 is None else state1.shape[0], n)
    expect("length of the second state", n if state2 is None else state2.shape[0], n)
    expect("length of param", n if param is None else param.shape[0], n)
    if row < 0 or (row > 0 and (n % row != 0 or inputs is not None)):
        raise ValueError(f"row: got {row} elements, expected a divisor of the {n} parameters, without inputs")
    step.k, step.stride = k, grads.strides[0] // <Py_ssize_t> sizeof(floating)
    cdef const floating* rows = &grads[0, 0] if n > 0 else NULL
    cdef const floating* x = in_2d(inputs)
    cdef floating* a = out_1d(state1)
    cdef floating* b = out_1d(state2)
    cdef floating* o = out_1d(out)
    cdef const floating* p = in_1d(param)
    if param is None:
        p = o
    step.shared = step.shared and can_stream(o, n * sizeof(floating))
    if i > BLOCK_INPUTS and i * <Py_ssize_t> sizeof(floating) % VECTOR_BYTES != 0:
        step.shared = False  # blocks begin within rows
    if row > 0:
        step.shared = False  # single rows are too short
    cdef Update u = Update(step, n, i, grads.shape[1], row, x, a, b, p, o, NULL, 0, 0, &squares)
    if record is not None:
        scalars, written = record
        expect("length of squares", written.shape[0], 1)
        u.squares = &written[0]
        if scalars is not None:
            expect("columns of scalars", scalars.shape[1], COMMON_SCALARS + own)
            u.scalars, u.steps, u.own = &scalars[0, 0], scalars.shape[0], own
        return recorded(
            <Kernel> run_update[floating], rows, &u, sizeof(u),
            (grads, inputs, state1, state2, param, out, scalars, written), "more steps than scalars",
        )
    with nogil:
        run_update(rows, &u, &now)
    return squares


cdef inline floating* at(floating* p, Py_ssize_t n) noexcept nogil:
    return p + n if p != NULL else NULL


cdef inline const floating* at_in(const floating* p, Py_ssize_t n) noexcept nogil:
    return p + n if p != NULL else NULL


cdef inline void copy(Py_ssize_t n, const floating* x, floating* y) noexcept nogil:
    """``y = x``, where both exist."""
    if x != NULL and y != NULL:
        memcpy(y, x, n * sizeof(floating))


cdef double run(
    const Step* step, Py_ssize_t n, const floating* rows, floating* a, floating* b, const floating* p, floating* out
) noexcept nogil:
    """Apply the rule to whole groups of LANES elements where they lie, to the rest in copies; return the squares.

    Every operation is rounded (setup.py), so how the parameters are cut into shards does not change a bit.
    """
    cdef double[LANES] squares
    cdef double total = 0
    cdef Py_ssize_t c, rest = n % LANES, whole = n - rest
    for c in range(LANES):
        squares[c] = 0
    apply_in_blocks(step, whole, rows, a, b, p, out, squares)
    if rest > 0:
        apply_to_rest(step, rest, rows + whole, at(a, whole), at(b, whole), at_in(p, whole), out + whole, squares)
    for c in range(LANES):
        total += squares[c]
    return total


cdef void apply_in_blocks(
    const Step* step, Py_ssize_t n, const floating* rows, floating* a, floating* b, const floating* p, floating* out,
    double* squares,
) noexcept nogil:
    """Apply the rule; to shared parameters by blocks, which go past the caches as they are made."""
    cdef floating[BLOCK] block
    cdef Py_ssize_t start = 0, count
    if not step.shared:
        apply(step, n, rows, a, b, p, out, squares)
        return
    while start < n:
        count = min(<Py_ssize_t> BLOCK, n - start)
        apply(step, count, rows + start, at(a, start), at(b, start), p + start, block, squares)
        stream(block, out + start, count * sizeof(floating))
        start += count


cdef void apply_to_rest(
    const Step* step, Py_ssize_t n, const floating* rows, floating* a, floating* b, const floating* p, floating* out,
    double* squares,
) noexcept nogil:
    """Apply the rule to less than LANES elements, in copies that are filled up with zeros."""
    cdef floating[LANES] row, first, second, param, result
    cdef Step summed = step[0]
    cdef Py_ssize_t _, c
    summed.k = 1
    for c in range(LANES):
        row[c] = first[c] = second[c] = param[c] = 0
    for _ in range(step.k):
        for c in range(n):
            row[c] += rows[c]
        rows += step.stride
    copy(n, a, first)
    copy(n, b, second)
    copy(n, p, param)
    apply(
        &summed, LANES, row, first if a != NULL else NULL, second if b != NULL else NULL, param, result, squares
    )
    copy(n, first, a)
    copy(n, second, b)
    copy(n, result, out)


cdef double run_sums(
    Step step, Py_ssize_t n, const floating* rows, floating* a, floating* b, const floating* p, floating* out
) noexcept nogil:
    """Apply the rule for the sum of many rows."""
    cdef floating[BLOCK] gradient
    cdef double squares = 0
    cdef Py_ssize_t k = step.k, start = 0, count
    step.k = 1
    while start < n:
        count = min(<Py_ssize_t> BLOCK, n - start)
        column_sums(k, count, rows + start, step.stride, gradient)
        squares += run(&step, count, gradient, at(a, start), at(b, start), at_in(p, start), out + start)
        start += count
    return squares


cdef Py_ssize_t first_nonzero(const Step* step, Py_ssize_t start, Py_ssize_t n, const floating* rows) noexcept nogil:
    """Place of the first element from `start` on whose gradient, the sum of the rows, is not 0 (NaN is not); or n."""
    cdef floating[WIDE] g
    cdef floating one
    cdef const floating* each
    cdef Py_ssize_t c, _
    cdef int found
    while start + WIDE <= n:
        each = rows + start
        for c in range(WIDE):
            g[c] = each[c]
        for _ in range(1, step.k):
            each += step.stride
            for c in range(WIDE):
                g[c] += each[c]
        found = 0
        for c in range(WIDE):  # no exit: this loop is vectorised
            found |= g[c] != 0
        if found:
            break
        start += WIDE
    while start < n:
        each = rows + start
        one = each[0]
        for _ in range(1, step.k):
            each += step.stride
            one += each[0]
        if one != 0:
            break
        start += 1
    return start


cdef double run_table(
    const Step* step, Py_ssize_t n, Py_ssize_t row, const floating* rows, floating* a, floating* b, const floating* p,
    floating* out,
) noexcept nogil:
    """Apply the rule to those rows of a table whose gradient is not zero; what is not in place is 0 for the others."""
    cdef double squares = 0
    cdef Py_ssize_t done = 0, start
    while done < n:
        start = first_nonzero(step, done, n, rows) // row * row
        if p != out:
            memset(out + done, 0, (start - done) * sizeof(floating))
        if start < n:
            squares += run(step, row, rows + start, at(a, start), at(b, start), at_in(p, start), out + start)
        done = start + row
    return squares


cdef double run_products(
    Step step, Py_ssize_t i, Py_ssize_t o, const floating* dz, const floating* x,
    floating* a, floating* b, const floating* p, floating* out,
) noexcept nogil:
    """Apply the rule for the gradient ``dz^T x (o, i)``."""
    cdef floating[BLOCK_OUTPUTS * BLOCK_INPUTS + LANES] memory
    cdef floating* dw = <floating*> vector_boundary(memory)
    cdef double squares = 0
    cdef Py_ssize_t r = step.k, stride = step.stride, j = 0, c, outputs, columns, row, start
    step.k = 1
    while j < o:
        outputs = min(<Py_ssize_t> BLOCK_OUTPUTS, o - j)
        c = 0
        while c < i:
            columns = min(<Py_ssize_t> BLOCK_INPUTS, i - c)
            dz_x_tiles(r, columns, outputs, dz + j, stride, x + c, i, SET, dw, columns)
            if columns == i:
                outputs, columns = 1, outputs * i
            for row in range(outputs):
                start = (j + row) * i + c
                squares += run(
                    &step, columns, dw + row * columns, at(a, start), at(b, start), p + start, out + start
                )
            c += columns
        j += BLOCK_OUTPUTS
    return squares


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


def add_scaled(
    const floating[::1] x not None,             # IN  (n,)
    double scale,
    floating[::1] y not None,                   # IN, OUT (n,)
):
    """``y += scale * x``."""
    cdef Py_ssize_t n = x.shape[0], c
    cdef const floating* px = in_1d(x)
    cdef floating* py = out_1d(y)
    cdef floating factor = scale
    expect("length of y", y.shape[0], n)
    with nogil:
        for c in range(n):
            py[c] += factor * px[c]


def sum_of_squares(
    const floating[::1] x not None,             # IN  (n,)
):
    """Sum of the squares of x, in double."""
    cdef double squares
    with nogil:
        squares = total_of_squares(in_1d(x), x.shape[0])
    return squares

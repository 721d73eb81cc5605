"""Updates: sum the gradient rows of the ranks, scale, decay, update the state, write the parameters, in one pass.

Dimensions: n parameters of the shard, k gradient rows.  With `inputs (r, i)` the gradient is that of o rows of a dense
layer's weight, n = o i, and `grads (r, o)` are the gradients dz of its outputs: ``dz^T inputs`` is then computed block
by block and used while it is in the caches.  It is never written to memory.

Every array is read and written once, and the one division and square root of a rule (rules.pxd) hide the rest.  Each
kernel returns the sum of squares, in double, of the summed gradient before scale and decay, or 0 for an average; a
gradient that is not finite shows in it.  `shared` says that other ranks read the parameters: large ones are then
written past the caches (vectors.h).

Of a table, such as the vectors of an embedding, a `row` is updated as a whole or not at all: where its summed gradient
is zero throughout, parameters and state stay as they are (update_rows.pyx: where the rows that occur are known).
"""

from cython cimport floating
from libc.string cimport memset

from onotrain._kernels.arrays cimport expect, in_1d, in_2d, out_1d
from onotrain._kernels.elementary cimport LANES, total_of_squares
from onotrain._kernels.program cimport WRONG_VALUE, Kernel, Moment, at_step, recorded
from onotrain._kernels.rules cimport SUM, Step
from onotrain._kernels.steps cimport (
    BLOCK, COMMON_SCALARS, at, at_in, first_nonzero, run, step_of, take_scalars,
)
from onotrain._kernels.tiles cimport SET, column_sums, dz_x_tiles
from onotrain._kernels.vectors cimport (
    VECTOR_BYTES, can_stream, end_of_stream, flush_subnormals, restore_rounding, vector_boundary,
)

cdef enum:
    # So many rows, as the gradient of a bias has, or that of many ranks, are summed before the rule is applied, many
    # columns side by side.
    MANY_ROWS = 16
    # Of a weight's gradient: as many outputs as its tiles like, and a share of the second-level cache.
    BLOCK_OUTPUTS = 128
    BLOCK_INPUTS = 1024


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

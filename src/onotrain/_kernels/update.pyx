"""Update rules: sum the gradient rows of the ranks, scale, decay, update the state, write the parameters, in one pass.

Dimensions: n parameters of the shard, k gradient rows.  With `inputs (r, i)` the gradient is that of o rows of a dense
layer's weight, n = o i, and `grads (r, o)` are the gradients dz of its outputs: ``dz^T inputs`` is then computed block
by block and used while it is in the caches.  It is never written to memory.

The pass goes by LANES elements, which stay in registers from the first load to the last store: every array is read and
written once, and the one division and square root of a rule hide the rest.  Each kernel returns the sum of squares, in
double, of the summed gradient before scale and decay; a gradient that is not finite shows in it.  `shared` says that
other ranks read the parameters: large ones are then written past the caches (vectors.h).

Formulas are those of torch.optim.  Decay: ``param *= 1 - lr * weight_decay`` before the step if decoupled, else
``gradient += weight_decay * param`` (L2).
"""

from cython cimport floating
from libc.string cimport memcpy, memset

from onotrain._kernels.arrays cimport expect, in_1d, in_2d, out_1d
from onotrain._kernels.elementary cimport LANES, sqrt, total_of_squares
from onotrain._kernels.tiles cimport SET, dz_x_tiles
from onotrain._kernels.vectors cimport (
    VECTOR_BYTES, can_stream, end_of_stream, flush_subnormals, restore_rounding, stream,
)

cdef enum:
    BLOCK = 128
    # Of a weight's gradient: as many outputs as its tiles like, and a share of the second-level cache.
    BLOCK_OUTPUTS = 96
    BLOCK_INPUTS = 1024

cdef enum Rule:
    SUM, SGD, ADAM, RMSPROP, ADAGRAD, LAMB


# What an update is a function of, besides the arrays.
cdef struct Step:
    Rule rule
    double scale            # of the gradient
    double penalty          # weight decay as L2
    double shrink           # of the parameters: 1 - lr * weight_decay if decoupled, else 1
    double lr
    double momentum
    bint nesterov
    double rate1            # of the running means: 1 - beta
    double rate2
    double eps
    double root             # sqrt(1 / correction of the second moment)
    double decay            # weight decay as a part of LAMB's direction
    bint shared             # whether other ranks read the parameters


cdef Step make_step(
    Rule rule, double grad_scale=1, double lr=0, double weight_decay=0, bint decoupled=False, bint shared=False
):
    cdef Step s
    memset(&s, 0, sizeof(Step))
    s.rule, s.scale, s.lr, s.shared = rule, grad_scale, lr, shared
    s.penalty = 0 if decoupled else weight_decay
    s.shrink = 1 - lr * weight_decay if decoupled else 1
    return s


cdef double update(
    Step step,
    const floating[:, :] grads,     # IN  (k, n), or dz (r, o)
    const floating[:, ::1] inputs,  # IN  None, or (r, i)
    floating[::1] state1,           # IN, OUT (n,) or None
    floating[::1] state2,           # IN, OUT (n,) or None
    const floating[::1] param,      # IN  (n,) or None
    floating[::1] out,              # OUT (n,): the new parameters, or what the rule makes instead
) except? -1:
    """Check the shapes and run the rule."""
    cdef Py_ssize_t n = out.shape[0], k = grads.shape[0], i = 1 if inputs is None else inputs.shape[1], stride
    cdef double squares
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
    stride = grads.strides[0] // <Py_ssize_t> sizeof(floating)
    cdef const floating* rows = &grads[0, 0] if n > 0 else NULL
    cdef const floating* x = in_2d(inputs)
    cdef floating* a = out_1d(state1)
    cdef floating* b = out_1d(state2)
    cdef const floating* p = in_1d(param)
    cdef floating* o = out_1d(out)
    step.shared = step.shared and can_stream(o, n * sizeof(floating))
    if i > BLOCK_INPUTS and i * <Py_ssize_t> sizeof(floating) % VECTOR_BYTES != 0:
        step.shared = False  # blocks begin within rows
    cdef unsigned rounding
    with nogil:
        rounding = flush_subnormals()
        if x == NULL:
            squares = run(&step, n, k, stride, rows, a, b, p, o)
        else:
            squares = run_products(&step, k, i, grads.shape[1], rows, stride, x, a, b, p, o)
        restore_rounding(rounding)
        if step.shared:
            end_of_stream()
    return squares


cdef double run(
    const Step* step, Py_ssize_t n, Py_ssize_t k, Py_ssize_t stride, const floating* rows,
    floating* a, floating* b, const floating* p, floating* out,
) noexcept nogil:
    """Whole groups of LANES elements where they lie, the rest in copies that are filled up with zeros.

    Every operation is rounded (setup.py), so how the parameters are cut into shards does not change a bit.
    """
    cdef floating[LANES] row, first, second, param, result
    cdef double[LANES] squares
    cdef double total = 0
    cdef Py_ssize_t _, c, rest = n % LANES, whole = n - rest
    cdef floating* end_of_a = a + whole if a != NULL else NULL
    cdef floating* end_of_b = b + whole if b != NULL else NULL
    cdef floating* end_of_out = out + whole if out != NULL else NULL
    for c in range(LANES):
        squares[c] = row[c] = first[c] = second[c] = param[c] = 0
    while True:
        apply_in_blocks(step, n - n % LANES, k, stride, rows, a, b, p, out, squares)
        if n % LANES == 0:
            break
        for _ in range(k):
            for c in range(rest):
                row[c] += rows[whole + c]
            rows += stride
        copy(rest, end_of_a, first)
        copy(rest, end_of_b, second)
        copy(rest, p + whole if p != NULL else NULL, param)
        a, b, p, out = first if a != NULL else NULL, second if b != NULL else NULL, param, result
        n, k, stride, rows = LANES, 1, 0, row
    copy(rest, first, end_of_a)
    copy(rest, second, end_of_b)
    copy(rest, result, end_of_out)
    for c in range(LANES):
        total += squares[c]
    return total


cdef inline const floating* at(const floating* p, Py_ssize_t n) noexcept nogil:
    return p + n if p != NULL else NULL


cdef double run_products(
    const Step* step, Py_ssize_t r, Py_ssize_t i, Py_ssize_t o, const floating* dz, Py_ssize_t stride,
    const floating* x, floating* a, floating* b, const floating* p, floating* out,
) noexcept nogil:
    """The rule for the gradient ``dz^T x (o, i)``."""
    cdef floating[BLOCK_OUTPUTS * BLOCK_INPUTS] dw
    cdef double squares = 0
    cdef Py_ssize_t j = 0, c, outputs, columns, row, start
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
                    step, columns, 1, 0, dw + row * columns, <floating*> at(a, start), <floating*> at(b, start),
                    at(p, start), out + start,
                )
            c += columns
        j += BLOCK_OUTPUTS
    return squares


cdef inline void copy(Py_ssize_t n, const floating* x, floating* y) noexcept nogil:
    """``y = x``, where both exist."""
    if n > 0 and x != NULL and y != NULL:
        memcpy(y, x, n * sizeof(floating))


cdef void apply_in_blocks(
    const Step* step, Py_ssize_t n, Py_ssize_t k, Py_ssize_t stride, const floating* rows,
    floating* a, floating* b, const floating* p, floating* out, double* squares,
) noexcept nogil:
    """Apply the rule; to shared parameters by blocks, which go past the caches as they are made."""
    cdef floating[BLOCK] block
    cdef Py_ssize_t start = 0, count
    if not step.shared or n <= LANES:
        apply(step, n, k, stride, rows, a, b, p, out, squares)
        return
    while start < n:
        count = min(<Py_ssize_t> BLOCK, n - start)
        apply(
            step, count, k, stride, rows + start, a + start if a != NULL else NULL, b + start if b != NULL else NULL,
            p + start, block, squares,
        )
        stream(block, out + start, count * sizeof(floating))
        start += count


cdef void apply(
    const Step* step, Py_ssize_t n, Py_ssize_t k, Py_ssize_t stride, const floating* rows,
    floating* a, floating* b, const floating* p, floating* out, double* squares,
) noexcept nogil:
    """One function per rule, for n a multiple of LANES."""
    if step.rule == SGD:
        sgd_lanes(step, n, k, stride, rows, a, p, out, squares)
    elif step.rule == ADAM:
        adam_lanes(step, n, k, stride, rows, a, b, p, out, squares)
    elif step.rule == RMSPROP:
        rmsprop_lanes(step, n, k, stride, rows, a, b, p, out, squares)
    elif step.rule == ADAGRAD:
        adagrad_lanes(step, n, k, stride, rows, a, p, out, squares)
    elif step.rule == LAMB:
        lamb_lanes(step, n, k, stride, rows, a, b, p, out, squares)
    else:
        sum_lanes(n, k, stride, rows, out, squares)


cdef inline void sum_rows(
    Py_ssize_t k, Py_ssize_t stride, const floating* rows, floating* g, double* squares
) noexcept nogil:
    """``g = row 0 + row 1 + ...``, in this order on every rank."""
    cdef Py_ssize_t _, c
    for c in range(LANES):
        g[c] = rows[c]
    for _ in range(1, k):
        rows += stride
        for c in range(LANES):
            g[c] += rows[c]
    for c in range(LANES):
        squares[c] += <double> g[c] * <double> g[c]


cdef inline void copy_lanes(const floating* x, floating* y) noexcept nogil:
    """``y = x``."""
    cdef Py_ssize_t c
    for c in range(LANES):
        y[c] = x[c]


cdef inline void gradient_and_parameters(
    const Step* step, Py_ssize_t k, Py_ssize_t stride, const floating* rows, const floating* p,
    floating* g,            # OUT the gradient with scale and decay
    floating* w,            # OUT the parameters after decay
    double* squares,
) noexcept nogil:
    cdef floating scale = step.scale, penalty = step.penalty, shrink = step.shrink
    cdef Py_ssize_t c
    sum_rows(k, stride, rows, g, squares)
    copy_lanes(p, w)
    for c in range(LANES):
        g[c] = g[c] * scale + penalty * w[c]
    for c in range(LANES):
        w[c] *= shrink


cdef void sum_lanes(
    Py_ssize_t n, Py_ssize_t k, Py_ssize_t stride, const floating* rows, floating* out, double* squares
) noexcept nogil:
    cdef floating[LANES] g
    cdef Py_ssize_t start
    start = 0
    while start < n:
        sum_rows(k, stride, rows + start, g, squares)
        copy_lanes(g, out + start)
        start += LANES


def sum_gradients(
    const floating[:, :] grads not None,        # IN  (k, n)
    floating[::1] out not None,                 # OUT (n,), may be a row of grads
):
    """``out = row 0 + row 1 + ...``; returns the sum of squares of out."""
    return update[floating](make_step(SUM), grads, None, None, None, None, out)


cdef inline void momentum_step(
    const Step* step, const floating* g, floating* v, Py_ssize_t start, floating* w
) noexcept nogil:
    """``v = momentum v + g``; ``w -= lr v``, or ``w -= lr (g + momentum v)`` with Nesterov; without v ``w -= lr g``."""
    cdef floating lr = step.lr, momentum = step.momentum
    cdef floating[LANES] velocity
    cdef Py_ssize_t c
    if v == NULL:
        for c in range(LANES):
            w[c] -= lr * g[c]
        return
    for c in range(LANES):
        velocity[c] = momentum * v[start + c] + g[c]
    copy_lanes(velocity, v + start)
    if step.nesterov:
        for c in range(LANES):
            velocity[c] = g[c] + momentum * velocity[c]
    for c in range(LANES):
        w[c] -= lr * velocity[c]


cdef void sgd_lanes(
    const Step* step, Py_ssize_t n, Py_ssize_t k, Py_ssize_t stride, const floating* rows,
    floating* v, const floating* p, floating* out, double* squares,
) noexcept nogil:
    cdef floating[LANES] g, w
    cdef Py_ssize_t start
    start = 0
    while start < n:
        gradient_and_parameters(step, k, stride, rows + start, p + start, g, w, squares)
        momentum_step(step, g, v, start, w)
        copy_lanes(w, out + start)
        start += LANES


def sgd(
    const floating[:, :] grads not None,        # IN  (k, n), or dz (r, o)
    const floating[:, ::1] inputs,              # IN  None, or (r, i)
    double grad_scale,
    double lr,
    double momentum,
    bint nesterov,
    double weight_decay,
    bint decoupled,
    bint shared,
    floating[::1] velocity,                     # IN, OUT (n,), or None without momentum
    floating[::1] param not None,               # IN, OUT (n,)
):
    """``v = momentum v + g``; ``p -= lr v``, or ``p -= lr (g + momentum v)`` with Nesterov."""
    if velocity is None and momentum != 0:
        raise ValueError(f"momentum: got {momentum} without a velocity, expected 0")
    cdef Step step = make_step(SGD, grad_scale, lr, weight_decay, decoupled, shared)
    step.momentum, step.nesterov = momentum, nesterov
    return update[floating](step, grads, inputs, velocity, None, param, param)


cdef void adam_lanes(
    const Step* step, Py_ssize_t n, Py_ssize_t k, Py_ssize_t stride, const floating* rows,
    floating* m, floating* v, const floating* p, floating* out, double* squares,
) noexcept nogil:
    cdef floating[LANES] g, w, first, second
    cdef floating lr = step.lr, rate1 = step.rate1, rate2 = step.rate2, eps = step.eps, root = step.root
    cdef Py_ssize_t start, c
    start = 0
    while start < n:
        gradient_and_parameters(step, k, stride, rows + start, p + start, g, w, squares)
        copy_lanes(m + start, first)
        copy_lanes(v + start, second)
        for c in range(LANES):
            first[c] += rate1 * (g[c] - first[c])
        for c in range(LANES):
            second[c] += rate2 * (g[c] * g[c] - second[c])
        for c in range(LANES):
            w[c] -= lr * first[c] / (root * sqrt(second[c]) + eps)
        copy_lanes(first, m + start)
        copy_lanes(second, v + start)
        copy_lanes(w, out + start)
        start += LANES


def adam(
    const floating[:, :] grads not None,        # IN  (k, n), or dz (r, o)
    const floating[:, ::1] inputs,              # IN  None, or (r, i)
    double grad_scale,
    double lr,
    double beta1,
    double beta2,
    double eps,
    double correction1,
    double correction2,
    double weight_decay,
    bint decoupled,
    bint shared,
    floating[::1] m not None,                   # IN, OUT (n,)
    floating[::1] v not None,                   # IN, OUT (n,)
    floating[::1] param not None,               # IN, OUT (n,)
):
    """Kingma and Ba, arXiv 1412.6980; decoupled (AdamW): Loshchilov and Hutter, arXiv 1711.05101.

    ``m += (1 - beta1) (g - m)``; ``v += (1 - beta2) (g^2 - v)``;
    ``p -= lr / correction1 m / (sqrt(v / correction2) + eps)`` with ``correction = 1 - beta^t`` of step t.
    """
    cdef Step step = make_step(ADAM, grad_scale, lr, weight_decay, decoupled, shared)
    step.lr, step.root = lr / correction1, (1 / correction2) ** 0.5
    step.rate1, step.rate2, step.eps = 1 - beta1, 1 - beta2, eps
    return update[floating](step, grads, inputs, m, v, param, param)


cdef void rmsprop_lanes(
    const Step* step, Py_ssize_t n, Py_ssize_t k, Py_ssize_t stride, const floating* rows,
    floating* s, floating* v, const floating* p, floating* out, double* squares,
) noexcept nogil:
    cdef floating[LANES] g, w, square
    cdef floating rate = step.rate2, eps = step.eps
    cdef Py_ssize_t start, c
    start = 0
    while start < n:
        gradient_and_parameters(step, k, stride, rows + start, p + start, g, w, squares)
        copy_lanes(s + start, square)
        for c in range(LANES):
            square[c] += rate * (g[c] * g[c] - square[c])
        for c in range(LANES):
            g[c] = g[c] / (sqrt(square[c]) + eps)
        copy_lanes(square, s + start)
        momentum_step(step, g, v, start, w)
        copy_lanes(w, out + start)
        start += LANES


def rmsprop(
    const floating[:, :] grads not None,        # IN  (k, n), or dz (r, o)
    const floating[:, ::1] inputs,              # IN  None, or (r, i)
    double grad_scale,
    double lr,
    double alpha,
    double eps,
    double momentum,
    double weight_decay,
    bint decoupled,
    bint shared,
    floating[::1] square not None,              # IN, OUT (n,)
    floating[::1] velocity,                     # IN, OUT (n,), or None without momentum
    floating[::1] param not None,               # IN, OUT (n,)
):
    """``s += (1 - alpha) (g^2 - s)``; ``v = momentum v + g / (sqrt(s) + eps)``; ``p -= lr v``.

    Source: Tieleman and Hinton, Coursera lecture 6e, 2012.
    """
    if velocity is None and momentum != 0:
        raise ValueError(f"momentum: got {momentum} without a velocity, expected 0")
    cdef Step step = make_step(RMSPROP, grad_scale, lr, weight_decay, decoupled, shared)
    step.rate2, step.eps, step.momentum = 1 - alpha, eps, momentum
    return update[floating](step, grads, inputs, square, velocity, param, param)


cdef void adagrad_lanes(
    const Step* step, Py_ssize_t n, Py_ssize_t k, Py_ssize_t stride, const floating* rows,
    floating* s, const floating* p, floating* out, double* squares,
) noexcept nogil:
    cdef floating[LANES] g, w, square
    cdef floating lr = step.lr, eps = step.eps
    cdef Py_ssize_t start, c
    start = 0
    while start < n:
        gradient_and_parameters(step, k, stride, rows + start, p + start, g, w, squares)
        copy_lanes(s + start, square)
        for c in range(LANES):
            square[c] += g[c] * g[c]
        for c in range(LANES):
            w[c] -= lr * g[c] / (sqrt(square[c]) + eps)
        copy_lanes(square, s + start)
        copy_lanes(w, out + start)
        start += LANES


def adagrad(
    const floating[:, :] grads not None,        # IN  (k, n), or dz (r, o)
    const floating[:, ::1] inputs,              # IN  None, or (r, i)
    double grad_scale,
    double lr,
    double eps,
    double weight_decay,
    bint decoupled,
    bint shared,
    floating[::1] square not None,              # IN, OUT (n,)
    floating[::1] param not None,               # IN, OUT (n,)
):
    """``s += g^2``; ``p -= lr g / (sqrt(s) + eps)`` (Duchi, Hazan, Singer, JMLR 12, 2011)."""
    cdef Step step = make_step(ADAGRAD, grad_scale, lr, weight_decay, decoupled, shared)
    step.eps = eps
    return update[floating](step, grads, inputs, square, None, param, param)


cdef void lamb_lanes(
    const Step* step, Py_ssize_t n, Py_ssize_t k, Py_ssize_t stride, const floating* rows,
    floating* m, floating* v, const floating* p, floating* out, double* squares,
) noexcept nogil:
    cdef floating[LANES] g, w, first, second
    cdef floating lr = step.lr, rate1 = step.rate1, rate2 = step.rate2, eps = step.eps, root = step.root
    cdef floating decay = step.decay
    cdef Py_ssize_t start, c
    start = 0
    while start < n:
        gradient_and_parameters(step, k, stride, rows + start, p + start, g, w, squares)
        copy_lanes(m + start, first)
        copy_lanes(v + start, second)
        for c in range(LANES):
            first[c] += rate1 * (g[c] - first[c])
        for c in range(LANES):
            second[c] += rate2 * (g[c] * g[c] - second[c])
        for c in range(LANES):
            w[c] = lr * first[c] / (root * sqrt(second[c]) + eps) + decay * w[c]
        copy_lanes(first, m + start)
        copy_lanes(second, v + start)
        copy_lanes(w, out + start)
        start += LANES


def lamb_direction(
    const floating[:, :] grads not None,        # IN  (k, n)
    double grad_scale,
    double beta1,
    double beta2,
    double eps,
    double correction1,
    double correction2,
    double weight_decay,
    bint decoupled,
    const floating[::1] param not None,         # IN  (n,)
    floating[::1] m not None,                   # IN, OUT (n,)
    floating[::1] v not None,                   # IN, OUT (n,)
    floating[::1] direction not None,           # OUT (n,), may be a row of grads
):
    """The step of LAMB before its length is set by the norms of each tensor (You et al., arXiv 1904.00962).

    Moments as in Adam; ``direction = m / correction1 / (sqrt(v / correction2) + eps) + weight_decay p`` if decoupled.
    """
    cdef Step step = make_step(LAMB, grad_scale, 0, weight_decay, decoupled)
    step.lr, step.root = 1 / correction1, (1 / correction2) ** 0.5
    step.rate1, step.rate2, step.eps = 1 - beta1, 1 - beta2, eps
    step.decay = weight_decay if decoupled else 0
    return update[floating](step, grads, None, m, v, param, direction)


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

"""Update rules: sum the gradient rows of the ranks, scale, decay, update the state, write the parameters, in one pass.

Dimensions: n parameters of the shard, k gradient rows.

The pass goes by blocks: the summed gradient of a block waits in the first-level cache, the simple loops over it are
vectorised, and every array is read and written once.  Each kernel returns the sum of squares, in double, of the summed
gradient before scale and decay; a gradient that is not finite shows in it.

Formulas are those of torch.optim.  Decay: ``param *= 1 - lr * weight_decay`` before the step if decoupled, else
``gradient += weight_decay * param`` (L2).
"""

from cython cimport floating

from onotrain._kernels.arrays cimport expect, in_1d, out_1d
from onotrain._kernels.elementary cimport sqrt, total_of_squares

cdef enum:
    BLOCK = 512


cdef int check_gradients(const floating[:, :] grads, Py_ssize_t n) except -1:
    """The rows may lie anywhere, the elements of a row must be neighbours."""
    if grads.shape[0] < 1:
        raise ValueError("grads: got no rows, expected at least one")
    if grads.shape[1] > 1 and grads.strides[1] != sizeof(floating):
        raise ValueError("grads: got rows with gaps, expected contiguous ones")
    if grads.strides[0] % sizeof(floating) != 0:
        raise ValueError("grads: got rows that are not aligned to their elements")
    return expect("columns of grads", grads.shape[1], n)


cdef inline Py_ssize_t row_stride(const floating[:, :] grads) noexcept nogil:
    """Elements from one gradient row to the next."""
    return grads.strides[0] // <Py_ssize_t> sizeof(floating)


cdef inline const floating* first(const floating[:, :] grads) noexcept nogil:
    return &grads[0, 0] if grads.shape[1] > 0 else NULL


cdef double sum_rows(
    Py_ssize_t k,
    Py_ssize_t stride,
    Py_ssize_t count,
    const floating* grads,      # IN  (k, count)
    floating* g,                # OUT (count,)
) noexcept nogil:
    """``g = row 0 + row 1 + ...``, in this order on every rank; returns the sum of squares of g."""
    cdef Py_ssize_t _, c
    for c in range(count):
        g[c] = grads[c]
    for _ in range(1, k):
        grads += stride
        for c in range(count):
            g[c] += grads[c]
    return total_of_squares(g, count)


cdef void scale_and_decay(
    Py_ssize_t count,
    floating scale,
    floating penalty,       # of L2
    floating shrink,        # 1 - learning_rate * weight_decay if decoupled, else 1
    floating* g,            # IN, OUT (count,)
    floating* param,        # IN, OUT (count,)
) noexcept nogil:
    cdef Py_ssize_t c
    if scale != 1:
        for c in range(count):
            g[c] *= scale
    if penalty != 0:
        for c in range(count):
            g[c] += penalty * param[c]
    if shrink != 1:
        for c in range(count):
            param[c] *= shrink


def sum_gradients(
    const floating[:, :] grads not None,        # IN  (k, n)
    floating[::1] out not None,                 # OUT (n,), may be a row of grads
):
    """``out = row 0 + row 1 + ...``; returns the sum of squares of out."""
    cdef floating[BLOCK] g
    cdef Py_ssize_t n = out.shape[0], start, count, c
    cdef double squares = 0
    check_gradients(grads, n)
    cdef Py_ssize_t k = grads.shape[0], stride = row_stride(grads)
    cdef const floating* rows = first(grads)
    cdef floating* y = out_1d(out)
    with nogil:
        start = 0
        while start < n:
            count = min(<Py_ssize_t> BLOCK, n - start)
            squares += sum_rows(k, stride, count, rows + start, g)
            for c in range(count):
                y[start + c] = g[c]
            start += BLOCK
    return squares


def sgd(
    const floating[:, :] grads not None,        # IN  (k, n)
    double grad_scale,
    double lr,
    double momentum,
    bint nesterov,
    double weight_decay,
    bint decoupled,
    floating[::1] velocity,                     # IN, OUT (n,), or None without momentum
    floating[::1] param not None,               # IN, OUT (n,)
):
    """``v = momentum v + g``; ``p -= lr v``, or ``p -= lr (g + momentum v)`` with Nesterov."""
    cdef floating[BLOCK] g
    cdef Py_ssize_t n = param.shape[0], start, count
    cdef double squares = 0
    cdef floating penalty = 0 if decoupled else weight_decay
    cdef floating shrink = 1 - lr * weight_decay if decoupled else 1
    check_gradients(grads, n)
    expect("length of velocity", n if velocity is None else velocity.shape[0], n)
    if velocity is None and momentum != 0:
        raise ValueError(f"momentum: got {momentum} without a velocity, expected 0")
    cdef Py_ssize_t k = grads.shape[0], stride = row_stride(grads)
    cdef const floating* rows = first(grads)
    cdef floating* v = out_1d(velocity)
    cdef floating* p = out_1d(param)
    with nogil:
        start = 0
        while start < n:
            count = min(<Py_ssize_t> BLOCK, n - start)
            squares += sum_rows(k, stride, count, rows + start, g)
            scale_and_decay(count, <floating> grad_scale, penalty, shrink, g, p + start)
            sgd_block(
                count, <floating> lr, <floating> momentum, nesterov, g, v + start if v != NULL else NULL, p + start
            )
            start += BLOCK
    return squares


cdef void sgd_block(
    Py_ssize_t count, floating lr, floating momentum, bint nesterov, const floating* g, floating* v, floating* p
) noexcept nogil:
    cdef Py_ssize_t c
    if v == NULL:
        for c in range(count):
            p[c] -= lr * g[c]
    elif nesterov:
        for c in range(count):
            v[c] = momentum * v[c] + g[c]
            p[c] -= lr * (g[c] + momentum * v[c])
    else:
        for c in range(count):
            v[c] = momentum * v[c] + g[c]
            p[c] -= lr * v[c]


def adam(
    const floating[:, :] grads not None,        # IN  (k, n)
    double grad_scale,
    double lr,
    double beta1,
    double beta2,
    double eps,
    double correction1,
    double correction2,
    double weight_decay,
    bint decoupled,
    floating[::1] m not None,                   # IN, OUT (n,)
    floating[::1] v not None,                   # IN, OUT (n,)
    floating[::1] param not None,               # IN, OUT (n,)
):
    """Kingma and Ba, arXiv 1412.6980; decoupled (AdamW): Loshchilov and Hutter, arXiv 1711.05101.

    ``m += (1 - beta1) (g - m)``; ``v += (1 - beta2) (g^2 - v)``;
    ``p -= lr / correction1 m / (sqrt(v / correction2) + eps)`` with ``correction = 1 - beta^t`` of step t.
    """
    cdef floating[BLOCK] g
    cdef Py_ssize_t n = param.shape[0], start, count
    cdef double squares = 0
    cdef floating penalty = 0 if decoupled else weight_decay
    cdef floating shrink = 1 - lr * weight_decay if decoupled else 1
    check_gradients(grads, n)
    expect("length of m", m.shape[0], n)
    expect("length of v", v.shape[0], n)
    cdef Py_ssize_t k = grads.shape[0], stride = row_stride(grads)
    cdef const floating* rows = first(grads)
    cdef floating* pm = out_1d(m)
    cdef floating* pv = out_1d(v)
    cdef floating* p = out_1d(param)
    with nogil:
        start = 0
        while start < n:
            count = min(<Py_ssize_t> BLOCK, n - start)
            squares += sum_rows(k, stride, count, rows + start, g)
            scale_and_decay(count, <floating> grad_scale, penalty, shrink, g, p + start)
            adam_block(
                count, <floating> (lr / correction1), <floating> (1 - beta1), <floating> (1 - beta2), <floating> eps,
                <floating> (1 / correction2) ** 0.5, g, pm + start, pv + start, p + start,
            )
            start += BLOCK
    return squares


cdef void adam_block(
    Py_ssize_t count, floating step, floating rate1, floating rate2, floating eps, floating root,
    const floating* g, floating* m, floating* v, floating* p,
) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(count):
        m[c] += rate1 * (g[c] - m[c])
        v[c] += rate2 * (g[c] * g[c] - v[c])
        p[c] -= step * m[c] / (root * sqrt(v[c]) + eps)


def rmsprop(
    const floating[:, :] grads not None,        # IN  (k, n)
    double grad_scale,
    double lr,
    double alpha,
    double eps,
    double momentum,
    double weight_decay,
    bint decoupled,
    floating[::1] square not None,              # IN, OUT (n,)
    floating[::1] velocity,                     # IN, OUT (n,), or None without momentum
    floating[::1] param not None,               # IN, OUT (n,)
):
    """``s += (1 - alpha) (g^2 - s)``; ``v = momentum v + g / (sqrt(s) + eps)``; ``p -= lr v``.

    Source: Tieleman and Hinton, Coursera lecture 6e, 2012.
    """
    cdef floating[BLOCK] g
    cdef Py_ssize_t n = param.shape[0], start, count
    cdef double squares = 0
    cdef floating penalty = 0 if decoupled else weight_decay
    cdef floating shrink = 1 - lr * weight_decay if decoupled else 1
    check_gradients(grads, n)
    expect("length of square", square.shape[0], n)
    expect("length of velocity", n if velocity is None else velocity.shape[0], n)
    if velocity is None and momentum != 0:
        raise ValueError(f"momentum: got {momentum} without a velocity, expected 0")
    cdef Py_ssize_t k = grads.shape[0], stride = row_stride(grads)
    cdef const floating* rows = first(grads)
    cdef floating* s = out_1d(square)
    cdef floating* v = out_1d(velocity)
    cdef floating* p = out_1d(param)
    with nogil:
        start = 0
        while start < n:
            count = min(<Py_ssize_t> BLOCK, n - start)
            squares += sum_rows(k, stride, count, rows + start, g)
            scale_and_decay(count, <floating> grad_scale, penalty, shrink, g, p + start)
            rmsprop_block(count, <floating> (1 - alpha), <floating> eps, g, s + start)
            sgd_block(count, <floating> lr, <floating> momentum, False, g, v + start if v != NULL else NULL, p + start)
            start += BLOCK
    return squares


cdef void rmsprop_block(Py_ssize_t count, floating rate, floating eps, floating* g, floating* s) noexcept nogil:
    """Divide g by the root of its running mean square; what follows is sgd."""
    cdef Py_ssize_t c
    for c in range(count):
        s[c] += rate * (g[c] * g[c] - s[c])
        g[c] = g[c] / (sqrt(s[c]) + eps)


def adagrad(
    const floating[:, :] grads not None,        # IN  (k, n)
    double grad_scale,
    double lr,
    double eps,
    double weight_decay,
    bint decoupled,
    floating[::1] square not None,              # IN, OUT (n,)
    floating[::1] param not None,               # IN, OUT (n,)
):
    """``s += g^2``; ``p -= lr g / (sqrt(s) + eps)`` (Duchi, Hazan, Singer, JMLR 12, 2011)."""
    cdef floating[BLOCK] g
    cdef Py_ssize_t n = param.shape[0], start, count
    cdef double squares = 0
    cdef floating penalty = 0 if decoupled else weight_decay
    cdef floating shrink = 1 - lr * weight_decay if decoupled else 1
    check_gradients(grads, n)
    expect("length of square", square.shape[0], n)
    cdef Py_ssize_t k = grads.shape[0], stride = row_stride(grads)
    cdef const floating* rows = first(grads)
    cdef floating* s = out_1d(square)
    cdef floating* p = out_1d(param)
    with nogil:
        start = 0
        while start < n:
            count = min(<Py_ssize_t> BLOCK, n - start)
            squares += sum_rows(k, stride, count, rows + start, g)
            scale_and_decay(count, <floating> grad_scale, penalty, shrink, g, p + start)
            adagrad_block(count, <floating> lr, <floating> eps, g, s + start, p + start)
            start += BLOCK
    return squares


cdef void adagrad_block(
    Py_ssize_t count, floating lr, floating eps, const floating* g, floating* s, floating* p
) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(count):
        s[c] += g[c] * g[c]
        p[c] -= lr * g[c] / (sqrt(s[c]) + eps)


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
    cdef floating[BLOCK] g
    cdef Py_ssize_t n = param.shape[0], start, count
    cdef double squares = 0
    check_gradients(grads, n)
    expect("length of m", m.shape[0], n)
    expect("length of v", v.shape[0], n)
    expect("length of direction", direction.shape[0], n)
    cdef Py_ssize_t k = grads.shape[0], stride = row_stride(grads)
    cdef const floating* rows = first(grads)
    cdef const floating* p = in_1d(param)
    cdef floating* pm = out_1d(m)
    cdef floating* pv = out_1d(v)
    cdef floating* step = out_1d(direction)
    with nogil:
        start = 0
        while start < n:
            count = min(<Py_ssize_t> BLOCK, n - start)
            squares += sum_rows(k, stride, count, rows + start, g)
            # without shrinking, scale_and_decay only reads the parameters
            scale_and_decay(
                count, <floating> grad_scale, <floating> (0 if decoupled else weight_decay), <floating> 1,
                g, <floating*> p + start,
            )
            lamb_block(
                count, <floating> (1 / correction1), <floating> (1 - beta1), <floating> (1 - beta2), <floating> eps,
                <floating> (1 / correction2) ** 0.5, <floating> (weight_decay if decoupled else 0),
                g, p + start, pm + start, pv + start, step + start,
            )
            start += BLOCK
    return squares


cdef void lamb_block(
    Py_ssize_t count, floating step, floating rate1, floating rate2, floating eps, floating root, floating decay,
    const floating* g, const floating* p, floating* m, floating* v, floating* direction,
) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(count):
        m[c] += rate1 * (g[c] - m[c])
        v[c] += rate2 * (g[c] * g[c] - v[c])
        direction[c] = step * m[c] / (root * sqrt(v[c]) + eps) + decay * p[c]


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

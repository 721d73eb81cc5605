"""The kernels of the update rules, on groups of LANES elements that stay in registers from load to store.

A rule has a function here, and a line each in `Rule`, `rule_of` and `apply`.  All else about it, its formula in NumPy
included, is its class in ``onotrain/config/optimizer.py``; the scalars come in the order of that formula.

Dimensions: n parameters, a multiple of LANES, and k gradient rows, `stride` elements apart.
"""

from cython cimport floating

from onotrain._kernels.arrays cimport expect
from onotrain._kernels.elementary cimport LANES, sqrt

cdef enum:
    MOST_SCALARS = 8

cdef enum Rule:
    SUM, SGD, ADAM, RMSPROP, ADAGRAD, LAMB, LION, NADAM, AVERAGE


# What an update is a function of, besides the arrays.
cdef struct Step:
    Rule rule
    Py_ssize_t k
    Py_ssize_t stride
    bint shared                     # whether other ranks read the parameters
    double scale                    # of the gradient
    double penalty                  # weight decay as L2
    double shrink                   # of the parameters: decoupled weight decay
    double[MOST_SCALARS] scalars    # of the rule


cdef inline int rule_of(str name, const double* s, Py_ssize_t scalars, Py_ssize_t states) except -1:
    """Return the rule of this name, if it has that number of scalars, which are s, and of state vectors."""
    if name == "sgd":
        return expect_counts(SGD, scalars, 3, states, s[1] != 0)
    if name == "adam":
        return expect_counts(ADAM, scalars, 5, states, 2)
    if name == "rmsprop":
        return expect_counts(RMSPROP, scalars, 4, states, 1 + (s[1] != 0))
    if name == "adagrad":
        return expect_counts(ADAGRAD, scalars, 2, states, 1)
    if name == "lamb":
        return expect_counts(LAMB, scalars, 6, states, 2)
    if name == "lion":
        return expect_counts(LION, scalars, 3, states, 1)
    if name == "nadam":
        return expect_counts(NADAM, scalars, 6, states, 2)
    if name == "average":
        return expect_counts(AVERAGE, scalars, 1, states, 0)
    raise ValueError(f"rule: got {name!r}, expected one that has a kernel")


cdef inline int expect_counts(
    Rule rule, Py_ssize_t scalars, Py_ssize_t expected_scalars, Py_ssize_t states, Py_ssize_t expected_states
) except -1:
    expect("scalars of the rule", scalars, expected_scalars)
    expect("state vectors of the rule", states, expected_states)
    return rule


cdef inline void apply(
    const Step* step, Py_ssize_t n, const floating* rows, floating* a, floating* b, const floating* p, floating* out,
    double* squares,
) noexcept nogil:
    """Apply the rule to n elements; a and b are its state."""
    if step.rule == SGD:
        sgd(step, n, rows, a, p, out, squares)
    elif step.rule == ADAM:
        adam(step, n, rows, a, b, p, out, squares)
    elif step.rule == RMSPROP:
        rmsprop(step, n, rows, a, b, p, out, squares)
    elif step.rule == ADAGRAD:
        adagrad(step, n, rows, a, p, out, squares)
    elif step.rule == LAMB:
        lamb(step, n, rows, a, b, p, out, squares)
    elif step.rule == LION:
        lion(step, n, rows, a, p, out, squares)
    elif step.rule == NADAM:
        nadam(step, n, rows, a, b, p, out, squares)
    elif step.rule == AVERAGE:
        average(step, n, rows, p, out, squares)
    else:
        add_rows(step, n, rows, out, squares)


cdef inline void copy_lanes(const floating* x, floating* y) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(LANES):
        y[c] = x[c]


cdef inline void sum_rows(const Step* step, const floating* rows, floating* g, double* squares) noexcept nogil:
    """``g = row 0 + row 1 + ...``, in this order on every rank."""
    cdef Py_ssize_t _, c
    for c in range(LANES):
        g[c] = rows[c]
    for _ in range(1, step.k):
        rows += step.stride
        for c in range(LANES):
            g[c] += rows[c]
    for c in range(LANES):
        squares[c] += <double> g[c] * <double> g[c]


cdef inline void begin(
    const Step* step, const floating* rows, const floating* p,
    floating* g,            # OUT gradient with scale and decay
    floating* w,            # OUT parameters after decay
    double* squares,
) noexcept nogil:
    cdef floating scale = step.scale, penalty = step.penalty, shrink = step.shrink
    cdef Py_ssize_t c
    sum_rows(step, rows, g, squares)
    copy_lanes(p, w)
    for c in range(LANES):
        g[c] = g[c] * scale + penalty * w[c]
    for c in range(LANES):
        w[c] *= shrink


cdef inline void add_rows(
    const Step* step, Py_ssize_t n, const floating* rows, floating* out, double* squares
) noexcept nogil:
    cdef floating[LANES] g
    cdef Py_ssize_t start = 0
    while start < n:
        sum_rows(step, rows + start, g, squares)
        copy_lanes(g, out + start)
        start += LANES


cdef inline void descend(
    floating lr, floating momentum, bint nesterov, const floating* g, floating* v, floating* w
) noexcept nogil:
    """``w -= lr g``; with v ``v = momentum v + g``, ``w -= lr v``, or ``w -= lr (g + momentum v)`` with Nesterov."""
    cdef floating[LANES] velocity
    cdef Py_ssize_t c
    if v == NULL:
        for c in range(LANES):
            w[c] -= lr * g[c]
        return
    for c in range(LANES):
        velocity[c] = momentum * v[c] + g[c]
    copy_lanes(velocity, v)
    if nesterov:
        for c in range(LANES):
            velocity[c] = g[c] + momentum * velocity[c]
    for c in range(LANES):
        w[c] -= lr * velocity[c]


cdef inline void sgd(
    const Step* step, Py_ssize_t n, const floating* rows, floating* v, const floating* p, floating* out,
    double* squares,
) noexcept nogil:
    cdef floating[LANES] g, w
    cdef floating lr = step.scalars[0], momentum = step.scalars[1]
    cdef bint nesterov = step.scalars[2] != 0
    cdef Py_ssize_t start = 0
    while start < n:
        begin(step, rows + start, p + start, g, w, squares)
        descend(lr, momentum, nesterov, g, v + start if v != NULL else NULL, w)
        copy_lanes(w, out + start)
        start += LANES


cdef inline void moments(
    floating rate1, floating rate2, const floating* g, floating* m, floating* v, floating* first, floating* second
) noexcept nogil:
    """``m += rate1 (g - m)``, ``v += rate2 (g^2 - v)``, which are left in `first` and `second`."""
    cdef Py_ssize_t c
    copy_lanes(m, first)
    copy_lanes(v, second)
    for c in range(LANES):
        first[c] += rate1 * (g[c] - first[c])
    for c in range(LANES):
        second[c] += rate2 * (g[c] * g[c] - second[c])
    copy_lanes(first, m)
    copy_lanes(second, v)


cdef inline void adam(
    const Step* step, Py_ssize_t n, const floating* rows, floating* m, floating* v, const floating* p, floating* out,
    double* squares,
) noexcept nogil:
    cdef floating[LANES] g, w, first, second
    cdef floating lr = step.scalars[0], root = step.scalars[1], rate1 = step.scalars[2], rate2 = step.scalars[3]
    cdef floating eps = step.scalars[4]
    cdef Py_ssize_t start = 0, c
    while start < n:
        begin(step, rows + start, p + start, g, w, squares)
        moments(rate1, rate2, g, m + start, v + start, first, second)
        for c in range(LANES):
            w[c] -= lr * first[c] / (root * sqrt(second[c]) + eps)
        copy_lanes(w, out + start)
        start += LANES


cdef inline void rmsprop(
    const Step* step, Py_ssize_t n, const floating* rows, floating* s, floating* v, const floating* p, floating* out,
    double* squares,
) noexcept nogil:
    cdef floating[LANES] g, w, square
    cdef floating lr = step.scalars[0], momentum = step.scalars[1], rate = step.scalars[2], eps = step.scalars[3]
    cdef Py_ssize_t start = 0, c
    while start < n:
        begin(step, rows + start, p + start, g, w, squares)
        copy_lanes(s + start, square)
        for c in range(LANES):
            square[c] += rate * (g[c] * g[c] - square[c])
        for c in range(LANES):
            g[c] = g[c] / (sqrt(square[c]) + eps)
        copy_lanes(square, s + start)
        descend(lr, momentum, False, g, v + start if v != NULL else NULL, w)
        copy_lanes(w, out + start)
        start += LANES


cdef inline void adagrad(
    const Step* step, Py_ssize_t n, const floating* rows, floating* s, const floating* p, floating* out,
    double* squares,
) noexcept nogil:
    cdef floating[LANES] g, w, square
    cdef floating lr = step.scalars[0], eps = step.scalars[1]
    cdef Py_ssize_t start = 0, c
    while start < n:
        begin(step, rows + start, p + start, g, w, squares)
        copy_lanes(s + start, square)
        for c in range(LANES):
            square[c] += g[c] * g[c]
        for c in range(LANES):
            w[c] -= lr * g[c] / (sqrt(square[c]) + eps)
        copy_lanes(square, s + start)
        copy_lanes(w, out + start)
        start += LANES


cdef inline void lamb(
    const Step* step, Py_ssize_t n, const floating* rows, floating* m, floating* v, const floating* p, floating* out,
    double* squares,
) noexcept nogil:
    cdef floating[LANES] g, w, first, second
    cdef floating factor = step.scalars[0], root = step.scalars[1], rate1 = step.scalars[2], rate2 = step.scalars[3]
    cdef floating eps = step.scalars[4], decay = step.scalars[5]
    cdef Py_ssize_t start = 0, c
    while start < n:
        begin(step, rows + start, p + start, g, w, squares)
        moments(rate1, rate2, g, m + start, v + start, first, second)
        for c in range(LANES):
            w[c] = factor * first[c] / (root * sqrt(second[c]) + eps) + decay * w[c]
        copy_lanes(w, out + start)
        start += LANES


cdef inline floating sign(floating x) noexcept nogil:
    """Without a branch, so that it is vectorised; 0 for NaN, which is in the momentum and the squares."""
    return <floating> ((x > 0) - (x < 0))


cdef inline void lion(
    const Step* step, Py_ssize_t n, const floating* rows, floating* m, const floating* p, floating* out,
    double* squares,
) noexcept nogil:
    cdef floating[LANES] g, w, mean
    cdef floating lr = step.scalars[0], rate1 = step.scalars[1], rate2 = step.scalars[2]
    cdef Py_ssize_t start = 0, c
    while start < n:
        begin(step, rows + start, p + start, g, w, squares)
        copy_lanes(m + start, mean)
        for c in range(LANES):
            w[c] -= lr * sign(mean[c] + rate1 * (g[c] - mean[c]))
        for c in range(LANES):
            mean[c] += rate2 * (g[c] - mean[c])
        copy_lanes(mean, m + start)
        copy_lanes(w, out + start)
        start += LANES


cdef inline void nadam(
    const Step* step, Py_ssize_t n, const floating* rows, floating* m, floating* v, const floating* p, floating* out,
    double* squares,
) noexcept nogil:
    cdef floating[LANES] g, w, first, second
    cdef floating of_gradient = step.scalars[0], of_mean = step.scalars[1], root = step.scalars[2]
    cdef floating rate1 = step.scalars[3], rate2 = step.scalars[4], eps = step.scalars[5]
    cdef Py_ssize_t start = 0, c
    while start < n:
        begin(step, rows + start, p + start, g, w, squares)
        moments(rate1, rate2, g, m + start, v + start, first, second)
        for c in range(LANES):
            w[c] -= (of_gradient * g[c] + of_mean * first[c]) / (root * sqrt(second[c]) + eps)
        copy_lanes(w, out + start)
        start += LANES


cdef inline void average(
    const Step* step, Py_ssize_t n, const floating* rows, const floating* p, floating* out, double* squares
) noexcept nogil:
    """Its gradient is in no norm: of the squares only that they are not finite is left."""
    cdef floating[LANES] g, w
    cdef double[LANES] own
    cdef floating rate = step.scalars[0]
    cdef Py_ssize_t start = 0, c
    while start < n:
        for c in range(LANES):
            own[c] = 0
        begin(step, rows + start, p + start, g, w, own)
        for c in range(LANES):
            squares[c] += 0 * own[c]
        for c in range(LANES):
            w[c] -= rate * g[c]
        copy_lanes(w, out + start)
        start += LANES

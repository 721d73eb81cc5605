"""What is computed value by value: activations and dropout in front of which no dense layer stands, and sums.

Dimensions: r rows of the batch on this rank, i inputs, n values.
"""

from cython cimport floating
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from onotrain._kernels.activated_rows cimport activate_rows, predict_rows
from onotrain._kernels.activations cimport check_activation
from onotrain._kernels.arrays cimport expect, expect_shape, in_1d, in_2d, out_1d, out_2d
from onotrain._kernels.philox cimport Draw, at, make_draw
from onotrain._kernels.program cimport Kernel, Moment, at_step, recorded

cdef enum:
    SUMS = 256      # of columns that are added up at the same time


cdef struct Forward:
    Py_ssize_t r
    Py_ssize_t i
    int activation
    double negative_slope
    Draw draw
    void* slope
    void* y


cdef int run_elementwise_forward(const floating* x, const Forward* a, const Moment* now) noexcept nogil:
    cdef Draw draw = at(a.draw, now.step)
    cdef floating* slope = <floating*> a.slope
    if a.r == 0 or a.i == 0:
        return 0
    memcpy(slope, x, a.r * a.i * sizeof(floating))  # y may be x
    activate_rows(
        a.r, a.i, a.i, NULL, a.activation, <floating> a.negative_slope, draw, 0, slope, <floating*> a.y
    )
    return 0


def elementwise_forward(
    const floating[:, ::1] x not None,          # IN  (r, i)
    int activation,
    double negative_slope,
    double dropout,
    uint64_t seed,
    long long step,
    long long layer,
    long long first_row,
    floating[:, ::1] slope not None,            # OUT (r, i)
    floating[:, ::1] y not None,                # OUT (r, i)
    bint record=False,
):
    """``y = dropout(activation(x))`` and ``slope = dy/dx``."""
    cdef Py_ssize_t r = x.shape[0], i = x.shape[1]
    cdef Draw draw = make_draw(dropout, seed, layer, first_row)
    cdef Moment now = at_step(step)
    cdef Forward a = Forward(r, i, activation, negative_slope, draw, out_2d(slope), out_2d(y))
    check_activation(activation)
    expect_shape("slope", slope, r, i)
    expect_shape("y", y, r, i)
    if record:
        return recorded(<Kernel> run_elementwise_forward[floating], in_2d(x), &a, sizeof(a), (x, slope, y), "")
    with nogil:
        run_elementwise_forward(in_2d(x), &a, &now)


cdef struct Backward:
    Py_ssize_t n
    const void* dy
    void* dx


cdef int run_elementwise_backward(
    const floating* slope, const Backward* a, const Moment* now
) noexcept nogil:
    cdef Py_ssize_t c
    cdef const floating* dy = <const floating*> a.dy
    cdef floating* dx = <floating*> a.dx
    if slope == NULL and a.n > 0:
        memcpy(dx, dy, a.n * sizeof(floating))
    else:
        for c in range(a.n):
            dx[c] = dy[c] * slope[c]
    return 0


def elementwise_backward(
    const floating[:, ::1] slope,               # IN  (r, i), or None: 1
    const floating[:, ::1] dy not None,         # IN  (r, i)
    floating[:, ::1] dx not None,               # OUT (r, i)
    bint record=False,
):
    """``dx = dy * slope``."""
    cdef Py_ssize_t r = dy.shape[0], i = dy.shape[1]
    cdef Moment now = at_step(0)
    cdef Backward a = Backward(r * i, in_2d(dy), out_2d(dx))
    if slope is not None:
        expect_shape("slope", slope, r, i)
    expect_shape("dx", dx, r, i)
    if record:
        return recorded(<Kernel> run_elementwise_backward[floating], in_2d(slope), &a, sizeof(a), (slope, dy, dx), "")
    with nogil:
        run_elementwise_backward(in_2d(slope), &a, &now)


cdef struct Prediction:
    Py_ssize_t r
    Py_ssize_t i
    int activation
    double negative_slope
    void* y


cdef int run_elementwise_predict(const floating* x, const Prediction* a, const Moment* now) noexcept nogil:
    if a.r > 0 and a.i > 0:
        if a.y != x:
            memcpy(a.y, x, a.r * a.i * sizeof(floating))
        predict_rows(a.r, a.i, a.i, NULL, a.activation, <floating> a.negative_slope, <floating*> a.y)
    return 0


def elementwise_predict(
    const floating[:, ::1] x not None,          # IN  (r, i)
    int activation,
    double negative_slope,
    floating[:, ::1] y not None,                # OUT (r, i)
    bint record=False,
):
    """``y = activation(x)``."""
    cdef Py_ssize_t r = x.shape[0], i = x.shape[1]
    cdef Moment now = at_step(0)
    cdef Prediction a = Prediction(r, i, activation, negative_slope, out_2d(y))
    check_activation(activation)
    expect_shape("y", y, r, i)
    if record:
        return recorded(<Kernel> run_elementwise_predict[floating], in_2d(x), &a, sizeof(a), (x, y), "")
    with nogil:
        run_elementwise_predict(in_2d(x), &a, &now)


cdef struct Sum:
    Py_ssize_t r
    Py_ssize_t i
    bint accumulate
    void* out


cdef int run_sum_rows(const floating* x, const Sum* a, const Moment* now) noexcept nogil:
    cdef double[SUMS] sums
    cdef floating* out = <floating*> a.out
    cdef Py_ssize_t first, n, row, c
    first = 0
    while first < a.i:
        n = min(<Py_ssize_t> SUMS, a.i - first)
        for c in range(n):
            sums[c] = out[first + c] if a.accumulate else 0
        for row in range(a.r):
            for c in range(n):
                sums[c] += x[row * a.i + first + c]
        for c in range(n):
            out[first + c] = <floating> sums[c]
        first += SUMS
    return 0


def sum_rows(
    const floating[:, ::1] x not None,          # IN  (r, i)
    bint accumulate,
    floating[::1] out not None,                 # OUT (i,)
    bint record=False,
):
    """``out = sum of the rows of x``, or added to what is there."""
    cdef Py_ssize_t r = x.shape[0], i = x.shape[1]
    cdef Moment now = at_step(0)
    cdef Sum a = Sum(r, i, accumulate, out_1d(out))
    expect("length of out", out.shape[0], i)
    if record:
        return recorded(<Kernel> run_sum_rows[floating], in_2d(x), &a, sizeof(a), (x, out), "")
    with nogil:
        run_sum_rows(in_2d(x), &a, &now)


cdef struct Pair:
    Py_ssize_t n
    const void* b
    void* y


cdef int run_add(const floating* x, const Pair* a, const Moment* now) noexcept nogil:
    cdef Py_ssize_t c
    cdef floating* y = <floating*> a.y
    for c in range(a.n):
        y[c] += x[c]
    return 0


def add(
    const floating[::1] x not None,             # IN  (n,)
    floating[::1] y not None,                   # IN, OUT (n,)
    bint record=False,
):
    """``y += x``."""
    cdef Moment now = at_step(0)
    cdef Pair a = Pair(x.shape[0], NULL, out_1d(y))
    expect("length of y", y.shape[0], a.n)
    if record:
        return recorded(<Kernel> run_add[floating], in_1d(x), &a, sizeof(a), (x, y), "")
    with nogil:
        run_add(in_1d(x), &a, &now)


cdef int run_sum_of_two(const floating* x, const Pair* a, const Moment* now) noexcept nogil:
    cdef Py_ssize_t c
    cdef const floating* b = <const floating*> a.b
    cdef floating* y = <floating*> a.y
    for c in range(a.n):
        y[c] = x[c] + b[c]
    return 0


def sum_of_two(
    const floating[::1] a not None,             # IN  (n,)
    const floating[::1] b not None,             # IN  (n,)
    floating[::1] y not None,                   # OUT (n,)
    bint record=False,
):
    """``y = a + b``."""
    cdef Moment now = at_step(0)
    cdef Pair arguments = Pair(a.shape[0], in_1d(b), out_1d(y))
    expect("length of b", b.shape[0], arguments.n)
    expect("length of y", y.shape[0], arguments.n)
    if record:
        return recorded(
            <Kernel> run_sum_of_two[floating], in_1d(a), &arguments, sizeof(arguments), (a, b, y), ""
        )
    with nogil:
        run_sum_of_two(in_1d(a), &arguments, &now)

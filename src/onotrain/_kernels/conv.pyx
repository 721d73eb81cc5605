"""Convolutions, with the activation and the dropout behind them.

Dimensions: r rows of the batch on this rank, in b blocks, images of h by w pixels and c channels, g groups of channels,
o filters, and kernels of kh by kw; the output has ho by wo positions.  Images are channels-last, weights are
(o, c / g, kh, kw).

`window` is how kernels go over an image: (stride y, stride x, padding top, padding left, dilation y, dilation x).
Padding below and at the right is what the output's shape asks for.

As of a dense layer, the forward pass leaves in `slope` the derivative of the output by the pre-activation.
"""

from cython cimport floating
from libc.stdint cimport uint64_t
from libc.string cimport memset

from onotrain._kernels.activated_rows cimport activate_rows, multiply, predict_rows
from onotrain._kernels.activations cimport check_activation
from onotrain._kernels.arrays cimport expect, expect_shape_4d, in_1d, in_4d, out_1d, out_4d
from onotrain._kernels.conv_tiles cimport (
    CONV_BACKWARD, CONV_FORWARD, conv, conv_add_db, conv_add_dw, conv_begin_dw, conv_begin_dx,
    conv_begin_forward, conv_describe, conv_dx, conv_end_dw, conv_prepare, conv_z,
)
from onotrain._kernels.philox cimport Draw, at, make_draw
from onotrain._kernels.program cimport Kernel, Moment, at_step, recorded

from onotrain._kernels.memory import empty


cdef enum:
    ALL_ROWS = 0x7fffffff  # one block: more rows than a batch has


cdef conv describe(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] weight, tuple window, const floating[:, :, :, ::1] y,
    Py_ssize_t block_rows=ALL_ROWS,
) except *:
    """Return what the arrays' shapes say, and raise ValueError where they do not fit."""
    cdef conv s
    memset(&s, 0, sizeof(conv))
    s.block_rows, s.r, s.h, s.w, s.c = block_rows, x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    s.ho, s.wo, s.o, s.kh, s.kw = y.shape[1], y.shape[2], weight.shape[0], weight.shape[2], weight.shape[3]
    expect("length of window", len(window), 6)
    s.stride_y, s.stride_x, s.top, s.left, s.dilation_y, s.dilation_x = window
    if block_rows < 1:
        raise ValueError(f"rows of a block: got {block_rows}, expected a positive number")
    if min(s.h, s.w, s.c, s.o, s.ho, s.wo, s.kh, s.kw, s.stride_y, s.stride_x, s.dilation_y, s.dilation_x) < 1:
        raise ValueError(f"sizes: got {x.shape}, {weight.shape}, {window}, {y.shape}, expected positive ones")
    if min(s.top, s.left) < 0:
        raise ValueError(f"padding: got {s.top} and {s.left}, expected no negative numbers")
    if weight.shape[1] < 1 or s.c % weight.shape[1] != 0:
        raise ValueError(f"channels of weight: got {weight.shape[1]}, expected a divisor of {s.c}")
    s.groups = s.c // weight.shape[1]
    if s.o % s.groups != 0:
        raise ValueError(f"filters: got {s.o}, expected a multiple of {s.groups} groups")
    expect_shape_4d("y", y, s.r, s.ho, s.wo, s.o)
    conv_describe(&s, sizeof(floating))
    return s


cdef object work_memory(conv* s, size_t itemsize, int direction):
    """Return the memory that a pass works in, filled as far as it does not change."""
    cdef object memory = empty((<Py_ssize_t> conv_prepare(s, itemsize, direction, NULL),), "uint8")
    cdef unsigned char[::1] view = memory
    conv_prepare(s, itemsize, direction, <char*> &view[0])
    return memory


cdef struct Forward:
    conv shape
    int activation
    double negative_slope
    Draw draw
    const void* weight
    const void* bias
    void* slope
    void* y


cdef int run_conv_forward(const floating* x, const Forward* a, const Moment* now) noexcept nogil:
    cdef const conv* s = &a.shape
    cdef Py_ssize_t read = s.h * s.w * s.c, made = s.positions * s.o, first = 0, n
    cdef floating* z
    cdef Draw draw = at(a.draw, now.step)
    if s.r == 0:
        return 0
    conv_begin_forward(s, <const floating*> a.weight, <const floating*> a.bias)
    while first < s.r:
        n = min(s.together, s.r - first)
        z = <floating*> a.slope + first * made
        conv_z(s, n, x + first * read, z)
        activate_rows(
            n, made, made, NULL, a.activation, <floating> a.negative_slope, draw, 0, z, <floating*> a.y + first * made
        )
        draw.row += n
        first += n
    return 0


def conv_forward(
    const floating[:, :, :, ::1] x not None,        # IN  (r, h, w, c)
    const floating[:, :, :, ::1] weight not None,   # IN  (o, c / g, kh, kw)
    const floating[::1] bias,                       # IN  (o,) or None
    tuple window not None,
    int activation,
    double negative_slope,
    double dropout,
    uint64_t seed,
    long long step,
    long long layer,
    long long first_row,
    floating[:, :, :, ::1] slope not None,          # OUT (r, ho, wo, o)
    floating[:, :, :, ::1] y not None,              # OUT (r, ho, wo, o)
    bint record=False,
):
    """``y = dropout(activation(z))`` and ``slope = dy/dz`` with ``z = x * W + b``."""
    cdef conv s = describe(x, weight, window, y)
    cdef Draw draw = make_draw(dropout, seed, layer, first_row)
    cdef Moment now = at_step(step)
    cdef Forward a
    check_activation(activation)
    expect("length of bias", s.o if bias is None else bias.shape[0], s.o)
    expect_shape_4d("slope", slope, s.r, s.ho, s.wo, s.o)
    memory = work_memory(&s, sizeof(floating), CONV_FORWARD)
    a = Forward(s, activation, negative_slope, draw, in_4d(weight), in_1d(bias), out_4d(slope), out_4d(y))
    if record:
        return recorded(
            <Kernel> run_conv_forward[floating], in_4d(x), &a, sizeof(a), (x, weight, bias, slope, y, memory), ""
        )
    with nogil:
        run_conv_forward(in_4d(x), &a, &now)


cdef struct Backward:
    conv shape
    bint accumulate
    const void* weight
    const void* slope
    void* dy
    void* dx
    void* dw
    void* db


cdef int run_conv_backward(const floating* x, const Backward* a, const Moment* now) noexcept nogil:
    cdef const conv* s = &a.shape
    cdef Py_ssize_t block
    if a.dx != NULL:
        conv_begin_dx(s, <const floating*> a.weight)
    for block in range(blocks_of(s)):
        backward_of_block(x, a, block)
    return 0


cdef inline Py_ssize_t blocks_of(const conv* s) noexcept nogil:
    return max(1, s.r // s.block_rows + (s.r % s.block_rows > 0))


cdef void backward_of_block(const floating* x, const Backward* a, Py_ssize_t block) noexcept nogil:
    """Compute on the rows of a block, of which dw and db are sums of their own."""
    cdef const conv* s = &a.shape
    cdef Py_ssize_t read = s.h * s.w * s.c, made = s.positions * s.o, size = s.o * s.taps
    cdef Py_ssize_t first = block * s.block_rows, end = first + min(s.block_rows, s.r - first), n, k
    cdef floating* dz
    cdef floating* db = NULL if a.db == NULL else <floating*> a.db + block * s.o
    if db != NULL and not a.accumulate:
        memset(db, 0, s.o * sizeof(floating))
    if a.dw != NULL:
        conv_begin_dw(s, sizeof(floating))
    while first < end:
        n = min(s.together, end - first)
        dz = <floating*> a.dy + first * made
        multiply(n * made, <const floating*> a.slope + first * made, dz)
        for k in range(n if db != NULL else 0):
            conv_add_db(s, s.positions, dz + k * made, db)
        if a.dw != NULL:
            conv_add_dw(s, n, x + first * read, dz)
        if a.dx != NULL:
            conv_dx(s, n, dz, <floating*> a.dx + first * read)
        first += n
    if a.dw != NULL:
        conv_end_dw(s, a.accumulate, <floating*> a.dw + block * size)


def conv_backward(
    const floating[:, :, :, ::1] x not None,        # IN  (r, h, w, c)
    const floating[:, :, :, ::1] weight not None,   # IN  (o, c / g, kh, kw)
    tuple window not None,
    const floating[:, :, :, ::1] slope not None,    # IN  (r, ho, wo, o)
    Py_ssize_t block_rows,
    bint accumulate,
    floating[:, :, :, ::1] dy not None,             # IN  (r, ho, wo, o), OUT dz
    floating[:, :, :, ::1] dx,                      # OUT (r, h, w, c) or None
    floating[:, :, :, ::1] dw,                      # OUT (b o, c / g, kh, kw) or None
    floating[::1] db,                               # OUT (b o,) or None
    bint record=False,
):
    """``dz = dy * slope``, and the gradients by the image, and by weight and bias, one for each block of rows."""
    cdef conv s = describe(x, weight, window, dy, block_rows)
    cdef Py_ssize_t filters = blocks_of(&s) * s.o
    cdef Moment now = at_step(0)
    cdef Backward a
    expect_shape_4d("slope", slope, s.r, s.ho, s.wo, s.o)
    if dx is not None:
        expect_shape_4d("dx", dx, s.r, s.h, s.w, s.c)
    if dw is not None:
        expect_shape_4d("dw", dw, filters, weight.shape[1], s.kh, s.kw)
    expect("length of db", filters if db is None else db.shape[0], filters)
    memory = work_memory(&s, sizeof(floating), CONV_BACKWARD)
    a = Backward(s, accumulate, in_4d(weight), in_4d(slope), out_4d(dy), out_4d(dx), out_4d(dw), out_1d(db))
    if record:
        return recorded(
            <Kernel> run_conv_backward[floating], in_4d(x), &a, sizeof(a),
            (x, weight, slope, dy, dx, dw, db, memory), "",
        )
    with nogil:
        run_conv_backward(in_4d(x), &a, &now)


cdef struct Prediction:
    conv shape
    const void* weight
    const void* bias
    int activation
    double negative_slope
    void* y


cdef int run_conv_predict(const floating* x, const Prediction* a, const Moment* now) noexcept nogil:
    cdef const conv* s = &a.shape
    cdef Py_ssize_t read = s.h * s.w * s.c, made = s.positions * s.o, first = 0, n
    cdef floating* z
    if s.r == 0:
        return 0
    conv_begin_forward(s, <const floating*> a.weight, <const floating*> a.bias)
    while first < s.r:
        n = min(s.together, s.r - first)
        z = <floating*> a.y + first * made
        conv_z(s, n, x + first * read, z)
        predict_rows(n, made, made, NULL, a.activation, <floating> a.negative_slope, z)
        first += n
    return 0


def conv_predict(
    const floating[:, :, :, ::1] x not None,        # IN  (r, h, w, c)
    const floating[:, :, :, ::1] weight not None,   # IN  (o, c / g, kh, kw)
    const floating[::1] bias,                       # IN  (o,) or None
    tuple window not None,
    int activation,
    double negative_slope,
    floating[:, :, :, ::1] y not None,              # OUT (r, ho, wo, o)
    bint record=False,
):
    """``y = activation(x * W + b)``."""
    cdef conv s = describe(x, weight, window, y)
    cdef Moment now = at_step(0)
    cdef Prediction a
    check_activation(activation)
    expect("length of bias", s.o if bias is None else bias.shape[0], s.o)
    memory = work_memory(&s, sizeof(floating), CONV_FORWARD)
    a = Prediction(s, in_4d(weight), in_1d(bias), activation, negative_slope, out_4d(y))
    if record:
        return recorded(<Kernel> run_conv_predict[floating], in_4d(x), &a, sizeof(a), (x, weight, bias, y, memory), "")
    with nogil:
        run_conv_predict(in_4d(x), &a, &now)

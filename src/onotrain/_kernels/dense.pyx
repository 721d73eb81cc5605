"""Dense layers, with the activation and the dropout behind them.

Dimensions: r rows of the batch on this rank, i inputs, o outputs.

The forward pass leaves in `slope` the derivative of the output by the pre-activation, dropout included.  The backward
pass needs neither the pre-activation, nor the mask, nor the name of the activation.
"""

from cython cimport floating
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from onotrain._kernels.activated_rows cimport activate_rows, multiply, predict_rows
from onotrain._kernels.activations cimport check_activation
from onotrain._kernels.arrays cimport expect, expect_shape, in_1d, in_2d, out_1d, out_2d
from onotrain._kernels.gemm cimport blas_int
from onotrain._kernels.philox cimport COLUMNS, Draw, at, make_draw
from onotrain._kernels.products cimport dz_weight, dz_x, x_weight
from onotrain._kernels.program cimport Kernel, Moment, at_step, recorded
from onotrain._kernels.tiles cimport (
    pack_weight_double, pack_weight_float, packed_size_double, packed_size_float, packing_pays_double,
    packing_pays_float,
)


cdef struct Forward:
    int r
    int i
    int o
    int activation
    double negative_slope
    Draw draw
    const void* weight
    const void* bias
    void* slope
    void* y


cdef struct Activation:
    const Forward* layer
    Draw draw               # of the first row


cdef void activate_block(
    const Activation* a, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t column, Py_ssize_t columns,
    floating* slope,        # IN z, OUT dy/dz  (rows, columns)
    Py_ssize_t next_row,
) noexcept nogil:
    cdef const floating* bias = <const floating*> a.layer.bias
    cdef Draw draw = a.draw
    draw.row += <uint32_t> row
    activate_rows(
        rows, columns, next_row, bias + column if bias != NULL else NULL, a.layer.activation,
        <floating> a.layer.negative_slope, draw, <uint32_t> (column // COLUMNS), slope,
        <floating*> a.layer.y + row * next_row + column,
    )


cdef int run_dense_forward(const floating* x, const Forward* a, const Moment* now) noexcept nogil:
    cdef Activation activation = Activation(a, at(a.draw, now.step))
    x_weight(
        a.r, a.i, a.o, x, <const floating*> a.weight, NULL, <floating*> a.slope, <void*> activate_block[floating],
        &activation,
    )
    return 0


def dense_forward(
    const floating[:, ::1] x not None,          # IN  (r, i)
    const floating[:, ::1] weight not None,     # IN  (o, i)
    const floating[::1] bias,                   # IN  (o,) or None
    int activation,
    double negative_slope,
    double dropout,
    uint64_t seed,
    long long step,
    long long layer,
    long long first_row,
    floating[:, ::1] slope not None,            # OUT (r, o)
    floating[:, ::1] y not None,                # OUT (r, o)
    bint record=False,
):
    """``y = dropout(activation(z))`` and ``slope = dy/dz`` with ``z = x W^T + b``."""
    cdef int r = blas_int(x.shape[0]), i = blas_int(x.shape[1]), o = blas_int(weight.shape[0])
    cdef Draw draw = make_draw(dropout, seed, layer, first_row)
    cdef Moment now = at_step(step)
    cdef Forward a = Forward(
        r, i, o, activation, negative_slope, draw, in_2d(weight), in_1d(bias), out_2d(slope), out_2d(y)
    )
    check_activation(activation)
    expect("columns of weight", weight.shape[1], i)
    expect("length of bias", o if bias is None else bias.shape[0], o)
    expect_shape("slope", slope, r, o)
    expect_shape("y", y, r, o)
    if record:
        return recorded(
            <Kernel> run_dense_forward[floating], in_2d(x), &a, sizeof(a), (x, weight, bias, slope, y), ""
        )
    with nogil:
        run_dense_forward(in_2d(x), &a, &now)


cdef struct Backward:
    int r
    int i
    int o
    bint accumulate
    bint shared
    const void* weight
    const void* slope
    void* dy
    void* dx
    void* dw
    void* db


cdef int run_dense_backward(const floating* x, const Backward* a, const Moment* now) noexcept nogil:
    cdef const floating* slope = <const floating*> a.slope
    cdef floating* dy = <floating*> a.dy
    if a.db == NULL:
        multiply(<Py_ssize_t> a.r * a.o, slope, dy)
    else:
        if not a.accumulate:
            memset(a.db, 0, a.o * sizeof(floating))
        multiply_and_sum_rows(a.r, a.o, slope, dy, <floating*> a.db)
    if a.dx != NULL:
        dz_weight(a.r, a.i, a.o, dy, <const floating*> a.weight, <floating*> a.dx)
    if a.dw != NULL:
        dz_x(a.r, a.i, a.o, dy, x, a.accumulate, a.shared, <floating*> a.dw)
    return 0


def dense_backward(
    const floating[:, ::1] x not None,          # IN  (r, i)
    const floating[:, ::1] weight not None,     # IN  (o, i)
    const floating[:, ::1] slope not None,      # IN  (r, o)
    bint accumulate,
    bint shared,
    floating[:, ::1] dy not None,               # IN  (r, o), OUT dz
    floating[:, ::1] dx,                        # OUT (r, i) or None
    floating[:, ::1] dw,                        # OUT (o, i) or None
    floating[::1] db,                           # OUT (o,) or None
    bint record=False,
):
    """``dz = dy * slope``; ``dx = dz W``; ``dw = dz^T x``; ``db`` is the sum of the rows of dz.

    `shared` says that other ranks read dw.
    """
    cdef int r = blas_int(x.shape[0]), i = blas_int(x.shape[1]), o = blas_int(weight.shape[0])
    cdef Moment now = at_step(0)
    cdef Backward a = Backward(
        r, i, o, accumulate, shared, in_2d(weight), in_2d(slope), out_2d(dy), out_2d(dx), out_2d(dw), out_1d(db)
    )
    expect("columns of weight", weight.shape[1], i)
    expect_shape("slope", slope, r, o)
    expect_shape("dy", dy, r, o)
    if dx is not None:
        expect_shape("dx", dx, r, i)
    if dw is not None:
        expect_shape("dw", dw, o, i)
    expect("length of db", o if db is None else db.shape[0], o)
    if record:
        return recorded(
            <Kernel> run_dense_backward[floating], in_2d(x), &a, sizeof(a), (x, weight, slope, dy, dx, dw, db), ""
        )
    with nogil:
        run_dense_backward(in_2d(x), &a, &now)


cdef void multiply_and_sum_rows(
    Py_ssize_t r,
    Py_ssize_t o,
    const floating* x,      # IN  (r, o)
    floating* y,            # IN  (r, o), OUT x * y
    floating* column,       # IN  (o,), OUT plus the sum of the rows of y
) noexcept nogil:
    """Four rows at a time: a quarter of the additions depend on each other, and of the passes over `column`."""
    cdef Py_ssize_t _, c, whole = r - r % 4
    for _ in range(0, whole, 4):
        multiply(4 * o, x, y)
        for c in range(o):
            column[c] += (y[c] + y[o + c]) + (y[2 * o + c] + y[3 * o + c])
        x += 4 * o
        y += 4 * o
    for _ in range(whole, r):
        multiply(o, x, y)
        for c in range(o):
            column[c] += y[c]
        x += o
        y += o


cdef Py_ssize_t size_of_packed(const floating[:, ::1] weight) noexcept:
    if floating is float:
        return packed_size_float(weight.shape[1], weight.shape[0])
    return packed_size_double(weight.shape[1], weight.shape[0])


def packed_size(
    const floating[:, ::1] weight not None,     # IN  (o, i)
):
    """Return the length of `packed` in `pack_weight`."""
    return size_of_packed(weight)


def packing_pays(
    Py_ssize_t rows,
    const floating[:, ::1] weight not None,     # IN  (o, i)
):
    """Return whether `dense_predict` of so many rows is faster with a weight that is packed once."""
    if floating is float:
        return packing_pays_float(rows, weight.shape[1], weight.shape[0])
    return packing_pays_double(rows, weight.shape[1], weight.shape[0])


def pack_weight(
    const floating[:, ::1] weight not None,     # IN  (o, i)
    floating[::1] packed not None,              # OUT (packed_size(weight),)
):
    """Lay a weight out as tiles read it."""
    cdef Py_ssize_t o = weight.shape[0], i = weight.shape[1]
    expect("length of packed", packed.shape[0], size_of_packed(weight))
    with nogil:
        if floating is float:
            pack_weight_float(i, o, in_2d(weight), out_1d(packed))
        else:
            pack_weight_double(i, o, in_2d(weight), out_1d(packed))


cdef struct Prediction:
    int r
    int i
    int o
    const void* weight
    const void* packed
    const void* bias
    int activation
    double negative_slope
    void* y


cdef void predict_block(
    const Prediction* a, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t column, Py_ssize_t columns,
    floating* y,            # IN z, OUT activation(z + b)  (rows, columns)
    Py_ssize_t next_row,
) noexcept nogil:
    cdef const floating* bias = <const floating*> a.bias
    predict_rows(
        rows, columns, next_row, bias + column if bias != NULL else NULL, a.activation, <floating> a.negative_slope, y
    )


cdef int run_dense_predict(const floating* x, const Prediction* a, const Moment* now) noexcept nogil:
    x_weight(
        a.r, a.i, a.o, x, <const floating*> a.weight, <const floating*> a.packed, <floating*> a.y,
        <void*> predict_block[floating], <void*> a,
    )
    return 0


def dense_predict(
    const floating[:, ::1] x not None,          # IN  (r, i)
    const floating[:, ::1] weight not None,     # IN  (o, i)
    const floating[::1] packed,                 # IN  of pack_weight, or None
    const floating[::1] bias,                   # IN  (o,) or None
    int activation,
    double negative_slope,
    floating[:, ::1] y not None,                # OUT (r, o)
    bint record=False,
):
    """``y = activation(x W^T + b)``."""
    cdef int r = blas_int(x.shape[0]), i = blas_int(x.shape[1]), o = blas_int(weight.shape[0])
    cdef Moment now = at_step(0)
    cdef Prediction a = Prediction(
        r, i, o, in_2d(weight), in_1d(packed), in_1d(bias), activation, negative_slope, out_2d(y)
    )
    check_activation(activation)
    expect("columns of weight", weight.shape[1], i)
    if packed is not None:
        expect("length of packed", packed.shape[0], size_of_packed(weight))
    expect("length of bias", o if bias is None else bias.shape[0], o)
    expect_shape("y", y, r, o)
    if record:
        return recorded(<Kernel> run_dense_predict[floating], in_2d(x), &a, sizeof(a), (x, weight, packed, bias, y), "")
    with nogil:
        run_dense_predict(in_2d(x), &a, &now)

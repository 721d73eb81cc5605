"""Dense layers, and activations and dropout in front of which no dense layer stands.

Dimensions: r rows of the batch on this rank, i inputs, o outputs.

The forward pass leaves in `slope` the derivative of the output by the pre-activation, dropout included.  The backward
pass needs neither the pre-activation, nor the mask, nor the name of the activation.
"""

from cython cimport floating
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

from onotrain._kernels.activations cimport ACTIVATION_COUNT, activate
from onotrain._kernels.arrays cimport expect, in_1d, in_2d, out_1d, out_2d
from onotrain._kernels.elementary cimport LANES
from onotrain._kernels.gemm cimport blas_int
from onotrain._kernels.philox cimport COLUMNS, Draw, dropout_factors
from onotrain._kernels.products cimport dz_weight, dz_x, x_weight
from onotrain._kernels.program cimport Kernel, Moment, at_step, recorded

cdef enum:
    BLOCK = 2048    # numbers of several rows that are gone through together


cdef int check_activation(int activation) except -1:
    if not 0 <= activation < ACTIVATION_COUNT:
        raise ValueError(f"activation: got code {activation}, expected one below {<int> ACTIVATION_COUNT}")
    return 0


cdef Draw make_draw(double dropout, uint64_t seed, long long layer, long long first_row) except *:
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout: got {dropout}, expected a rate of at least 0 and below 1")
    cdef uint32_t threshold = min(<uint32_t> (dropout * 65536 + 0.5), <uint32_t> 65535)
    return Draw(seed, 0, <uint32_t> layer, <uint32_t> first_row, threshold)


cdef inline Draw at(Draw draw, const Moment* now) noexcept nogil:
    """Return a draw for a step."""
    draw.step = <uint32_t> now.step
    return draw


cdef int expect_shape(str what, const floating[:, ::1] a, Py_ssize_t rows, Py_ssize_t columns) except -1:
    expect("rows of " + what, a.shape[0], rows)
    return expect("columns of " + what, a.shape[1], columns)


cdef void activate_rows(
    Py_ssize_t r,
    Py_ssize_t o,
    Py_ssize_t next_row,        # elements from a row of slope and y to the next
    const floating* bias,       # IN  (o,) or NULL
    int activation,
    floating negative_slope,
    Draw draw,                  # of the first row
    uint32_t block,             # of COLUMNS of the mask at which the columns begin
    floating* slope,            # IN z, OUT dy/dz  (r, o)
    floating* y,                # OUT (r, o)
) noexcept nogil:
    """``y = dropout(activation(z + b))`` and its slope, by blocks that stay in the first-level cache.

    A block is a part of a wide row, or several narrow rows.
    """
    cdef floating[COLUMNS] factor
    cdef floating scale = <floating> (65536. / (65536 - draw.threshold))
    cdef Py_ssize_t together = BLOCK // o if next_row == o and 0 < o <= COLUMNS else 1, rows, first, n, c
    cdef uint32_t row = draw.row
    while r > 0:
        rows = min(together, r)
        first = 0
        while first < o:
            n = min(<Py_ssize_t> COLUMNS, o - first)
            if bias != NULL:
                for c in range(rows):
                    add(n, bias + first, slope + first + c * next_row)
            activate_vectors(activation, negative_slope, rows * n, slope + first, y + first)
            if draw.threshold:
                for c in range(rows):
                    draw.row = row + <uint32_t> c
                    dropout_factors(&draw, block + <uint32_t> (first // COLUMNS), scale, factor)
                    # times 0 instead of set to 0: NaN must not vanish
                    multiply(n, factor, y + first + c * next_row)
                    multiply(n, factor, slope + first + c * next_row)
            first += n
        slope += rows * next_row
        y += rows * next_row
        row += <uint32_t> rows
        r -= rows


cdef void activate_vectors(
    int activation, floating negative_slope, Py_ssize_t n, floating* slope, floating* y
) noexcept nogil:
    """`activate`, with the last n % LANES numbers as a whole vector: one by one they take longer than all others."""
    cdef floating[LANES] z, last
    cdef Py_ssize_t c, rest = n % LANES, whole = n - rest
    if whole > 0:
        activate_some(activation, negative_slope, whole, slope, y)
    if rest > 0:
        for c in range(LANES):
            z[c] = 0
        memcpy(z, slope + whole, rest * sizeof(floating))
        activate_some(activation, negative_slope, LANES, z, last)
        memcpy(slope + whole, z, rest * sizeof(floating))
        memcpy(y + whole, last, rest * sizeof(floating))


cdef void activate_some(
    int activation, floating negative_slope, Py_ssize_t n, floating* slope, floating* y
) noexcept nogil:
    """`activate`, compiled once."""
    activate(activation, negative_slope, n, slope, y)


cdef inline void add(Py_ssize_t n, const floating* x, floating* y) noexcept nogil:
    """``y += x``."""
    cdef Py_ssize_t c
    for c in range(n):
        y[c] += x[c]


cdef inline void multiply(Py_ssize_t n, const floating* x, floating* y) noexcept nogil:
    """``y *= x``."""
    cdef Py_ssize_t c
    for c in range(n):
        y[c] *= x[c]


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
    cdef Activation activation = Activation(a, at(a.draw, now))
    x_weight(
        a.r, a.i, a.o, x, <const floating*> a.weight, <floating*> a.slope, <void*> activate_block[floating], &activation
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


cdef struct Prediction:
    int r
    int i
    int o
    const void* weight
    const void* bias
    int activation
    double negative_slope
    void* y


cdef int run_dense_predict(const floating* x, const Prediction* a, const Moment* now) noexcept nogil:
    x_weight(
        a.r, a.i, a.o, x, <const floating*> a.weight, <floating*> a.y, <void*> predict_block[floating], <void*> a
    )
    return 0


def dense_predict(
    const floating[:, ::1] x not None,          # IN  (r, i)
    const floating[:, ::1] weight not None,     # IN  (o, i)
    const floating[::1] bias,                   # IN  (o,) or None
    int activation,
    double negative_slope,
    floating[:, ::1] y not None,                # OUT (r, o)
    bint record=False,
):
    """``y = activation(x W^T + b)``."""
    cdef int r = blas_int(x.shape[0]), i = blas_int(x.shape[1]), o = blas_int(weight.shape[0])
    cdef Moment now = at_step(0)
    cdef Prediction a = Prediction(r, i, o, in_2d(weight), in_1d(bias), activation, negative_slope, out_2d(y))
    check_activation(activation)
    expect("columns of weight", weight.shape[1], i)
    expect("length of bias", o if bias is None else bias.shape[0], o)
    expect_shape("y", y, r, o)
    if record:
        return recorded(<Kernel> run_dense_predict[floating], in_2d(x), &a, sizeof(a), (x, weight, bias, y), "")
    with nogil:
        run_dense_predict(in_2d(x), &a, &now)


cdef void predict_block(
    const Prediction* a, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t column, Py_ssize_t columns,
    floating* y,            # IN z, OUT activation(z + b)  (rows, columns)
    Py_ssize_t next_row,
) noexcept nogil:
    cdef floating[BLOCK] slope  # not asked for, and of no cost in the first-level cache
    cdef const floating* bias = <const floating*> a.bias
    cdef Draw keep_all
    cdef Py_ssize_t together = BLOCK // columns if next_row == columns and 0 < columns <= BLOCK else 1
    cdef Py_ssize_t some, first, n
    memset(&keep_all, 0, sizeof(Draw))
    while rows > 0:
        some = min(together, rows)
        first = 0
        while first < columns:
            n = min(<Py_ssize_t> BLOCK, columns - first)
            memcpy(slope, y + first, some * n * sizeof(floating))
            activate_rows(
                some, n, n, bias + column + first if bias != NULL else NULL, a.activation, <floating> a.negative_slope,
                keep_all, 0, slope, y + first,
            )
            first += n
        y += some * next_row
        rows -= some


cdef struct ElementwiseForward:
    Py_ssize_t r
    Py_ssize_t i
    int activation
    double negative_slope
    Draw draw
    void* slope
    void* y


cdef int run_elementwise_forward(const floating* x, const ElementwiseForward* a, const Moment* now) noexcept nogil:
    cdef Draw draw = at(a.draw, now)
    cdef floating* slope = <floating*> a.slope
    if a.r == 0 or a.i == 0:
        return 0
    memcpy(slope, x, a.r * a.i * sizeof(floating))
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
    cdef ElementwiseForward a = ElementwiseForward(r, i, activation, negative_slope, draw, out_2d(slope), out_2d(y))
    check_activation(activation)
    expect_shape("slope", slope, r, i)
    expect_shape("y", y, r, i)
    if record:
        return recorded(<Kernel> run_elementwise_forward[floating], in_2d(x), &a, sizeof(a), (x, slope, y), "")
    with nogil:
        run_elementwise_forward(in_2d(x), &a, &now)


cdef struct ElementwiseBackward:
    Py_ssize_t n
    const void* dy
    void* dx


cdef int run_elementwise_backward(
    const floating* slope, const ElementwiseBackward* a, const Moment* now
) noexcept nogil:
    cdef Py_ssize_t c
    cdef const floating* dy = <const floating*> a.dy
    cdef floating* dx = <floating*> a.dx
    for c in range(a.n):
        dx[c] = dy[c] * slope[c]
    return 0


def elementwise_backward(
    const floating[:, ::1] slope not None,      # IN  (r, i)
    const floating[:, ::1] dy not None,         # IN  (r, i)
    floating[:, ::1] dx not None,               # OUT (r, i)
    bint record=False,
):
    """``dx = dy * slope``."""
    cdef Py_ssize_t r = slope.shape[0], i = slope.shape[1]
    cdef Moment now = at_step(0)
    cdef ElementwiseBackward a = ElementwiseBackward(r * i, in_2d(dy), out_2d(dx))
    expect_shape("dy", dy, r, i)
    expect_shape("dx", dx, r, i)
    if record:
        return recorded(<Kernel> run_elementwise_backward[floating], in_2d(slope), &a, sizeof(a), (slope, dy, dx), "")
    with nogil:
        run_elementwise_backward(in_2d(slope), &a, &now)


cdef int run_elementwise_predict(const floating* x, const Prediction* a, const Moment* now) noexcept nogil:
    if a.r > 0 and a.i > 0:
        memcpy(a.y, x, <Py_ssize_t> a.r * a.i * sizeof(floating))
        predict_block(a, 0, a.r, 0, a.i, <floating*> a.y, a.i)
    return 0


def elementwise_predict(
    const floating[:, ::1] x not None,          # IN  (r, i)
    int activation,
    double negative_slope,
    floating[:, ::1] y not None,                # OUT (r, i)
    bint record=False,
):
    """``y = activation(x)``."""
    cdef int r = blas_int(x.shape[0]), i = blas_int(x.shape[1])
    cdef Moment now = at_step(0)
    cdef Prediction a = Prediction(r, i, i, NULL, NULL, activation, negative_slope, out_2d(y))
    check_activation(activation)
    expect_shape("y", y, r, i)
    if record:
        return recorded(<Kernel> run_elementwise_predict[floating], in_2d(x), &a, sizeof(a), (x, y), "")
    with nogil:
        run_elementwise_predict(in_2d(x), &a, &now)

"""Batch normalisation, forward: every channel by its moments over the samples and positions of the global batch.

Dimensions: r rows of the batch on this rank, p positions of a sample, c channels.  `count` is the number of values of a
channel in the global batch, `sums` are those of x and of its square over them.

Sums are float64.  Mean and variance follow from them; what the difference of two sums loses is less than what float32
values have lost themselves, wherever their mean lies.
"""

from cython cimport floating
from libc.string cimport memcpy, memset

from onotrain._kernels.arrays cimport expect, expect_shape, in_1d, in_2d, out_2d
from onotrain._kernels.normalised_rows cimport (
    WIDTH, Strip, affine_columns, at, expect_length, make_strip, moments, positions_of, scale_strip, sum_moments,
)
from onotrain._kernels.program cimport Kernel, Moment, at_step, recorded


cdef struct Sums:
    Py_ssize_t r
    Py_ssize_t p
    Py_ssize_t c
    double* sums


cdef int run_batch_norm_sums(const floating* x, const Sums* a, const Moment* now) noexcept nogil:
    cdef double[WIDTH] zero, s, q
    cdef double* row
    cdef Py_ssize_t first, n, sample
    cdef Strip strip
    memset(zero, 0, sizeof(zero))
    first = 0
    while first < a.c:
        n = min(<Py_ssize_t> WIDTH, a.c - first)
        strip = make_strip(a.p, n, a.c)
        for sample in range(a.r):
            row = a.sums + 2 * sample * a.c + first
            sum_moments(&strip, x + sample * a.p * a.c + first, zero, s, q)
            memcpy(row, s, n * sizeof(double))
            memcpy(row + a.c, q, n * sizeof(double))
        first += WIDTH
    return 0


def batch_norm_sums(
    const floating[:, ::1] x not None,          # IN  (r p, c)
    double[:, ::1] sums not None,               # OUT (r, 2 c)
    bint record=False,
):
    """For each sample the sums of x and of its square."""
    cdef Py_ssize_t r = sums.shape[0], c = x.shape[1], p = positions_of(x.shape[0], r)
    cdef Moment now = at_step(0)
    cdef Sums a = Sums(r, p, c, out_2d(sums))
    expect("rows of x", x.shape[0], r * p)
    expect("columns of sums", sums.shape[1], 2 * c)
    if record:
        return recorded(<Kernel> run_batch_norm_sums[floating], in_2d(x), &a, sizeof(a), (x, sums), "")
    with nogil:
        run_batch_norm_sums(in_2d(x), &a, &now)


cdef void scale_columns(
    Py_ssize_t rows, Py_ssize_t c, Py_ssize_t n, const floating* x, const double* mean, const double* variance,
    double epsilon, const floating* weight, const floating* bias, floating* y,
) noexcept nogil:
    """Normalise n of the c columns."""
    cdef floating[WIDTH] centre, scale, offset
    cdef Strip strip = make_strip(rows, n, c)
    affine_columns(&strip, mean, variance, epsilon, weight, bias, centre, scale, offset)
    scale_strip(&strip, x, centre, scale, offset, y)


cdef struct Forward:
    Py_ssize_t rows
    Py_ssize_t c
    const double* sums
    double count
    double epsilon
    const void* weight
    const void* bias
    void* y


cdef int run_batch_norm_forward(const floating* x, const Forward* a, const Moment* now) noexcept nogil:
    cdef double[WIDTH] mean, variance
    cdef Py_ssize_t first, n
    first = 0
    while first < a.c:
        n = min(<Py_ssize_t> WIDTH, a.c - first)
        moments(n, a.sums + first, a.sums + a.c + first, a.count, mean, variance)
        scale_columns(
            a.rows, a.c, n, x + first, mean, variance, a.epsilon, at(<const floating*> a.weight, first),
            at(<const floating*> a.bias, first), <floating*> a.y + first,
        )
        first += WIDTH
    return 0


def batch_norm_forward(
    const floating[:, ::1] x not None,          # IN  (r p, c)
    const double[::1] sums not None,            # IN  (2 c,)
    double count,
    double epsilon,
    const floating[::1] weight,                 # IN  (c,) or None
    const floating[::1] bias,                   # IN  (c,) or None
    floating[:, ::1] y not None,                # OUT (r p, c)
    bint record=False,
):
    """``y = weight (x - mean) / sqrt(variance + epsilon) + bias``."""
    cdef Py_ssize_t rows = x.shape[0], c = x.shape[1]
    cdef Moment now = at_step(0)
    cdef Forward a = Forward(rows, c, in_1d(sums), count, epsilon, in_1d(weight), in_1d(bias), out_2d(y))
    expect_length("sums", sums, 2 * c)
    expect_length("weight", weight, c)
    expect_length("bias", bias, c)
    expect_shape("y", y, rows, c)
    if record:
        return recorded(
            <Kernel> run_batch_norm_forward[floating], in_2d(x), &a, sizeof(a), (x, sums, weight, bias, y), ""
        )
    with nogil:
        run_batch_norm_forward(in_2d(x), &a, &now)


cdef struct Prediction:
    Py_ssize_t rows
    Py_ssize_t c
    const void* mean
    const void* variance
    double epsilon
    const void* weight
    const void* bias
    void* y


cdef int run_batch_norm_predict(const floating* x, const Prediction* a, const Moment* now) noexcept nogil:
    cdef const floating* mean = <const floating*> a.mean
    cdef double[WIDTH] means, variances
    cdef Py_ssize_t first, n, c
    first = 0
    while first < a.c:
        n = min(<Py_ssize_t> WIDTH, a.c - first)
        for c in range(n):
            means[c] = mean[first + c] if mean != NULL else 0
            variances[c] = (<const floating*> a.variance)[first + c]
        scale_columns(
            a.rows, a.c, n, x + first, means, variances, a.epsilon, at(<const floating*> a.weight, first),
            at(<const floating*> a.bias, first), <floating*> a.y + first,
        )
        first += WIDTH
    return 0


def batch_norm_predict(
    const floating[:, ::1] x not None,          # IN  (r p, c)
    const floating[::1] mean,                   # IN  (c,) or None
    const floating[::1] variance not None,      # IN  (c,)
    double epsilon,
    const floating[::1] weight,                 # IN  (c,) or None
    const floating[::1] bias,                   # IN  (c,) or None
    floating[:, ::1] y not None,                # OUT (r p, c)
    bint record=False,
):
    """``y = weight (x - mean) / sqrt(variance + epsilon) + bias`` with a mean and a variance that are given."""
    cdef Py_ssize_t rows = x.shape[0], c = x.shape[1]
    cdef Moment now = at_step(0)
    cdef Prediction a = Prediction(
        rows, c, in_1d(mean), in_1d(variance), epsilon, in_1d(weight), in_1d(bias), out_2d(y)
    )
    expect_length("mean", mean, c)
    expect_length("variance", variance, c)
    expect_length("weight", weight, c)
    expect_length("bias", bias, c)
    expect_shape("y", y, rows, c)
    if record:
        return recorded(
            <Kernel> run_batch_norm_predict[floating], in_2d(x), &a, sizeof(a), (x, mean, variance, weight, bias, y), ""
        )
    with nogil:
        run_batch_norm_predict(in_2d(x), &a, &now)

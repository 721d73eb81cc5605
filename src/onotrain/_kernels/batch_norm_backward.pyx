"""Batch normalisation, backward; `sums` and dimensions as in batch_norm.pyx."""

from cython cimport floating
from libc.math cimport sqrt
from libc.string cimport memcpy

from onotrain._kernels.arrays cimport expect, expect_shape, in_1d, in_2d, out_2d
from onotrain._kernels.normalised_rows cimport (
    WIDTH, Strip, affine, affine_columns, expect_length, make_strip, mix_strip, moments, positions_of, repeat,
    sum_products,
)
from onotrain._kernels.program cimport Kernel, Moment, at_step, recorded


cdef struct Sums:
    Py_ssize_t r
    Py_ssize_t p
    Py_ssize_t c
    const double* sums
    double count
    double epsilon
    const void* dy
    double* dsums
    void* dweight
    void* dbias


cdef int run_batch_norm_backward_sums(const floating* x, const Sums* a, const Moment* now) noexcept nogil:
    cdef floating[WIDTH] centre, scale, offset
    cdef double[WIDTH] mean, variance, s, q
    cdef const floating* dy = <const floating*> a.dy
    cdef floating* dweight = <floating*> a.dweight
    cdef floating* dbias = <floating*> a.dbias
    cdef Py_ssize_t first, n, c, sample, row, begin
    cdef Strip strip
    first = 0
    while first < a.c:
        n = min(<Py_ssize_t> WIDTH, a.c - first)
        strip = make_strip(a.p, n, a.c)
        moments(n, a.sums + first, a.sums + a.c + first, a.count, mean, variance)
        affine_columns(
            &strip, mean, variance, a.epsilon, <floating*> NULL, <floating*> NULL, centre, scale, offset
        )
        for sample in range(a.r):
            row, begin = sample * a.c + first, sample * a.p * a.c + first
            sum_products(&strip, x + begin, dy + begin, centre, scale, offset, s, q)
            memcpy(a.dsums + row + sample * a.c, s, n * sizeof(double))
            memcpy(a.dsums + row + (sample + 1) * a.c, q, n * sizeof(double))
            if dweight != NULL:
                for c in range(n):
                    dweight[row + c], dbias[row + c] = <floating> q[c], <floating> s[c]
        first += WIDTH
    return 0


def batch_norm_backward_sums(
    const floating[:, ::1] x not None,          # IN  (r p, c)
    const double[::1] sums not None,            # IN  (2 c,)
    double count,
    double epsilon,
    const floating[:, ::1] dy not None,         # IN  (r p, c)
    double[:, ::1] dsums not None,              # OUT (r, 2 c)
    floating[:, ::1] dweight,                   # OUT (r, c) or None, as dbias
    floating[:, ::1] dbias,
    bint record=False,
):
    """For each sample the sums of dy and of ``dy (x - mean) / sqrt(variance + epsilon)``."""
    cdef Py_ssize_t r = dsums.shape[0], c = x.shape[1], p = positions_of(x.shape[0], r)
    cdef Moment now = at_step(0)
    cdef Sums a = Sums(
        r, p, c, in_1d(sums), count, epsilon, in_2d(dy), out_2d(dsums), out_2d(dweight), out_2d(dbias)
    )
    expect("rows of x", x.shape[0], r * p)
    expect_length("sums", sums, 2 * c)
    expect_shape("dy", dy, r * p, c)
    expect("columns of dsums", dsums.shape[1], 2 * c)
    if (dweight is None) != (dbias is None):
        raise ValueError("dweight and dbias: expected both or none")
    if dweight is not None:
        expect_shape("dweight", dweight, r, c)
        expect_shape("dbias", dbias, r, c)
    if record:
        return recorded(
            <Kernel> run_batch_norm_backward_sums[floating], in_2d(x), &a, sizeof(a),
            (x, sums, dy, dsums, dweight, dbias), "",
        )
    with nogil:
        run_batch_norm_backward_sums(in_2d(x), &a, &now)


cdef struct Backward:
    Py_ssize_t rows
    Py_ssize_t c
    const double* sums
    const double* dsums
    double count
    double epsilon
    const void* weight
    const void* dy
    void* dx


cdef int run_batch_norm_backward(const floating* x, const Backward* a, const Moment* now) noexcept nogil:
    cdef floating[WIDTH] centre, of_dy, of_x, offset
    cdef double[WIDTH] mean, variance
    cdef const floating* weight = <const floating*> a.weight
    cdef double inverse, factor
    cdef Py_ssize_t first, n, c
    cdef Strip strip
    first = 0
    while first < a.c:
        n = min(<Py_ssize_t> WIDTH, a.c - first)
        moments(n, a.sums + first, a.sums + a.c + first, a.count, mean, variance)
        for c in range(n):
            inverse = 1 / sqrt(variance[c] + a.epsilon)
            factor = inverse * weight[first + c] if weight != NULL else inverse
            affine(
                mean[c], -factor * inverse * a.dsums[a.c + first + c] / a.count,
                -factor * a.dsums[first + c] / a.count, centre + c, of_x + c, offset + c,
            )
            of_dy[c] = <floating> factor
        strip = make_strip(a.rows, n, a.c)
        repeat(&strip, centre)
        repeat(&strip, of_dy)
        repeat(&strip, of_x)
        repeat(&strip, offset)
        mix_strip(
            &strip, x + first, <const floating*> a.dy + first, centre, of_dy, of_x, offset, <floating*> a.dx + first
        )
        first += WIDTH
    return 0


def batch_norm_backward(
    const floating[:, ::1] x not None,          # IN  (r p, c)
    const double[::1] sums not None,            # IN  (2 c,)
    const double[::1] dsums not None,           # IN  (2 c,), of dy and of dy x'
    double count,
    double epsilon,
    const floating[::1] weight,                 # IN  (c,) or None
    const floating[:, ::1] dy not None,         # IN  (r p, c)
    floating[:, ::1] dx not None,               # OUT (r p, c)
    bint record=False,
):
    """``dx = weight / std (dy - mean of dy - x' mean of (dy x'))`` with ``x' = (x - mean) / std``."""
    cdef Py_ssize_t rows = x.shape[0], c = x.shape[1]
    cdef Moment now = at_step(0)
    cdef Backward a = Backward(
        rows, c, in_1d(sums), in_1d(dsums), count, epsilon, in_1d(weight), in_2d(dy), out_2d(dx)
    )
    expect_length("sums", sums, 2 * c)
    expect_length("dsums", dsums, 2 * c)
    expect_length("weight", weight, c)
    expect_shape("dy", dy, rows, c)
    expect_shape("dx", dx, rows, c)
    if record:
        return recorded(
            <Kernel> run_batch_norm_backward[floating], in_2d(x), &a, sizeof(a), (x, sums, dsums, weight, dy, dx), ""
        )
    with nogil:
        run_batch_norm_backward(in_2d(x), &a, &now)


cdef struct Running:
    Py_ssize_t r
    Py_ssize_t c
    const double* sums
    double count
    double weight
    const void* variance
    void* dmean
    void* dvariance


cdef int run_batch_norm_running(const floating* mean, const Running* a, const Moment* now) noexcept nogil:
    cdef double[WIDTH] means, variances
    cdef const floating* variance = <const floating*> a.variance
    cdef floating* dmean = <floating*> a.dmean
    cdef floating* dvariance = <floating*> a.dvariance
    cdef double unbiased = a.count / (a.count - 1)
    cdef Py_ssize_t first, n, sample, c
    first = 0
    while first < a.c:
        n = min(<Py_ssize_t> WIDTH, a.c - first)
        moments(n, a.sums + first, a.sums + a.c + first, a.count, means, variances)
        for c in range(n):
            means[c] = (mean[first + c] - means[c]) * a.weight
            variances[c] = (variance[first + c] - variances[c] * unbiased) * a.weight
        for sample in range(a.r):
            for c in range(n):
                dmean[sample * a.c + first + c] = <floating> means[c]
                dvariance[sample * a.c + first + c] = <floating> variances[c]
        first += WIDTH
    return 0


def batch_norm_running(
    const floating[::1] mean not None,          # IN  (c,)
    const floating[::1] variance not None,      # IN  (c,)
    const double[::1] sums not None,            # IN  (2 c,)
    double count,
    double weight,
    floating[:, ::1] dmean not None,            # OUT (r, c)
    floating[:, ::1] dvariance not None,        # OUT (r, c)
    bint record=False,
):
    """For each sample `weight` times what running moments are above those of the batch."""
    cdef Py_ssize_t r = dmean.shape[0], c = mean.shape[0]
    cdef Moment now = at_step(0)
    cdef Running a = Running(
        r, c, in_1d(sums), count, weight, in_1d(variance), out_2d(dmean), out_2d(dvariance)
    )
    expect_length("variance", variance, c)
    expect_length("sums", sums, 2 * c)
    expect_shape("dmean", dmean, r, c)
    expect_shape("dvariance", dvariance, r, c)
    if record:
        return recorded(
            <Kernel> run_batch_norm_running[floating], in_1d(mean), &a, sizeof(a),
            (mean, variance, sums, dmean, dvariance), "",
        )
    with nogil:
        run_batch_norm_running(in_1d(mean), &a, &now)

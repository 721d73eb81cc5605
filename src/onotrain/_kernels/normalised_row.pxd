"""Normalisation of n neighbouring values by their own moments: of what has no positions to go through."""

from cython cimport floating
from libc.math cimport sqrt

cdef extern from "row_sums.h" nogil:
    void row_moments_float(Py_ssize_t n, const float* x, double shift, double* s, double* q)
    void row_moments_double(Py_ssize_t n, const double* x, double shift, double* s, double* q)
    void row_products_float(
        Py_ssize_t n, const float* x, const float* dy, const float* weight, float centre, float scale, float offset,
        double* s, double* q
    )
    void row_products_double(
        Py_ssize_t n, const double* x, const double* dy, const double* weight, double centre, double scale,
        double offset, double* s, double* q
    )


cdef inline void normalise_row(
    Py_ssize_t n,
    const floating* x,          # IN  (n,)
    double epsilon,
    const floating* weight,     # IN  (n,) or NULL, as bias
    const floating* bias,
    double* statistics,         # OUT (2,): mean and 1 / sqrt(variance + epsilon)
    floating* y,                # OUT (n,)
) noexcept nogil:
    """``y = weight (x - mean) / sqrt(variance + epsilon) + bias``."""
    cdef double sums, squares, variance
    cdef floating centre, scale, offset, normal
    cdef Py_ssize_t c
    if floating is float:
        row_moments_float(n, x, x[0], &sums, &squares)
    else:
        row_moments_double(n, x, x[0], &sums, &squares)
    sums /= n
    variance = squares / n - sums * sums
    if variance < 0:            # rounded; NaN stays
        variance = 0
    statistics[0], statistics[1] = x[0] + sums, 1 / sqrt(variance + epsilon)
    centre, scale = <floating> statistics[0], <floating> statistics[1]
    offset = <floating> ((centre - statistics[0]) * statistics[1])
    if weight != NULL and bias != NULL:
        for c in range(n):
            y[c] = ((x[c] - centre) * scale + offset) * weight[c] + bias[c]
    else:
        for c in range(n):
            normal = (x[c] - centre) * scale + offset
            if weight != NULL:
                normal *= weight[c]
            if bias != NULL:
                normal += bias[c]
            y[c] = normal


cdef inline void gradient_of_row(
    Py_ssize_t n,
    const floating* x,          # IN  (n,), as dy
    const floating* dy,
    const double* statistics,   # IN  (2,)
    const floating* weight,     # IN  (n,) or NULL
    floating* dx,               # OUT (n,) or NULL
    floating* dweight,          # OUT (n,) or NULL, added to, as dbias
    floating* dbias,
) noexcept nogil:
    """``dx = (weight dy - mean of (weight dy) - x' mean of (weight dy x')) / std``; ``dy x'`` and dy."""
    cdef double inverse = statistics[1], sums, products
    cdef floating centre = <floating> statistics[0], scale = <floating> inverse
    cdef floating offset = <floating> ((centre - statistics[0]) * inverse), level, slope
    cdef Py_ssize_t c
    if dweight != NULL:
        for c in range(n):
            dweight[c] += dy[c] * ((x[c] - centre) * scale + offset)
            dbias[c] += dy[c]
    if dx == NULL:
        return
    if floating is float:
        row_products_float(n, x, dy, weight, centre, scale, offset, &sums, &products)
    else:
        row_products_double(n, x, dy, weight, centre, scale, offset, &sums, &products)
    slope = <floating> (-inverse * products / n)
    level = <floating> (-inverse * sums / n) + slope * offset
    slope *= scale
    if weight != NULL:
        for c in range(n):
            dx[c] = weight[c] * dy[c] * scale + ((x[c] - centre) * slope + level)
    else:
        for c in range(n):
            dx[c] = dy[c] * scale + ((x[c] - centre) * slope + level)

"""Sums and affine functions of columns: what all normalisations are made of.

A strip is the values of n neighbouring channels at some positions.  Where n is small and all channels belong to the
strip, several positions are gone through as if they were one with more channels.
"""

from cython cimport floating
from libc.math cimport sqrt
from libc.string cimport memset

from onotrain._kernels.arrays cimport expect

cdef enum:
    WIDTH = 256     # most channels of a strip
    FULL = 64       # channels from which on a position is long enough by itself


cdef inline int expect_length(str what, const floating[::1] a, Py_ssize_t n) except -1:
    """Raise ValueError unless an optional vector has this length."""
    return expect("length of " + what, n if a is None else a.shape[0], n)


cdef inline Py_ssize_t positions_of(Py_ssize_t rows, Py_ssize_t samples) noexcept:
    """Rows of a sample, where those of all samples lie one after the other."""
    return rows // samples if samples > 0 else 0


cdef inline const floating* at(const floating* a, Py_ssize_t first) noexcept nogil:
    """Where a part of an optional vector begins."""
    return a + first if a != NULL else NULL


cdef struct Strip:
    Py_ssize_t n            # channels
    Py_ssize_t next         # elements from one position to the next
    Py_ssize_t together     # positions gone through as one; n times these are at most WIDTH
    Py_ssize_t rows         # of so many positions
    Py_ssize_t rest         # positions left after these


cdef inline Strip make_strip(Py_ssize_t positions, Py_ssize_t n, Py_ssize_t next) noexcept nogil:
    cdef Py_ssize_t together = 1
    if n == next and n < FULL and positions > 1:
        together = min(positions, FULL // n)
    return Strip(n, next, together, positions // together, positions % together)


cdef inline void repeat(const Strip* strip, floating* column) noexcept nogil:
    """Set ``(n,)`` factors of columns for all the positions that are gone through as one."""
    cdef Py_ssize_t c
    for c in range(strip.n, strip.n * strip.together):
        column[c] = column[c - strip.n]


cdef inline void affine(
    double mean, double factor, double bias, floating* centre, floating* scale, floating* offset
) noexcept nogil:
    """Write ``(x - mean) factor + bias`` as ``(x - centre) scale + offset``.

    What the mean loses when it is rounded goes to the offset: x - centre is exact where it matters, however far from 0
    the values lie.
    """
    centre[0] = <floating> mean
    scale[0] = <floating> factor
    offset[0] = <floating> (bias - (mean - centre[0]) * factor)


cdef inline void moments(
    Py_ssize_t n, const double* sums, const double* squares, double count, double* mean, double* variance
) noexcept nogil:
    """Mean and variance of `count` values from their sum and that of their squares."""
    cdef Py_ssize_t c
    for c in range(n):
        mean[c] = sums[c] / count
        variance[c] = squares[c] / count - mean[c] * mean[c]
        if variance[c] < 0:     # rounded; NaN stays
            variance[c] = 0


cdef inline void affine_columns(
    const Strip* strip,
    const double* mean,         # IN  (n,), as variance
    const double* variance,
    double epsilon,
    const floating* weight,     # IN  (n,) or NULL, as bias
    const floating* bias,
    floating* centre,           # OUT (WIDTH,), repeated, as scale and offset
    floating* scale,
    floating* offset,
) noexcept nogil:
    """Factors of ``weight (x - mean) / sqrt(variance + epsilon) + bias``."""
    cdef Py_ssize_t c
    cdef double factor
    for c in range(strip.n):
        factor = (weight[c] if weight != NULL else 1) / sqrt(variance[c] + epsilon)
        affine(mean[c], factor, bias[c] if bias != NULL else 0, centre + c, scale + c, offset + c)
    repeat(strip, centre)
    repeat(strip, scale)
    repeat(strip, offset)


cdef inline void fold(const Strip* strip, double* column) noexcept nogil:
    """Add up the sums of the positions that were gone through as one, to ``(n,)``."""
    cdef Py_ssize_t k, c
    for k in range(1, strip.together):
        for c in range(strip.n):
            column[c] += column[k * strip.n + c]


cdef inline double sum_of(Py_ssize_t n, const double* x) noexcept nogil:
    """Sum of n numbers, by eight sums that do not wait for each other."""
    cdef double[8] part
    cdef double whole = 0
    cdef Py_ssize_t c, lane
    if n >= 8:
        memset(part, 0, sizeof(part))
        for c in range(0, n - n % 8, 8):
            for lane in range(8):
                part[lane] += x[c + lane]
        whole = ((part[0] + part[4]) + (part[1] + part[5])) + ((part[2] + part[6]) + (part[3] + part[7]))
    for c in range(n - n % 8, n):
        whole += x[c]
    return whole


cdef inline void add_moments(
    Py_ssize_t rows, Py_ssize_t n, Py_ssize_t next, const floating* x, const double* shift, double* s, double* q
) noexcept nogil:
    cdef Py_ssize_t _, c
    cdef double v, w
    for _ in range(rows // 2):      # two rows at a time: half as many stores of the sums
        for c in range(n):
            v, w = x[c] - shift[c], x[next + c] - shift[c]
            s[c] += v + w
            q[c] += v * v + w * w
        x += 2 * next
    if rows % 2:
        for c in range(n):
            v = x[c] - shift[c]
            s[c] += v
            q[c] += v * v


cdef inline void sum_moments(
    const Strip* strip,
    const floating* x,
    const double* shift,    # IN  (WIDTH,), repeated
    double* s,              # OUT (WIDTH,), of which n count: sums of x - shift
    double* q,              # OUT the same: sums of its squares
) noexcept nogil:
    cdef Py_ssize_t n = strip.n * strip.together, step = strip.next * strip.together
    memset(s, 0, n * sizeof(double))
    memset(q, 0, n * sizeof(double))
    add_moments(strip.rows, n, step, x, shift, s, q)
    fold(strip, s)
    fold(strip, q)
    add_moments(strip.rest, strip.n, strip.next, x + strip.rows * step, shift, s, q)


cdef inline void add_products(
    Py_ssize_t rows, Py_ssize_t n, Py_ssize_t next, const floating* x, const floating* dy, const floating* centre,
    const floating* scale, const floating* offset, double* s, double* q,
) noexcept nogil:
    cdef Py_ssize_t _, c
    cdef floating normal
    for _ in range(rows):
        for c in range(n):
            normal = (x[c] - centre[c]) * scale[c] + offset[c]
            s[c] += dy[c]
            q[c] += <double> dy[c] * normal
        x += next
        dy += next


cdef inline void sum_products(
    const Strip* strip,
    const floating* x,
    const floating* dy,
    const floating* centre,     # IN  (WIDTH,), repeated, as scale and offset
    const floating* scale,
    const floating* offset,
    double* s,                  # OUT (WIDTH,), of which n count: sums of dy
    double* q,                  # OUT the same: sums of dy ((x - centre) scale + offset)
) noexcept nogil:
    cdef Py_ssize_t n = strip.n * strip.together, step = strip.next * strip.together
    memset(s, 0, n * sizeof(double))
    memset(q, 0, n * sizeof(double))
    add_products(strip.rows, n, step, x, dy, centre, scale, offset, s, q)
    fold(strip, s)
    fold(strip, q)
    x += strip.rows * step
    dy += strip.rows * step
    add_products(strip.rest, strip.n, strip.next, x, dy, centre, scale, offset, s, q)


cdef inline void scale_rows(
    Py_ssize_t rows, Py_ssize_t n, Py_ssize_t next, const floating* x, const floating* centre, const floating* scale,
    const floating* offset, floating* y,
) noexcept nogil:
    cdef Py_ssize_t _, c
    for _ in range(rows):
        for c in range(n):
            y[c] = (x[c] - centre[c]) * scale[c] + offset[c]
        x += next
        y += next


cdef inline void scale_strip(
    const Strip* strip, const floating* x, const floating* centre, const floating* scale, const floating* offset,
    floating* y,
) noexcept nogil:
    """``y = (x - centre) scale + offset``, with factors that are repeated."""
    cdef Py_ssize_t step = strip.next * strip.together
    scale_rows(strip.rows, strip.n * strip.together, step, x, centre, scale, offset, y)
    x += strip.rows * step
    y += strip.rows * step
    scale_rows(strip.rest, strip.n, strip.next, x, centre, scale, offset, y)


cdef inline void mix_rows(
    Py_ssize_t rows, Py_ssize_t n, Py_ssize_t next, const floating* x, const floating* dy, const floating* centre,
    const floating* of_dy, const floating* of_x, const floating* offset, floating* dx,
) noexcept nogil:
    cdef Py_ssize_t _, c
    for _ in range(rows):
        for c in range(n):
            dx[c] = of_dy[c] * dy[c] + ((x[c] - centre[c]) * of_x[c] + offset[c])
        x += next
        dy += next
        dx += next


cdef inline void mix_strip(
    const Strip* strip, const floating* x, const floating* dy, const floating* centre, const floating* of_dy,
    const floating* of_x, const floating* offset, floating* dx,
) noexcept nogil:
    """``dx = of_dy dy + (x - centre) of_x + offset``, with factors that are repeated."""
    cdef Py_ssize_t step = strip.next * strip.together
    mix_rows(strip.rows, strip.n * strip.together, step, x, dy, centre, of_dy, of_x, offset, dx)
    x += strip.rows * step
    dy += strip.rows * step
    dx += strip.rows * step
    mix_rows(strip.rest, strip.n, strip.next, x, dy, centre, of_dy, of_x, offset, dx)

"""Activations and dropout of rows: those of a dense layer's output, and those in front of which no dense layer stands.

Dimensions: r rows of the batch on this rank, o outputs.
"""

from cython cimport floating
from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset

from onotrain._kernels.activations cimport activate
from onotrain._kernels.elementary cimport LANES
from onotrain._kernels.philox cimport COLUMNS, Draw, dropout_factors

cdef enum:
    BLOCK = 2048    # numbers of several rows that are gone through together


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


cdef inline void activate_some(
    int activation, floating negative_slope, Py_ssize_t n, floating* slope, floating* y
) noexcept nogil:
    """`activate`, compiled once in a module."""
    activate(activation, negative_slope, n, slope, y)


cdef inline void activate_vectors(
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


cdef inline void activate_rows(
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


cdef inline void predict_rows(
    Py_ssize_t r,
    Py_ssize_t o,
    Py_ssize_t next_row,        # elements from a row of y to the next
    const floating* bias,       # IN  (o,) or NULL
    int activation,
    floating negative_slope,
    floating* y,                # IN z, OUT activation(z + b)  (r, o)
) noexcept nogil:
    """``y = activation(z + b)``, by blocks as in `activate_rows`."""
    cdef floating[BLOCK] slope  # not asked for, and of no cost in the first-level cache
    cdef Draw keep_all
    cdef Py_ssize_t together = BLOCK // o if next_row == o and 0 < o <= BLOCK else 1, rows, first, n
    memset(&keep_all, 0, sizeof(Draw))
    while r > 0:
        rows = min(together, r)
        first = 0
        while first < o:
            n = min(<Py_ssize_t> BLOCK, o - first)
            memcpy(slope, y + first, rows * n * sizeof(floating))
            activate_rows(
                rows, n, n, bias + first if bias != NULL else NULL, activation, negative_slope, keep_all, 0, slope,
                y + first,
            )
            first += n
        y += rows * next_row
        r -= rows

"""The declarations of tiles.h for Cython; see there for what the functions compute.

Dimensions: r rows of the batch, i inputs, o outputs, n some of the inputs.
"""

from cython cimport floating

cdef extern from "tiles.h" nogil:
    int SET
    int ADD
    int STREAM
    bint prefer_tiles_float(Py_ssize_t r, Py_ssize_t i)
    bint prefer_tiles_double(Py_ssize_t r, Py_ssize_t i)
    ctypedef void (*follow_float)(
        const void* context, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t column, Py_ssize_t columns, float* z,
        Py_ssize_t next_z) noexcept nogil
    ctypedef void (*follow_double)(
        const void* context, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t column, Py_ssize_t columns, double* z,
        Py_ssize_t next_z) noexcept nogil
    Py_ssize_t packed_size_float(Py_ssize_t i, Py_ssize_t o)
    Py_ssize_t packed_size_double(Py_ssize_t i, Py_ssize_t o)
    void pack_weight_float(Py_ssize_t i, Py_ssize_t o, const float* w, float* panels)
    void pack_weight_double(Py_ssize_t i, Py_ssize_t o, const double* w, double* panels)
    bint packing_pays_float(Py_ssize_t r, Py_ssize_t i, Py_ssize_t o)
    bint packing_pays_double(Py_ssize_t r, Py_ssize_t i, Py_ssize_t o)
    void x_weight_float(
        Py_ssize_t r, Py_ssize_t i, Py_ssize_t o, const float* x, const float* w, const float* panels, float* z,
        follow_float follow, const void* context)
    void x_weight_double(
        Py_ssize_t r, Py_ssize_t i, Py_ssize_t o, const double* x, const double* w, const double* panels, double* z,
        follow_double follow, const void* context)
    void dz_weight_float(Py_ssize_t r, Py_ssize_t i, Py_ssize_t o, const float* dz, const float* w, float* dx)
    void dz_weight_double(Py_ssize_t r, Py_ssize_t i, Py_ssize_t o, const double* dz, const double* w, double* dx)
    void dz_x_float(
        Py_ssize_t r, Py_ssize_t n, Py_ssize_t o, const float* dz, Py_ssize_t next_dz, const float* x,
        Py_ssize_t next_x, int mode, float* dw, Py_ssize_t next_dw)
    void dz_x_double(
        Py_ssize_t r, Py_ssize_t n, Py_ssize_t o, const double* dz, Py_ssize_t next_dz, const double* x,
        Py_ssize_t next_x, int mode, double* dw, Py_ssize_t next_dw)
    void transpose_float(
        Py_ssize_t m, Py_ssize_t n, const float* x, Py_ssize_t next_x, bint add, float* y, Py_ssize_t next_y)
    void transpose_double(
        Py_ssize_t m, Py_ssize_t n, const double* x, Py_ssize_t next_x, bint add, double* y, Py_ssize_t next_y)
    void column_sums_float(Py_ssize_t r, Py_ssize_t n, const float* x, Py_ssize_t next_x, float* sums)
    void column_sums_double(Py_ssize_t r, Py_ssize_t n, const double* x, Py_ssize_t next_x, double* sums)


cdef inline void column_sums(
    Py_ssize_t r, Py_ssize_t n, const floating* x, Py_ssize_t next_x, floating* sums
) noexcept nogil:
    """``sums (n,) = row 0 + row 1 + ...`` of ``x (r, n)``, in this order."""
    if floating is float:
        column_sums_float(r, n, x, next_x, sums)
    else:
        column_sums_double(r, n, x, next_x, sums)


cdef inline bint prefer_tiles(Py_ssize_t r, Py_ssize_t i, const floating* x) noexcept nogil:
    """Whether tiles are faster than BLAS for r rows of x and weights of i inputs."""
    return prefer_tiles_float(r, i) if floating is float else prefer_tiles_double(r, i)


cdef inline void dz_x_tiles(
    Py_ssize_t r, Py_ssize_t n, Py_ssize_t o, const floating* dz, Py_ssize_t next_dz, const floating* x,
    Py_ssize_t next_x, int mode, floating* dw, Py_ssize_t next_dw,
) noexcept nogil:
    """``dw (o, n) = dz (r, o)^T x (r, n)``, or plus dw; rows are `next_dz`, `next_x` and `next_dw` elements apart."""
    if floating is float:
        dz_x_float(r, n, o, dz, next_dz, x, next_x, mode, dw, next_dw)
    else:
        dz_x_double(r, n, o, dz, next_dz, x, next_x, mode, dw, next_dw)


cdef inline void transpose(Py_ssize_t m, Py_ssize_t n, const floating* x, floating* y) noexcept nogil:
    """``y (n, m) = x (m, n)^T``."""
    if floating is float:
        transpose_float(m, n, x, n, False, y, m)
    else:
        transpose_double(m, n, x, n, False, y, m)

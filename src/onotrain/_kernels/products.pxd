"""The three matrix products of a dense layer, on tiles of registers or by BLAS, whichever is faster for the shape.

Dimensions: r rows of the batch, i inputs, o outputs.
"""

from cython cimport floating

from onotrain._kernels.gemm cimport matmul

cdef extern from "vectors.h" nogil:
    int VECTOR_BYTES
    bint can_stream(const void* p, size_t size)
    void end_of_stream()

cdef extern from "tiles.h" nogil:
    int SET
    int ADD
    int STREAM
    bint prefer_tiles_float(Py_ssize_t r, Py_ssize_t i)
    bint prefer_tiles_double(Py_ssize_t r, Py_ssize_t i)
    void x_weight_float(Py_ssize_t r, Py_ssize_t i, Py_ssize_t o, const float* x, const float* w, float* z)
    void x_weight_double(Py_ssize_t r, Py_ssize_t i, Py_ssize_t o, const double* x, const double* w, double* z)
    void dz_weight_float(Py_ssize_t r, Py_ssize_t i, Py_ssize_t o, const float* dz, const float* w, float* dx)
    void dz_weight_double(Py_ssize_t r, Py_ssize_t i, Py_ssize_t o, const double* dz, const double* w, double* dx)
    void dz_x_float(
        Py_ssize_t r, Py_ssize_t n, Py_ssize_t o, const float* dz, Py_ssize_t next_dz, const float* x,
        Py_ssize_t next_x, int mode, float* dw, Py_ssize_t next_dw)
    void dz_x_double(
        Py_ssize_t r, Py_ssize_t n, Py_ssize_t o, const double* dz, Py_ssize_t next_dz, const double* x,
        Py_ssize_t next_x, int mode, double* dw, Py_ssize_t next_dw)


cdef inline void x_weight(int r, int i, int o, const floating* x, const floating* weight, floating* z) noexcept nogil:
    """``z (r, o) = x (r, i) weight (o, i)^T``."""
    if floating is float:
        if prefer_tiles_float(r, i):
            x_weight_float(r, i, o, x, weight, z)
            return
    elif prefer_tiles_double(r, i):
        x_weight_double(r, i, o, x, weight, z)
        return
    matmul(False, True, r, o, i, <floating> 1, x, weight, <floating> 0, z)


cdef inline void dz_weight(
    int r, int i, int o, const floating* dz, const floating* weight, floating* dx
) noexcept nogil:
    """``dx (r, i) = dz (r, o) weight (o, i)``."""
    if floating is float:
        if prefer_tiles_float(r, i):
            dz_weight_float(r, i, o, dz, weight, dx)
            return
    elif prefer_tiles_double(r, i):
        dz_weight_double(r, i, o, dz, weight, dx)
        return
    matmul(False, False, r, i, o, <floating> 1, dz, weight, <floating> 0, dx)


cdef inline void dz_x(
    int r, int i, int o, const floating* dz, const floating* x, bint accumulate, bint shared, floating* dw
) noexcept nogil:
    """``dw (o, i) = dz (r, o)^T x (r, i)``, plus dw if `accumulate`; past the caches if dw is large and `shared`."""
    cdef int mode = ADD if accumulate else SET
    cdef size_t row = i * sizeof(floating)
    if shared and not accumulate and row % VECTOR_BYTES == 0 and can_stream(dw, o * row):
        mode = STREAM
    if floating is float:
        if prefer_tiles_float(r, i):
            dz_x_float(r, i, o, dz, o, x, i, mode, dw, i)
            if mode == STREAM:
                end_of_stream()
            return
    elif prefer_tiles_double(r, i):
        dz_x_double(r, i, o, dz, o, x, i, mode, dw, i)
        if mode == STREAM:
            end_of_stream()
        return
    matmul(True, False, o, i, r, <floating> 1, dz, x, <floating> (1 if accumulate else 0), dw)

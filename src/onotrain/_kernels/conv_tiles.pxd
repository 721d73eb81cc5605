"""The declarations of conv.h and conv_tiles.h for Cython; see there for what the functions compute."""

from cython cimport floating

cdef extern from "conv_tiles.h" nogil:
    int CONV_FORWARD
    int CONV_BACKWARD
    ctypedef struct conv:
        Py_ssize_t block_rows, r, h, w, c, o, groups, kh, kw, ho, wo
        Py_ssize_t stride_y, stride_x, top, left, dilation_y, dilation_x
        Py_ssize_t taps, positions, together
    void conv_describe(conv* s, size_t itemsize)
    void conv_begin_dw(const conv* s, size_t itemsize)
    size_t conv_prepare(conv* s, size_t itemsize, int direction, char* memory)
    void conv_begin_forward_float(const conv* s, const float* w, const float* bias)
    void conv_begin_forward_double(const conv* s, const double* w, const double* bias)
    void conv_z_float(const conv* s, Py_ssize_t n, const float* x, float* z)
    void conv_z_double(const conv* s, Py_ssize_t n, const double* x, double* z)
    void conv_begin_dx_float(const conv* s, const float* w)
    void conv_begin_dx_double(const conv* s, const double* w)
    void conv_add_dw_float(const conv* s, Py_ssize_t n, const float* x, const float* dz)
    void conv_add_dw_double(const conv* s, Py_ssize_t n, const double* x, const double* dz)
    void conv_end_dw_float(const conv* s, bint accumulate, float* dw)
    void conv_end_dw_double(const conv* s, bint accumulate, double* dw)
    void conv_dx_float(const conv* s, Py_ssize_t n, const float* dz, float* dx)
    void conv_dx_double(const conv* s, Py_ssize_t n, const double* dz, double* dx)
    void conv_add_db_float(const conv* s, Py_ssize_t m, const float* dz, float* db)
    void conv_add_db_double(const conv* s, Py_ssize_t m, const double* dz, double* db)


cdef inline void conv_begin_forward(const conv* s, const floating* w, const floating* bias) noexcept nogil:
    if floating is float:
        conv_begin_forward_float(s, w, bias)
    else:
        conv_begin_forward_double(s, w, bias)


cdef inline void conv_z(const conv* s, Py_ssize_t n, const floating* x, floating* z) noexcept nogil:
    if floating is float:
        conv_z_float(s, n, x, z)
    else:
        conv_z_double(s, n, x, z)


cdef inline void conv_begin_dx(const conv* s, const floating* w) noexcept nogil:
    if floating is float:
        conv_begin_dx_float(s, w)
    else:
        conv_begin_dx_double(s, w)


cdef inline void conv_add_dw(const conv* s, Py_ssize_t n, const floating* x, const floating* dz) noexcept nogil:
    if floating is float:
        conv_add_dw_float(s, n, x, dz)
    else:
        conv_add_dw_double(s, n, x, dz)


cdef inline void conv_end_dw(const conv* s, bint accumulate, floating* dw) noexcept nogil:
    if floating is float:
        conv_end_dw_float(s, accumulate, dw)
    else:
        conv_end_dw_double(s, accumulate, dw)


cdef inline void conv_dx(const conv* s, Py_ssize_t n, const floating* dz, floating* dx) noexcept nogil:
    if floating is float:
        conv_dx_float(s, n, dz, dx)
    else:
        conv_dx_double(s, n, dz, dx)


cdef inline void conv_add_db(const conv* s, Py_ssize_t m, const floating* dz, floating* db) noexcept nogil:
    if floating is float:
        conv_add_db_float(s, m, dz, db)
    else:
        conv_add_db_double(s, m, dz, db)

"""Row-major matrix product for the other kernels."""

from cython cimport floating
from libc.limits cimport INT_MAX


cdef inline int blas_int(Py_ssize_t n) except -1:
    """Convert a length to the integer of BLAS."""
    if n > INT_MAX:
        raise ValueError(f"an axis of {n} elements is too long for BLAS, expected at most {INT_MAX}")
    return <int> n


cdef void matmul(
    bint transpose_a,
    bint transpose_b,
    int m,                  # rows of op(A) and C
    int n,                  # columns of op(B) and C
    int k,                  # columns of op(A), rows of op(B)
    floating alpha,
    const floating* a,      # IN  (m, k), or (k, m) if transposed
    const floating* b,      # IN  (k, n), or (n, k) if transposed
    floating beta,
    floating* c,            # OUT (m, n)
) noexcept nogil

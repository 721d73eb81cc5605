"""Row-major ``C = alpha op(A) op(B) + beta C`` over the BLAS that SciPy brings.

Dimensions: C is ``(m, n)``, op(A) ``(m, k)``, op(B) ``(k, n)``; all are stored without gaps.
"""

from cython cimport floating
from libc.string cimport memset
from scipy.linalg.cython_blas cimport dgemm, sgemm

from onotrain._kernels.arrays cimport expect, in_2d, out_2d


cdef void matmul(
    bint transpose_a, bint transpose_b, int m, int n, int k,
    floating alpha, const floating* a, const floating* b, floating beta, floating* c,
) noexcept nogil:
    # BLAS is column-major and sees every one of our matrices transposed: it is asked for C^T = op(B)^T op(A)^T.
    cdef char* op_a = "T" if transpose_a else "N"
    cdef char* op_b = "T" if transpose_b else "N"
    cdef int row_of_a = m if transpose_a else k
    cdef int row_of_b = k if transpose_b else n
    cdef Py_ssize_t j, size = <Py_ssize_t> m * n
    if size == 0:
        return
    if k == 0:  # BLAS libraries differ on what they do with empty inputs
        if beta == 0:
            memset(c, 0, size * sizeof(floating))
        else:
            for j in range(size):
                c[j] *= beta
    elif floating is float:
        sgemm(op_b, op_a, &n, &m, &k, &alpha, <float*> b, &row_of_b, <float*> a, &row_of_a, &beta, c, &n)
    else:
        dgemm(op_b, op_a, &n, &m, &k, &alpha, <double*> b, &row_of_b, <double*> a, &row_of_a, &beta, c, &n)


def gemm(
    const floating[:, ::1] a not None,      # IN
    const floating[:, ::1] b not None,      # IN
    bint transpose_a,
    bint transpose_b,
    double alpha,
    double beta,
    floating[:, ::1] c not None,            # OUT
):
    """``C = alpha op(A) op(B) + beta C``; C is not read if beta is 0."""
    cdef int m = blas_int(c.shape[0])
    cdef int n = blas_int(c.shape[1])
    cdef int k = blas_int(a.shape[0] if transpose_a else a.shape[1])
    expect("rows of op(a)", a.shape[1] if transpose_a else a.shape[0], m)
    expect("rows of op(b)", b.shape[1] if transpose_b else b.shape[0], k)
    expect("columns of op(b)", b.shape[0] if transpose_b else b.shape[1], n)
    with nogil:
        matmul(
            transpose_a, transpose_b, m, n, k, <floating> alpha, in_2d(a), in_2d(b), <floating> beta, out_2d(c)
        )

"""The batch: rows taken from storage, converted and normalised in one pass."""

from cython cimport floating
from libc.stdint cimport int64_t, uint8_t

from onotrain._kernels.arrays cimport expect, in_1d, out_2d

ctypedef fused storage:
    uint8_t
    float
    double

ctypedef fused affine:  # double where the storage is: the difference of large numbers is what is rounded
    float
    double


cdef Py_ssize_t first_outside(const int64_t[::1] index, int64_t n) noexcept nogil:
    """Place of the first index outside ``range(n)``, or -1."""
    cdef Py_ssize_t j
    cdef bint outside = False
    for j in range(index.shape[0]):  # no exit: this loop is vectorised
        outside |= <bint> (index[j] < 0) | <bint> (index[j] >= n)
    if outside:
        for j in range(index.shape[0]):
            if index[j] < 0 or index[j] >= n:
                return j
    return -1


def gather(
    const storage[:, ::1] source not None,      # IN  (n, i)
    const int64_t[::1] index not None,          # IN  (r,)
    const affine[::1] shift not None,           # IN  (i,)
    const affine[::1] scale not None,           # IN  (i,)
    floating[:, ::1] out not None,              # OUT (r, i)
):
    """``out = (source[index] - shift) * scale``, computed in the widest of the dtypes."""
    cdef Py_ssize_t r = index.shape[0], i = source.shape[1], q, c, bad
    cdef const storage* row
    cdef const affine* low = in_1d(shift)
    cdef const affine* factor = in_1d(scale)
    cdef floating* y = out_2d(out)
    expect("length of shift", shift.shape[0], i)
    expect("length of scale", scale.shape[0], i)
    expect("rows of out", out.shape[0], r)
    expect("columns of out", out.shape[1], i)
    with nogil:
        bad = first_outside(index, source.shape[0])
    if bad >= 0:
        raise IndexError(f"index[{bad}]: got {index[bad]}, expected one of the {source.shape[0]} rows of source")
    if r == 0 or i == 0:
        return
    with nogil:
        for q in range(r):
            row = &source[index[q], 0]
            for c in range(i):
                y[c] = <floating> ((row[c] - low[c]) * factor[c])
            y += i

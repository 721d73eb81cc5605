"""The batch: rows taken from storage, converted and normalised in one pass."""

from cython cimport floating
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy

from onotrain._kernels.arrays cimport expect, in_1d, out_2d
from onotrain._kernels.program cimport GO_ON, WRONG_VALUE, Kernel, Moment, at_step, recorded

ctypedef fused storage:
    uint8_t
    float
    double

ctypedef fused affine:  # double where the storage is: the difference of large numbers is what is rounded
    float
    double


cdef extern from *:
    """
    /* Fetches the first lines of a row; the processor sees by itself where it goes on. */
    static inline void onotrain_fetch(const char *row, ptrdiff_t nbytes) {
        for (ptrdiff_t b = 0; b < nbytes && b < 256; b += 64) __builtin_prefetch(row + b);
        __builtin_prefetch(row + (nbytes < 256 ? nbytes : 256) - 1);
    }
    """
    void fetch "onotrain_fetch"(const void* row, Py_ssize_t nbytes) noexcept nogil

cdef enum:
    AHEAD = 32      # rows that are under way from memory: they lie anywhere

WRONG_INDEX = "index: expected rows of source"


cdef Py_ssize_t first_outside(Py_ssize_t r, const int64_t* index, int64_t n) noexcept nogil:
    """Place of the first index outside ``range(n)``, or -1."""
    cdef Py_ssize_t j
    cdef bint outside = False
    for j in range(r):  # no exit: this loop is vectorised
        outside |= <bint> (index[j] < 0) | <bint> (index[j] >= n)
    if outside:
        for j in range(r):
            if index[j] < 0 or index[j] >= n:
                return j
    return -1


cdef const int64_t* first_of(const int64_t[::1] index) noexcept nogil:
    return &index[0] if index.shape[0] > 0 else NULL


cdef object wrong_index(const int64_t[::1] index, Py_ssize_t n):
    cdef Py_ssize_t bad = first_outside(index.shape[0], first_of(index), n)
    return IndexError(f"index[{bad}]: got {index[bad]}, expected one of the {n} rows of source")


cdef struct Gather:
    Py_ssize_t n
    Py_ssize_t r
    Py_ssize_t i
    const int64_t* index
    const void* shift
    const void* scale
    void* out


cdef int gather_rows(
    const storage* source, const Gather* a, const affine* shift, const affine* scale, floating* y
) noexcept nogil:
    cdef const storage* row
    cdef Py_ssize_t q, c
    if first_outside(a.r, a.index, a.n) >= 0:
        return WRONG_VALUE
    for q in range(min(a.r, <Py_ssize_t> AHEAD)):
        fetch(source + a.index[q] * a.i, a.i * sizeof(storage))
    for q in range(a.r):
        if q + AHEAD < a.r:
            fetch(source + a.index[q + AHEAD] * a.i, a.i * sizeof(storage))
        row = source + a.index[q] * a.i
        for c in range(a.i):
            y[c] = <floating> ((row[c] - shift[c]) * scale[c])
        y += a.i
    return GO_ON


cdef int gather_float(const storage* source, const Gather* a, const Moment* now) noexcept nogil:
    if storage is double:
        return gather_rows(source, a, <const double*> a.shift, <const double*> a.scale, <float*> a.out)
    else:
        return gather_rows(source, a, <const float*> a.shift, <const float*> a.scale, <float*> a.out)


cdef int gather_double(const storage* source, const Gather* a, const Moment* now) noexcept nogil:
    return gather_rows(source, a, <const double*> a.shift, <const double*> a.scale, <double*> a.out)


def gather(
    const storage[:, ::1] source not None,      # IN  (n, i)
    const int64_t[::1] index not None,          # IN  (r,)
    const affine[::1] shift not None,           # IN  (i,), double if source or out is
    const affine[::1] scale not None,           # IN  (i,)
    floating[:, ::1] out not None,              # OUT (r, i)
    bint record=False,
):
    """``out = (source[index] - shift) * scale``, computed in the widest of the dtypes."""
    cdef Py_ssize_t n = source.shape[0], r = index.shape[0], i = source.shape[1]
    cdef const storage* first = NULL
    cdef Gather a = Gather(n, r, i, first_of(index), in_1d(shift), in_1d(scale), out_2d(out))
    cdef Moment now = at_step(0)
    cdef int said
    cdef Kernel kernel
    cdef size_t widest = sizeof(floating)
    if floating is float:
        kernel = <Kernel> gather_float[storage]
    else:
        kernel = <Kernel> gather_double[storage]
    if storage is double:
        widest = sizeof(double)
    if sizeof(affine) != widest:
        raise ValueError("shift and scale: expected the widest dtype of source and out")
    expect("length of shift", shift.shape[0], i)
    expect("length of scale", scale.shape[0], i)
    expect("rows of out", out.shape[0], r)
    expect("columns of out", out.shape[1], i)
    if n > 0 and i > 0:
        first = &source[0, 0]
    if record:
        return recorded(kernel, first, &a, sizeof(a), (source, index, shift, scale, out), WRONG_INDEX)
    with nogil:
        said = kernel(first, &a, &now)
    if said == WRONG_VALUE:
        raise wrong_index(index, n)


cdef struct Take:
    Py_ssize_t n
    Py_ssize_t r
    Py_ssize_t nbytes
    const int64_t* index
    uint8_t* out


cdef int run_take(const uint8_t* source, const Take* a, const Moment* now) noexcept nogil:
    cdef Py_ssize_t q
    if first_outside(a.r, a.index, a.n) >= 0:
        return WRONG_VALUE
    if a.nbytes == 4:  # classes, and weights of samples: copies whose length the compiler knows
        for q in range(a.r):
            memcpy(a.out + 4 * q, source + 4 * a.index[q], 4)
    elif a.nbytes == 8:
        for q in range(a.r):
            memcpy(a.out + 8 * q, source + 8 * a.index[q], 8)
    else:
        for q in range(min(a.r, <Py_ssize_t> AHEAD)):
            fetch(source + a.index[q] * a.nbytes, a.nbytes)
        for q in range(a.r):
            if q + AHEAD < a.r:
                fetch(source + a.index[q + AHEAD] * a.nbytes, a.nbytes)
            memcpy(a.out + q * a.nbytes, source + a.index[q] * a.nbytes, a.nbytes)
    return GO_ON


def take(
    const uint8_t[:, ::1] source not None,      # IN  (n, bytes)
    const int64_t[::1] index not None,          # IN  (r,)
    uint8_t[:, ::1] out not None,               # OUT (r, bytes)
    bint record=False,
):
    """``out = source[index]``, of rows of any dtype as bytes."""
    cdef Py_ssize_t n = source.shape[0], r = index.shape[0], nbytes = source.shape[1]
    cdef const uint8_t* first = NULL
    cdef Take a = Take(n, r, nbytes, first_of(index), NULL)
    cdef Moment now = at_step(0)
    cdef int said
    expect("rows of out", out.shape[0], r)
    expect("bytes of a row of out", out.shape[1], nbytes)
    if n > 0 and nbytes > 0:
        first = &source[0, 0]
    if r > 0 and nbytes > 0:
        a.out = &out[0, 0]
    if record:
        return recorded(<Kernel> run_take, first, &a, sizeof(a), (source, index, out), WRONG_INDEX)
    with nogil:
        said = run_take(first, &a, &now)
    if said == WRONG_VALUE:
        raise wrong_index(index, n)

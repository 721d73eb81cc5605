"""From typed memoryviews to the raw pointers that the loops run on.

A memoryview argument has been checked for dtype, dimensions and contiguity by the time a kernel sees it; `expect`
checks its lengths.  Both happen with the GIL, once per call, so that no loop can leave an array.
"""

from cython cimport floating


cdef inline int expect(str what, Py_ssize_t got, Py_ssize_t expected) except -1:
    """Raise ValueError unless a length is the expected one."""
    if got != expected:
        raise ValueError(f"{what}: got {got}, expected {expected}")
    return 0


cdef inline int expect_shape(str what, const floating[:, ::1] a, Py_ssize_t rows, Py_ssize_t columns) except -1:
    """Raise ValueError unless an array has these rows and columns."""
    expect("rows of " + what, a.shape[0], rows)
    return expect("columns of " + what, a.shape[1], columns)


cdef inline int expect_shape_4d(
    str what, const floating[:, :, :, ::1] a, Py_ssize_t rows, Py_ssize_t height, Py_ssize_t width, Py_ssize_t channels
) except -1:
    """Raise ValueError unless an array of images, or of weights, has this shape."""
    got = a.shape[0], a.shape[1], a.shape[2], a.shape[3]
    if got != (rows, height, width, channels):
        raise ValueError(f"shape of {what}: got {got}, expected {(rows, height, width, channels)}")
    return 0


# First element, or NULL where there is none: an empty array, or None for an optional argument.

cdef inline const floating* in_1d(const floating[::1] a) noexcept nogil:
    return &a[0] if a is not None and a.shape[0] > 0 else NULL


cdef inline const floating* in_2d(const floating[:, ::1] a) noexcept nogil:
    return &a[0, 0] if a is not None and a.shape[0] > 0 and a.shape[1] > 0 else NULL


cdef inline floating* out_1d(floating[::1] a) noexcept nogil:
    return &a[0] if a is not None and a.shape[0] > 0 else NULL


cdef inline floating* out_2d(floating[:, ::1] a) noexcept nogil:
    return &a[0, 0] if a is not None and a.shape[0] > 0 and a.shape[1] > 0 else NULL


cdef inline const floating* in_3d(const floating[:, :, ::1] a) noexcept nogil:
    return &a[0, 0, 0] if a is not None and min(a.shape[0], a.shape[1], a.shape[2]) > 0 else NULL


cdef inline floating* out_3d(floating[:, :, ::1] a) noexcept nogil:
    return &a[0, 0, 0] if a is not None and min(a.shape[0], a.shape[1], a.shape[2]) > 0 else NULL


cdef inline const floating* in_4d(const floating[:, :, :, ::1] a) noexcept nogil:
    return &a[0, 0, 0, 0] if a is not None and min(a.shape[0], a.shape[1], a.shape[2], a.shape[3]) > 0 else NULL


cdef inline floating* out_4d(floating[:, :, :, ::1] a) noexcept nogil:
    return &a[0, 0, 0, 0] if a is not None and min(a.shape[0], a.shape[1], a.shape[2], a.shape[3]) > 0 else NULL

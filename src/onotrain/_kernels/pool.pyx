"""Pooling: the largest number or the mean of each window of an image.

Dimensions: r rows of the batch on this rank, images of h by w pixels of c channels, k by l outputs.
"""

from cython cimport floating
from libc.stdint cimport uint8_t

from onotrain._kernels.arrays cimport expect, in_4d, out_4d
from onotrain._kernels.program cimport Kernel, Moment, at_step, recorded


cdef extern from "pooling.h" nogil:
    ctypedef struct Axis "pool_axis":
        Py_ssize_t n_in "in"
        Py_ssize_t n_out "out"
        Py_ssize_t size
        Py_ssize_t stride
        Py_ssize_t padding
    ctypedef struct Shape "pool_shape":
        Axis y
        Axis x
        Py_ssize_t channels
    int MAX_POOL
    int MEAN_POOL
    int MAX_POOL_BACK
    int MEAN_POOL_BACK
    void pool_float(int what, Py_ssize_t r, const Shape* s, const float* source, uint8_t* winner, float* out)
    void pool_double(int what, Py_ssize_t r, const Shape* s, const double* source, uint8_t* winner, double* out)

cdef enum:
    MOST_PLACES = 256       # of a window, that the bytes of winners can tell


cdef Axis axis(str what, Py_ssize_t n, Py_ssize_t size, Py_ssize_t stride, Py_ssize_t padding, Py_ssize_t got) except *:
    """Return an axis whose number of outputs is the right one."""
    if size < 1 or stride < 1 or padding < 0 or 2 * padding > size or size > n + 2 * padding:
        raise ValueError(
            f"{what}: got size {size}, stride {stride}, padding {padding}, expected at least 1, at least 1, at least 0 "
            f"and at most half the size, and a window of at most the padded {what} of {n + 2 * padding}"
        )
    expect(f"{what} of the output", got, (n + 2 * padding - size) // stride + 1)
    return Axis(n, got, size, stride, padding)


cdef Shape shape_of(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] y, Py_ssize_t size_y, Py_ssize_t size_x,
    Py_ssize_t stride_y, Py_ssize_t stride_x, Py_ssize_t padding_y, Py_ssize_t padding_x,
) except *:
    """Return the shape of a pass over images x and outputs y."""
    expect("rows of the output", y.shape[0], x.shape[0])
    expect("channels of the output", y.shape[3], x.shape[3])
    return Shape(
        axis("height", x.shape[1], size_y, stride_y, padding_y, y.shape[1]),
        axis("width", x.shape[2], size_x, stride_x, padding_x, y.shape[2]), x.shape[3],
    )


cdef uint8_t* winners(const uint8_t[:, :, :, ::1] winner, const floating[:, :, :, ::1] y, const Shape* s) except? NULL:
    """Return the first of the winners, which have the shape of y."""
    cdef int each
    if s.y.size * s.x.size > MOST_PLACES:
        raise ValueError(f"window: got {s.y.size} by {s.x.size} pixels, expected at most {MOST_PLACES} in all")
    for each in range(4):
        expect(f"axis {each} of winner", winner.shape[each], y.shape[each])
    return <uint8_t*> &winner[0, 0, 0, 0] if winner.size > 0 else NULL


cdef struct Pass:
    int what
    Py_ssize_t r
    Shape shape
    uint8_t* winner
    void* out


cdef int run_pass(const floating* source, const Pass* a, const Moment* now) noexcept nogil:
    if floating is float:
        pool_float(a.what, a.r, &a.shape, source, a.winner, <float*> a.out)
    else:
        pool_double(a.what, a.r, &a.shape, source, a.winner, <double*> a.out)
    return 0


cdef object passed(
    int what, const floating[:, :, :, ::1] source, const Shape* shape, const uint8_t[:, :, :, ::1] winner,
    uint8_t* places, floating[:, :, :, ::1] out, bint record,
):
    """Make a pass, or record it; `places` are the first of the winners, or NULL."""
    cdef Moment now = at_step(0)
    cdef Pass a = Pass(what, source.shape[0], shape[0], places, out_4d(out))
    if record:
        return recorded(<Kernel> run_pass[floating], in_4d(source), &a, sizeof(a), (source, winner, out), "")
    with nogil:
        run_pass(in_4d(source), &a, &now)


def max_pool(
    const floating[:, :, :, ::1] x not None,    # IN  (r, h, w, c)
    Py_ssize_t size_y,
    Py_ssize_t size_x,
    Py_ssize_t stride_y,
    Py_ssize_t stride_x,
    Py_ssize_t padding_y,
    Py_ssize_t padding_x,
    uint8_t[:, :, :, ::1] winner,               # OUT (r, k, l, c) or None
    floating[:, :, :, ::1] y not None,          # OUT (r, k, l, c)
    bint record=False,
):
    """Write the largest number of each window, and its place in the window."""
    cdef Shape shape = shape_of(x, y, size_y, size_x, stride_y, stride_x, padding_y, padding_x)
    cdef uint8_t* places = NULL
    if winner is not None:
        places = winners(winner, y, &shape)
    return passed[floating](MAX_POOL, x, &shape, winner, places, y, record)


def max_pool_backward(
    const uint8_t[:, :, :, ::1] winner not None,    # IN  (r, k, l, c)
    const floating[:, :, :, ::1] dy not None,       # IN  (r, k, l, c)
    Py_ssize_t size_y,
    Py_ssize_t size_x,
    Py_ssize_t stride_y,
    Py_ssize_t stride_x,
    Py_ssize_t padding_y,
    Py_ssize_t padding_x,
    floating[:, :, :, ::1] dx not None,             # OUT (r, h, w, c)
    bint record=False,
):
    """Each pixel gets the sum of the gradients by the outputs that it is."""
    cdef Shape shape = shape_of(dx, dy, size_y, size_x, stride_y, stride_x, padding_y, padding_x)
    return passed[floating](MAX_POOL_BACK, dy, &shape, winner, winners(winner, dy, &shape), dx, record)


def avg_pool(
    const floating[:, :, :, ::1] x not None,    # IN  (r, h, w, c)
    Py_ssize_t size_y,
    Py_ssize_t size_x,
    Py_ssize_t stride_y,
    Py_ssize_t stride_x,
    Py_ssize_t padding_y,
    Py_ssize_t padding_x,
    floating[:, :, :, ::1] y not None,          # OUT (r, k, l, c)
    bint record=False,
):
    """Write the mean of each window; pixels of the padding are zeros that count."""
    cdef Shape shape = shape_of(x, y, size_y, size_x, stride_y, stride_x, padding_y, padding_x)
    return passed[floating](MEAN_POOL, x, &shape, None, NULL, y, record)


def avg_pool_backward(
    const floating[:, :, :, ::1] dy not None,   # IN  (r, k, l, c)
    Py_ssize_t size_y,
    Py_ssize_t size_x,
    Py_ssize_t stride_y,
    Py_ssize_t stride_x,
    Py_ssize_t padding_y,
    Py_ssize_t padding_x,
    floating[:, :, :, ::1] dx not None,         # OUT (r, h, w, c)
    bint record=False,
):
    """Each pixel gets its share of the gradients by the outputs in whose windows it lies."""
    cdef Shape shape = shape_of(dx, dy, size_y, size_x, stride_y, stride_x, padding_y, padding_x)
    return passed[floating](MEAN_POOL_BACK, dy, &shape, None, NULL, dx, record)

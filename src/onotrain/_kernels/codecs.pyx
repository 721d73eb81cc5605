"""What codecs make of numbers before they are sent, and of what has come: one pass each.

The same bits on every level of the CPU: nothing here is summed, and products are not fused with sums.
"""

from cython cimport floating
from libc.math cimport NAN, isfinite
from libc.stdint cimport int8_t, uint16_t
from libc.string cimport memset

from onotrain._kernels.arrays cimport expect, in_1d, out_1d
from onotrain._kernels.elementary cimport fabs

cdef extern from "roundings.h" nogil:
    float rounded_to_odd(double x)
    uint16_t half_of(float x)
    float single_of(uint16_t half)
    uint16_t upper_half_of(float x)
    float single_of_upper_half(uint16_t half)
    int8_t integer_float(float x)
    int8_t integer_double(double x)
    float largest_float(const float* x, Py_ssize_t n)
    double largest_double(const double* x, Py_ssize_t n)

cdef enum:
    GROUP = 256     # values that share a scale

cdef float SMALLEST_SCALE = 2.0**-126   # a normal number, and so is its inverse


cdef inline floating largest(const floating* x, Py_ssize_t n) noexcept nogil:
    """Largest magnitude; NaN or infinite if one of the values is."""
    if floating is float:
        return largest_float(x, n)
    else:
        return largest_double(x, n)


def largest_magnitude(const floating[::1] values not None) -> float:
    """Return the largest magnitude of the finite values, 0 if there are none."""
    cdef Py_ssize_t n = values.shape[0], c
    cdef const floating* x = in_1d(values)
    cdef floating found
    with nogil:
        found = largest(x, n)
        if not isfinite(found):
            found = 0
            for c in range(n):
                if isfinite(x[c]) and fabs(x[c]) > found:
                    found = fabs(x[c])
    return found


def encode_half(
    const floating[::1] values not None,    # IN  (n,)
    double scale,
    uint16_t[::1] halves not None,          # OUT (n,) bits of float16
):
    """``halves = float16(scale * values)``, rounded once to the nearest, ties to even."""
    cdef Py_ssize_t n = values.shape[0], c
    cdef const floating* x = in_1d(values)
    cdef uint16_t* y
    cdef floating factor = <floating> scale
    expect("length of halves", halves.shape[0], n)
    if n == 0:
        return
    y = &halves[0]
    with nogil:
        for c in range(n):
            if floating is float:
                y[c] = half_of(x[c] * factor)
            else:
                y[c] = half_of(rounded_to_odd(x[c] * factor))


def decode_half(
    const uint16_t[::1] halves not None,    # IN  (n,) bits of float16
    double scale,
    floating[::1] out not None,             # OUT (n,)
):
    """``out = scale * halves``."""
    cdef Py_ssize_t n = out.shape[0], c
    cdef const uint16_t* x
    cdef floating* y = out_1d(out)
    cdef floating factor = <floating> scale
    expect("length of halves", halves.shape[0], n)
    if n == 0:
        return
    x = &halves[0]
    with nogil:
        for c in range(n):
            y[c] = <floating> single_of(x[c]) * factor


def encode_bfloat(
    const floating[::1] values not None,    # IN  (n,)
    uint16_t[::1] upper not None,           # OUT (n,)
):
    """Write the upper halves of the values as float32, rounded to the nearest, ties to even; every NaN is 0x7fc0."""
    cdef Py_ssize_t n = values.shape[0], c
    cdef const floating* x = in_1d(values)
    cdef uint16_t* y
    expect("length of upper", upper.shape[0], n)
    if n == 0:
        return
    y = &upper[0]
    with nogil:
        for c in range(n):
            y[c] = upper_half_of(<float> x[c])


def decode_bfloat(
    const uint16_t[::1] upper not None,     # IN  (n,)
    floating[::1] out not None,             # OUT (n,)
):
    """Write the numbers whose upper halves are given, with zeros below."""
    cdef Py_ssize_t n = out.shape[0], c
    cdef const uint16_t* x
    cdef floating* y = out_1d(out)
    expect("length of upper", upper.shape[0], n)
    if n == 0:
        return
    x = &upper[0]
    with nogil:
        for c in range(n):
            y[c] = <floating> single_of_upper_half(x[c])


cdef void encode_group(Py_ssize_t n, const floating* x, float* scale, int8_t* multiples) noexcept nogil:
    """Encode at most GROUP values."""
    cdef floating one = 1, top = largest(x, n), inverse
    cdef Py_ssize_t c
    scale[0] = <float> (top / 127)
    if scale[0] < SMALLEST_SCALE:
        scale[0] = 0
    if not isfinite(scale[0]):
        scale[0] = NAN
    if not scale[0] > 0:
        memset(multiples, 0, n)
        return
    # In the dtype of the values: of a less exact inverse the rest would not be exact (strategies/codecs/feedback.py).
    inverse = one / scale[0]
    for c in range(n):
        if floating is float:
            multiples[c] = integer_float(x[c] * inverse)
        else:
            multiples[c] = integer_double(x[c] * inverse)


def encode_int8(
    const floating[::1] values not None,    # IN  (n,)
    float[::1] scales not None,             # OUT (g,)
    int8_t[::1] multiples not None,         # OUT (n,)
):
    """``multiples = round(values / scale)`` with ``scale = max|values| / 127`` for each group of 256 values.

    A scale that would be subnormal is 0, and NaN where a value is not finite or the scale would not be; multiples are 0
    then.
    """
    cdef Py_ssize_t n = values.shape[0], g
    cdef const floating* x = in_1d(values)
    cdef int8_t* y
    expect("length of multiples", multiples.shape[0], n)
    expect("length of scales", scales.shape[0], (n + GROUP - 1) // GROUP)
    if n == 0:
        return
    y = &multiples[0]
    with nogil:
        for g in range(scales.shape[0]):
            encode_group(min(<Py_ssize_t> GROUP, n - g * GROUP), x + g * GROUP, &scales[g], y + g * GROUP)


def decode_int8(
    const float[::1] scales not None,       # IN  (g,)
    const int8_t[::1] multiples not None,   # IN  (n,)
    floating[::1] out not None,             # OUT (n,)
):
    """``out = scale * multiples`` with the scale of each group."""
    cdef Py_ssize_t n = out.shape[0], g, c
    cdef const int8_t* x
    cdef floating* y = out_1d(out)
    cdef floating scale
    expect("length of multiples", multiples.shape[0], n)
    expect("length of scales", scales.shape[0], (n + GROUP - 1) // GROUP)
    if n == 0:
        return
    x = &multiples[0]
    with nogil:
        for g in range(scales.shape[0]):
            scale = scales[g]
            for c in range(g * GROUP, min((g + 1) * <Py_ssize_t> GROUP, n)):
                y[c] = x[c] * scale


def keep_rest(
    const floating[::1] wanted not None,    # IN  (n,)
    floating[::1] rest not None,            # IN what was sent of it, OUT (n,)
):
    """``rest = wanted - rest``, and 0 where that is not finite."""
    cdef Py_ssize_t n = wanted.shape[0], c
    cdef const floating* x = in_1d(wanted)
    cdef floating* y = out_1d(rest)
    cdef floating left
    expect("length of rest", rest.shape[0], n)
    with nogil:
        for c in range(n):
            left = x[c] - y[c]
            y[c] = left if left - left == 0 else 0

"""Elementary functions of one number in the precision of the argument, and sums in double.

A loop over calls of the C library is not vectorised.  The functions that activations stand on are therefore written
here for float32, without branches, to a few units in the last place; float64, which exists to check gradients, uses the
library.

References
----------
Moshier: Cephes mathematical library, 1992 (expf, tanhf).
"""

from cython cimport floating
from libc cimport math

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    /* 2^k for -126 <= k <= 127. */
    static inline float onotrain_power_of_2(int32_t k) {
        const uint32_t bits = (uint32_t) (k + 127) << 23;
        float x;
        memcpy(&x, &bits, sizeof x);
        return x;
    }

    static inline float onotrain_expf(float x) {
        /* exp(x) = 2^k exp(r), |r| <= ln(2) / 2.  Beyond the clamps the result is inf or 0; NaN passes them. */
        const float low = x < -104.0f ? -104.0f : x;
        const float z = low > 89.0f ? 89.0f : low;
        /* The sum's unit in the last place is 1: it rounds, and its last bits are the integer. */
        const float magic = 12582912.0f, shifted = z * 1.44269504088896341f + magic;
        const float n = shifted - magic;
        const float r = (z - n * 0.693359375f) + n * 2.12194440e-4f;
        float p = 1.9875691500e-4f;
        uint32_t bits;
        int32_t k, half;
        p = p * r + 1.3981999507e-3f;
        p = p * r + 8.3334519073e-3f;
        p = p * r + 4.1665795894e-2f;
        p = p * r + 1.6666665459e-1f;
        p = p * r + 5.0000001201e-1f;
        p = p * r * r + r + 1.0f;
        memcpy(&bits, &shifted, sizeof bits);
        k = (int32_t) (bits - 0x4B400000u);
        half = k >> 1;
        /* Two factors, for 2^k alone leaves the range before the result does. */
        return p * onotrain_power_of_2(half) * onotrain_power_of_2(k - half);
    }

    static inline float onotrain_tanhf(float x) {
        const float size = x < 0.0f ? -x : x, z = x * x;
        const float outer = 1.0f - 2.0f / (onotrain_expf(2.0f * size) + 1.0f);
        float p = -5.70498872745e-3f;
        p = p * z + 2.06390887954e-2f;
        p = p * z - 5.37397155531e-2f;
        p = p * z + 1.33314422036e-1f;
        p = p * z - 3.33332819422e-1f;
        p = p * z * x + x;
        return size < 0.625f ? p : (x < 0.0f ? -outer : outer);
    }
    """
    float onotrain_expf(float x) noexcept nogil
    float onotrain_tanhf(float x) noexcept nogil


cdef inline floating exp(floating x) noexcept nogil:
    if floating is float:
        return onotrain_expf(x)
    else:
        return math.exp(x)


cdef inline floating log(floating x) noexcept nogil:
    if floating is float:
        return math.logf(x)
    else:
        return math.log(x)


cdef inline floating log1p(floating x) noexcept nogil:
    if floating is float:
        return math.log1pf(x)
    else:
        return math.log1p(x)


cdef inline floating tanh(floating x) noexcept nogil:
    if floating is float:
        return onotrain_tanhf(x)
    else:
        return math.tanh(x)


cdef inline floating sqrt(floating x) noexcept nogil:
    if floating is float:
        return math.sqrtf(x)
    else:
        return math.sqrt(x)


cdef inline floating fabs(floating x) noexcept nogil:
    if floating is float:
        return math.fabsf(x)
    else:
        return math.fabs(x)


cdef inline floating logistic(floating x) noexcept nogil:
    """``1 / (1 + exp(-x))``; exp overflows to inf for very negative x, which gives the right 0."""
    cdef floating one = 1
    return one / (one + exp(-x))


cdef inline floating normal_cdf(floating x, floating gauss) noexcept nogil:
    """Distribution function of the standard normal, with ``gauss = exp(-x^2 / 2)`` at hand.

    For float32 Abramowitz and Stegun 7.1.26, wrong by at most 1e-7: the rounding error of the result.
    """
    cdef floating half = 0.5, one = 1, t, tail
    if floating is float:
        t = one / (one + <float> (0.3275911 * 0.7071067811865476) * fabs(x))
        tail = <float> 1.061405429
        tail = tail * t - <float> 1.453152027
        tail = tail * t + <float> 1.421413741
        tail = tail * t - <float> 0.284496736
        tail = tail * t + <float> 0.254829592
        tail = half * tail * t * gauss
        return tail if x < 0 else one - tail
    else:
        return half * math.erfc(-0.7071067811865476 * x)


# Independent partial sums let the compiler use vector registers without leave to reorder additions.
cdef enum:
    LANES = 16


cdef inline double total(const floating* x, Py_ssize_t n) noexcept nogil:
    """Sum of x in double."""
    cdef double[LANES] lane
    cdef double result = 0
    cdef Py_ssize_t c, j, whole = n - n % LANES
    for j in range(LANES):
        lane[j] = 0
    c = 0
    while c < whole:
        for j in range(LANES):
            lane[j] += <double> x[c + j]
        c += LANES
    for j in range(LANES):
        result += lane[j]
    for c in range(whole, n):
        result += <double> x[c]
    return result


cdef inline double total_of_squares(const floating* x, Py_ssize_t n) noexcept nogil:
    """Sum of the squares of x in double: it cannot overflow for finite float32."""
    cdef double[LANES] lane
    cdef double result = 0
    cdef Py_ssize_t c, j, whole = n - n % LANES
    for j in range(LANES):
        lane[j] = 0
    c = 0
    while c < whole:
        for j in range(LANES):
            lane[j] += <double> x[c + j] * <double> x[c + j]
        c += LANES
    for j in range(LANES):
        result += lane[j]
    for c in range(whole, n):
        result += <double> x[c] * <double> x[c]
    return result

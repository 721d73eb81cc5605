"""Elementary functions of one number in the precision of the argument, and sums in double.

A loop over calls of the C library is not vectorised; functions.h has what activations and losses stand on without calls
and branches.
"""

from cython cimport floating
from libc cimport math

cdef extern from "functions.h":
    float exp_float(float x) noexcept nogil
    double exp_double(double x) noexcept nogil
    float expm1_float(float x) noexcept nogil
    double expm1_double(double x) noexcept nogil
    float log_float(float x) noexcept nogil
    double log_double(double x) noexcept nogil
    float log1p_float(float x) noexcept nogil
    double log1p_double(double x) noexcept nogil
    float tanh_float(float x) noexcept nogil
    double tanh_double(double x) noexcept nogil
    float logistic_float(float x) noexcept nogil
    double logistic_double(double x) noexcept nogil
    float gaussian_float(float x) noexcept nogil
    double gaussian_double(double x) noexcept nogil
    float normal_cdf_float(float x, float gauss) noexcept nogil
    double normal_cdf_double(double x, double gauss) noexcept nogil


cdef inline floating exp(floating x) noexcept nogil:
    if floating is float:
        return exp_float(x)
    else:
        return exp_double(x)


cdef inline floating expm1(floating x) noexcept nogil:
    """``exp(x) - 1`` for x below 88."""
    if floating is float:
        return expm1_float(x)
    else:
        return expm1_double(x)


cdef inline floating log(floating x) noexcept nogil:
    if floating is float:
        return log_float(x)
    else:
        return log_double(x)


cdef inline floating log1p(floating x) noexcept nogil:
    """``log(1 + x)`` for x from 0 to 1."""
    if floating is float:
        return log1p_float(x)
    else:
        return log1p_double(x)


cdef inline floating tanh(floating x) noexcept nogil:
    if floating is float:
        return tanh_float(x)
    else:
        return tanh_double(x)


cdef inline floating logistic(floating x) noexcept nogil:
    """``1 / (1 + exp(-x))``."""
    if floating is float:
        return logistic_float(x)
    else:
        return logistic_double(x)


cdef inline floating gaussian(floating x) noexcept nogil:
    """``exp(-x^2 / 2)``."""
    if floating is float:
        return gaussian_float(x)
    else:
        return gaussian_double(x)


cdef inline floating normal_cdf(floating x, floating gauss) noexcept nogil:
    """Distribution function of the standard normal, with ``gauss = exp(-x^2 / 2)`` at hand."""
    if floating is float:
        return normal_cdf_float(x, gauss)
    else:
        return normal_cdf_double(x, gauss)


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

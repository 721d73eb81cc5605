"""Elementary functions of one number in the precision of the argument, and sums in double.

The scalar functions have no branches that differ between neighbouring elements, so that a loop over them can be
vectorised as soon as their bodies can.
"""

from cython cimport floating
from libc cimport math


cdef inline floating exp(floating x) noexcept nogil:
    if floating is float:
        return math.expf(x)
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
        return math.tanhf(x)
    else:
        return math.tanh(x)


cdef inline floating erf(floating x) noexcept nogil:
    if floating is float:
        return math.erff(x)
    else:
        return math.erf(x)


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

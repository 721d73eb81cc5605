"""Activations: each gives its value and, in `slope`, its derivative.

The codes are those of `onotrain.known_names.ACTIVATIONS`.  Every function propagates NaN.
"""

from cython cimport floating

from onotrain._kernels.elementary cimport exp, expm1, fabs, gaussian, log1p, logistic, normal_cdf, tanh

cdef enum Activation:
    IDENTITY
    RELU
    LEAKY_RELU
    SIGMOID
    TANH
    GELU
    SILU
    ELU
    SOFTPLUS
    ACTIVATION_COUNT


cdef inline int check_activation(int activation) except -1:
    """Raise ValueError for a code that is none of them."""
    if not 0 <= activation < ACTIVATION_COUNT:
        raise ValueError(f"activation: got code {activation}, expected one below {<int> ACTIVATION_COUNT}")
    return 0


cdef inline floating relu(floating z, floating* slope) noexcept nogil:
    cdef floating zero = 0, one = 1
    slope[0] = zero if z <= 0 else one
    return zero if z <= 0 else z  # not max(z, 0), which loses NaN


cdef inline floating leaky_relu(floating z, floating negative_slope, floating* slope) noexcept nogil:
    cdef floating one = 1
    slope[0] = negative_slope if z <= 0 else one
    return negative_slope * z if z <= 0 else z


cdef inline floating sigmoid(floating z, floating* slope) noexcept nogil:
    cdef floating y = logistic(z)
    slope[0] = y * (1 - y)
    return y


cdef inline floating hyperbolic_tangent(floating z, floating* slope) noexcept nogil:
    cdef floating y = tanh(z)
    slope[0] = 1 - y * y
    return y


cdef inline floating gelu(floating z, floating* slope) noexcept nogil:
    """``z Phi(z)`` with the exact normal distribution function (Hendrycks and Gimpel, arXiv 1606.08415)."""
    cdef floating density_at_0 = 0.3989422804014327
    cdef floating gauss = gaussian(z)
    cdef floating cumulative = normal_cdf(z, gauss)
    slope[0] = cumulative + z * density_at_0 * gauss
    return z * cumulative


cdef inline floating silu(floating z, floating* slope) noexcept nogil:
    """``z / (1 + exp(-z))`` (Ramachandran et al., arXiv 1710.05941)."""
    cdef floating share = logistic(z)
    slope[0] = share * (1 + z * (1 - share))
    return z * share


cdef inline floating elu(floating z, floating* slope) noexcept nogil:
    """``exp(z) - 1`` below 0 (Clevert et al., arXiv 1511.07289)."""
    cdef floating one = 1, y = expm1(z)
    slope[0] = y + one if z <= 0 else one
    return y if z <= 0 else z


cdef inline floating softplus(floating z, floating* slope) noexcept nogil:
    """``log(1 + exp(z))`` without overflow."""
    cdef floating zero = 0
    slope[0] = logistic(z)
    return (zero if z <= 0 else z) + log1p(exp(-fabs(z)))


cdef inline void activate(
    int activation,
    floating negative_slope,
    Py_ssize_t n,
    floating* slope,        # IN z, OUT derivative
    floating* y,            # OUT
) noexcept nogil:
    """Apply one activation to n elements; the choice stands outside of the loops, which are then vectorised."""
    cdef Py_ssize_t c
    if activation == IDENTITY:
        for c in range(n):
            y[c] = slope[c]
            slope[c] = 1
    elif activation == RELU:
        for c in range(n):
            y[c] = relu(slope[c], &slope[c])
    elif activation == LEAKY_RELU:
        for c in range(n):
            y[c] = leaky_relu(slope[c], negative_slope, &slope[c])
    elif activation == SIGMOID:
        for c in range(n):
            y[c] = sigmoid(slope[c], &slope[c])
    elif activation == TANH:
        for c in range(n):
            y[c] = hyperbolic_tangent(slope[c], &slope[c])
    elif activation == GELU:
        for c in range(n):
            y[c] = gelu(slope[c], &slope[c])
    elif activation == SILU:
        for c in range(n):
            y[c] = silu(slope[c], &slope[c])
    elif activation == ELU:
        for c in range(n):
            y[c] = elu(slope[c], &slope[c])
    elif activation == SOFTPLUS:
        for c in range(n):
            y[c] = softplus(slope[c], &slope[c])

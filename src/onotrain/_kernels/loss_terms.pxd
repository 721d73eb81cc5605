"""Losses of one output on its logit z, or the error of it, and their slopes; what all losses check."""

from cython cimport floating

from onotrain._kernels.arrays cimport expect
from onotrain._kernels.elementary cimport exp, fabs, log1p, logistic, tanh


cdef inline floating binary_cross_entropy_of(floating z, floating target, floating* slope) noexcept nogil:
    """``log(1 + exp(z)) - z t`` without overflow."""
    cdef floating zero = 0
    slope[0] = logistic(z) - target
    return (zero if z <= 0 else z) - z * target + log1p(exp(-fabs(z)))


cdef inline floating squared_error_of(floating error, floating* slope) noexcept nogil:
    slope[0] = 2 * error
    return error * error


cdef inline floating absolute_error_of(floating error, floating* slope) noexcept nogil:
    cdef floating one = 1, minus_one = -1
    slope[0] = one if error > 0 else (minus_one if error < 0 else error)  # 0 at 0, NaN at NaN
    return fabs(error)


cdef inline floating huber_of(floating error, floating delta, floating* slope) noexcept nogil:
    """Huber 1964: quadratic up to delta, linear beyond."""
    cdef floating half = 0.5, size = fabs(error)
    slope[0] = delta if error > delta else (-delta if error < -delta else error)
    return delta * (size - half * delta) if size > delta else half * error * error


cdef inline floating log_cosh_of(floating error, floating* slope) noexcept nogil:
    """``log(cosh(e))`` without overflow, and without cancellation at small errors.

    ``|e| + log(1 + exp(-2 |e|)) - log(2)``, or, as cosh^2 = 1 / (1 - tanh^2), half of ``log(1 + t^2 / (1 - t^2))``.
    """
    cdef floating half = 0.5, one = 1, two = 2, log_2 = 0.6931471805599453
    cdef floating size = fabs(error), t = tanh(error), square = t * t
    cdef floating near = square if square < half else half
    slope[0] = t
    cdef floating far_loss = size + log1p(exp(-two * size)) - log_2, near_loss = half * log1p(near / (one - near))
    return near_loss if square < half else far_loss


cdef inline floating poisson_of(floating z, floating target, floating* slope) noexcept nogil:
    """``exp(z) - z t``: negative logarithm of the likelihood of a count, without the logarithm of its factorial."""
    cdef floating rate = exp(z)
    slope[0] = rate - target
    return rate - z * target


cdef inline int expect_loss(
    const floating[:, ::1] logits, const floating[:, ::1] targets, const floating[::1] row_weights,
    const floating[::1] output_weights, floating[:, ::1] dlogits, double[::1] loss_sums,
) except -1:
    """Raise ValueError unless the arrays of a loss fit each other; columns of logits and targets are the loss's own."""
    expect("rows of targets", targets.shape[0], logits.shape[0])
    if row_weights is not None:
        expect("length of row_weights", row_weights.shape[0], logits.shape[0])
    if output_weights is not None:
        expect("length of output_weights", output_weights.shape[0], targets.shape[1])
    if dlogits is not None:
        expect("rows of dlogits", dlogits.shape[0], logits.shape[0])
        expect("columns of dlogits", dlogits.shape[1], logits.shape[1])
    return expect("length of loss_sums", loss_sums.shape[0], 2)


cdef inline bint counts(floating target, floating weight) noexcept nogil:
    """Whether a target is measured, and its output counts."""
    return target == target and weight > 0

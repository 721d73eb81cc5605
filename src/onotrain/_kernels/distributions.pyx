"""Losses of several outputs for each target, which say something of its distribution, and what all outputs stand for.

Dimensions: r rows, t targets, k outputs for each target, side by side: o = t k.

The loss of one sample is the sum over its outputs or targets.  Weights of rows, those of *targets*, and what is missing
count as in losses.pyx.
"""

from cython cimport floating

from onotrain._kernels.arrays cimport expect, in_1d, in_2d, out_2d
from onotrain._kernels.elementary cimport exp, fabs, log1p, logistic
from onotrain._kernels.loss_terms cimport counts, expect_loss
from onotrain._kernels.program cimport Kernel, Moment, at_step, recorded


cdef struct TargetLoss:
    double log_floor            # of the least variance
    double weight
    Py_ssize_t r
    Py_ssize_t t
    Py_ssize_t k
    const void* levels          # (k,): of quantiles; NULL: outputs are means and variances
    const void* targets
    const void* row_weights
    const void* target_weights
    void* dlogits
    double* loss_sums


cdef inline floating log_variance_of(floating s, floating log_floor, floating* share) noexcept nogil:
    """``log(floor + exp(s))`` without overflow, and its slope, the share of exp(s) in the sum."""
    cdef floating d = s - log_floor
    share[0] = logistic(d)
    return (s if d > 0 else log_floor) + log1p(exp(-fabs(d)))


cdef inline double pinball_of(
    Py_ssize_t k, const floating* z, floating target, const floating* levels, floating weight, floating* dz
) noexcept nogil:
    """``max((1 - q) e, -q e)`` of the errors ``e = z - t``, summed over the quantiles q."""
    cdef floating one = 1, error, slope
    cdef double loss = 0
    cdef Py_ssize_t j
    for j in range(k):
        error = z[j] - target
        slope = one - levels[j] if error > 0 else (-levels[j] if error < 0 else error)  # 0 at 0, NaN at NaN
        loss += slope * error
        if dz != NULL:
            dz[j] = weight * slope
    return loss


cdef inline double gaussian_nll_of(
    const floating* z, floating target, floating log_floor, floating weight, floating* dz
) noexcept nogil:
    """``(log(v) + (m - t)^2 / v) / 2`` of the mean m = z[0] and the variance v = floor + exp(z[1])."""
    cdef floating half = 0.5, one = 1, share
    cdef floating log_variance = log_variance_of(z[1], log_floor, &share)
    cdef floating h = exp(-half * log_variance), score = (z[0] - target) * h
    if dz != NULL:
        dz[0] = weight * score * h
        dz[1] = weight * half * (one - score * score) * share
    return half * (log_variance + score * score)


cdef int run_target_loss(const floating* z, const TargetLoss* a, const Moment* now) noexcept nogil:
    cdef const floating* target = <const floating*> a.targets
    cdef const floating* row_weights = <const floating*> a.row_weights
    cdef const floating* target_weights = <const floating*> a.target_weights
    cdef floating* dz = <floating*> a.dlogits
    cdef floating one = 1, zero = 0, own
    cdef double of_row, loss, each
    cdef Py_ssize_t q, c, j
    for q in range(a.r):
        of_row = 1 if row_weights == NULL else row_weights[q]
        loss = 0
        for c in range(a.t):
            own = one if target_weights == NULL else target_weights[c]
            if target_weights == NULL or counts(target[c], own):
                if a.levels != NULL:
                    each = pinball_of(
                        a.k, z, target[c], <const floating*> a.levels, <floating> (a.weight * of_row * own), dz
                    )
                else:
                    each = gaussian_nll_of(
                        z, target[c], <floating> a.log_floor, <floating> (a.weight * of_row * own), dz
                    )
                loss += own * each
            elif dz != NULL:
                for j in range(a.k):
                    dz[j] = zero
            z += a.k
            if dz != NULL:
                dz += a.k
        target += a.t
        a.loss_sums[0] += of_row * loss
    return 0


cdef object target_loss(
    const floating[:, ::1] logits, const floating[:, ::1] targets, const floating[::1] row_weights,
    const floating[::1] target_weights, const floating[::1] levels, Py_ssize_t k, double log_floor, double weight,
    floating[:, ::1] dlogits, double[::1] loss_sums, bint record,
):
    cdef Moment now = at_step(0)
    if k == 0:
        raise ValueError("length of levels: got 0, expected 1 or more")
    expect("columns of logits", logits.shape[1], targets.shape[1] * k)
    expect_loss(logits, targets, row_weights, target_weights, dlogits, loss_sums)
    cdef TargetLoss a = TargetLoss(
        log_floor, weight, logits.shape[0], targets.shape[1], k, in_1d(levels), in_2d(targets), in_1d(row_weights),
        in_1d(target_weights), out_2d(dlogits), &loss_sums[0],
    )
    if record:
        return recorded(
            <Kernel> run_target_loss[floating], in_2d(logits), &a, sizeof(a),
            (logits, targets, row_weights, target_weights, levels, dlogits, loss_sums), "",
        )
    with nogil:
        run_target_loss(in_2d(logits), &a, &now)


def pinball(
    const floating[:, ::1] logits not None,     # IN  (r, t k)
    const floating[:, ::1] targets not None,    # IN  (r, t)
    const floating[::1] row_weights,            # IN  (r,) or None
    const floating[::1] output_weights,         # IN  (t,) or None
    const floating[::1] levels not None,        # IN  (k,)
    double weight,
    floating[:, ::1] dlogits,                   # OUT (r, t k) or None
    double[::1] loss_sums not None,                 # IN, OUT (2,)
    bint record=False,
):
    """``max(q (t - z), (q - 1) (t - z))`` for each quantile q in `levels`, with slope 0 at ``z = t``.

    Koenker and Bassett, Econometrica 46, 1978, equation 3.1.
    """
    return target_loss[floating](
        logits, targets, row_weights, output_weights, levels, levels.shape[0], 0, weight, dlogits, loss_sums, record
    )


def gaussian_nll(
    const floating[:, ::1] logits not None,     # IN  (r, 2 t): mean m, s
    const floating[:, ::1] targets not None,    # IN  (r, t)
    const floating[::1] row_weights,            # IN  (r,) or None
    const floating[::1] output_weights,         # IN  (t,) or None
    double log_floor,
    double weight,
    floating[:, ::1] dlogits,                   # OUT (r, 2 t) or None
    double[::1] loss_sums not None,                 # IN, OUT (2,)
    bint record=False,
):
    """``(log(v) + (t - m)^2 / v) / 2`` with the variance ``v = exp(log_floor) + exp(s)``.

    Nix and Weigend, Estimating the mean and variance of the target probability distribution, 1994, equation 3.
    """
    return target_loss[floating](
        logits, targets, row_weights, output_weights, None, 2, log_floor, weight, dlogits, loss_sums, record
    )


cdef int check_out(const floating[:, ::1] logits, floating[:, ::1] out) except -1:
    expect("rows of out", out.shape[0], logits.shape[0])
    return expect("columns of out", out.shape[1], logits.shape[1])


def sigmoid(
    const floating[:, ::1] logits not None,     # IN  (r, o)
    floating[:, ::1] out not None,              # OUT (r, o), may be the same array
):
    """Probabilities of outputs that do not exclude each other: ``1 / (1 + exp(-z))``."""
    cdef Py_ssize_t n = logits.shape[0] * logits.shape[1], c
    cdef const floating* z = in_2d(logits)
    cdef floating* p = out_2d(out)
    check_out(logits, out)
    with nogil:
        for c in range(n):
            p[c] = logistic(z[c])


def exponential(
    const floating[:, ::1] logits not None,     # IN  (r, o)
    floating[:, ::1] out not None,              # OUT (r, o), may be the same array
):
    """Rates of counts: ``exp(z)``."""
    cdef Py_ssize_t n = logits.shape[0] * logits.shape[1], c
    cdef const floating* z = in_2d(logits)
    cdef floating* y = out_2d(out)
    check_out(logits, out)
    with nogil:
        for c in range(n):
            y[c] = exp(z[c])


def mean_and_deviation(
    const floating[:, ::1] logits not None,     # IN  (r, 2 t): mean, s
    double log_floor,
    floating[:, ::1] out not None,              # OUT (r, 2 t), may be the same array
):
    """Mean, and standard deviation ``sqrt(exp(log_floor) + exp(s))``, of each target."""
    cdef Py_ssize_t n = logits.shape[0] * logits.shape[1], c
    cdef const floating* z = in_2d(logits)
    cdef floating* y = out_2d(out)
    cdef floating half = 0.5, share
    check_out(logits, out)
    expect("columns of logits beyond pairs", logits.shape[1] % 2, 0)
    with nogil:
        for c in range(0, n, 2):
            y[c] = z[c]
            y[c + 1] = exp(half * log_variance_of(z[c + 1], <floating> log_floor, &share))

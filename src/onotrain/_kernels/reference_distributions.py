"""The reference implementations of losses of several outputs for each target, and of what they stand for."""

from __future__ import annotations

import numpy as np

from onotrain._kernels.reference import Array, expect, logistic, silent
from onotrain._kernels.reference_losses import add, expect_loss


def _errors(
    logits: Array, targets: Array, count: int, row_weights: Array | None, dlogits: Array | None, loss_sums: Array
) -> Array:
    """Return outputs ``(r, t, count)`` less the targets, after checks."""
    expect_loss(logits, row_weights, dlogits, loss_sums)
    expect("targets", targets, len(logits), targets.shape[1], dtype=logits.dtype)
    expect("logits", logits, len(logits), targets.shape[1] * count)
    return logits.reshape(*targets.shape, count) - targets[..., np.newaxis]


@silent
def pinball(
    logits: Array,
    targets: Array,
    row_weights: Array | None,
    output_weights: Array | None,
    levels: Array,
    weight: float,
    dlogits: Array | None,
    loss_sums: Array,
) -> None:
    """Add ``max(q (t - z), (q - 1) (t - z))``, summed over targets and quantiles q, and write its gradient, 0 at 0.

    Koenker and Bassett, Econometrica 46, 1978, equation 3.1.

    Parameters
    ----------
    logits, dlogits
        ``(r, t k)``: k quantiles of each of t targets, side by side; dlogits may be None.
    targets
        ``(r, t)``.
    output_weights
        ``(t,)``: how much each target counts, while those that are NaN or of weight 0 do not; None: 1, and all do.
    levels
        ``(k,)``: the quantiles q, between 0 and 1.
    row_weights, weight, loss_sums
        As in `onotrain._kernels.reference_losses.softmax_cross_entropy`.
    """
    expect("levels", levels, len(levels), dtype=logits.dtype)
    if not len(levels):
        raise ValueError("length of levels: got 0, expected 1 or more")
    error = _errors(logits, targets, len(levels), row_weights, dlogits, loss_sums)
    slopes = np.where(error > 0, 1 - levels, np.where(error < 0, -levels, error))
    _add(slopes * error, slopes, targets, row_weights, output_weights, weight, dlogits, loss_sums)


@silent
def gaussian_nll(
    logits: Array,
    targets: Array,
    row_weights: Array | None,
    output_weights: Array | None,
    log_floor: float,
    weight: float,
    dlogits: Array | None,
    loss_sums: Array,
) -> None:
    """Add ``(log(v) + (t - m)^2 / v) / 2`` with the variance ``v = exp(log_floor) + exp(s)``, and write its gradient.

    Nix and Weigend, Estimating the mean and variance of the target probability distribution, 1994, equation 3.

    Parameters
    ----------
    logits, dlogits
        ``(r, 2 t)``: mean m and logarithm s of the variance of each of t targets, side by side; dlogits may be None.
    log_floor
        Logarithm of what the variance is above.
    targets, row_weights, output_weights, weight, loss_sums
        As in `pinball`.
    """
    error = _errors(logits, targets, 2, row_weights, dlogits, loss_sums)[..., 0]
    floor, s = logits.dtype.type(log_floor), logits[:, 1::2]
    log_variance = np.logaddexp(s, floor)
    score = error * np.exp(-log_variance / 2)
    losses = np.stack([(log_variance + score * score) / 2, np.zeros_like(score)], axis=2)
    slopes = np.stack([score * np.exp(-log_variance / 2), (1 - score * score) / 2 * logistic(s - floor)], axis=2)
    _add(losses, slopes, targets, row_weights, output_weights, weight, dlogits, loss_sums)


def _add(losses: Array, slopes: Array, targets: Array, row_weights: Array | None,
         output_weights: Array | None, weight: float, dlogits: Array | None, loss_sums: Array) -> None:  # fmt: skip
    """Add losses ``(r, t, k)``, and write their derivatives, weighed by target and by row."""
    r, t, k = losses.shape
    expect("output_weights", output_weights, t, dtype=targets.dtype)
    each = None if output_weights is None else output_weights.repeat(k)
    losses, slopes = losses.reshape(r, t * k), slopes.reshape(r, t * k)
    add(losses, slopes, targets.repeat(k, axis=1), row_weights, each, weight, dlogits, loss_sums)


@silent
def exponential(logits: Array, out: Array) -> None:
    """Write ``exp(z)``: rates of counts; `out` may be `logits`."""
    expect("logits", logits, *logits.shape)
    expect("out", out, *logits.shape, dtype=logits.dtype)
    np.exp(logits, out=out)


@silent
def mean_and_deviation(logits: Array, log_floor: float, out: Array) -> None:
    """Write mean and standard deviation ``sqrt(exp(log_floor) + exp(s))`` of each target; `out` may be `logits`.

    Parameters
    ----------
    logits, log_floor
        See `gaussian_nll`.
    out
        ``(r, 2 t)``.
    """
    expect("logits", logits, *logits.shape)
    expect("out", out, *logits.shape, dtype=logits.dtype)
    if logits.shape[1] % 2:
        raise ValueError(f"columns of logits: got {logits.shape[1]}, expected pairs")
    out[:, ::2] = logits[:, ::2]
    out[:, 1::2] = np.exp(np.logaddexp(logits[:, 1::2], logits.dtype.type(log_floor)) / 2)

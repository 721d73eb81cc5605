"""The reference implementations of losses and of what logits mean; see `onotrain._kernels.reference`."""

from __future__ import annotations

import numpy as np

from onotrain._kernels.reference import Array, expect, logistic, silent


def expect_loss(logits: Array, row_weights: Array | None, dlogits: Array | None, loss_sums: Array) -> None:
    expect("logits", logits, *logits.shape)
    expect("row_weights", row_weights, len(logits), dtype=logits.dtype)
    expect("dlogits", dlogits, *logits.shape, dtype=logits.dtype)
    expect("loss_sums", loss_sums, 2, dtype=np.float64)


def _expect_output_loss(
    logits: Array, targets: Array, row_weights: Array | None, dlogits: Array | None, loss_sums: Array
) -> None:
    expect_loss(logits, row_weights, dlogits, loss_sums)
    expect("targets", targets, *logits.shape, dtype=logits.dtype)


def _weighed(values: Array, row_weights: Array | None) -> Array:
    """Return values ``(r,)`` or ``(r, o)`` times the weights of their rows, if there are any."""
    if row_weights is None:
        return values
    return values * (row_weights if values.ndim == 1 else row_weights[:, np.newaxis])


def _by_output(values: Array, targets: Array, output_weights: Array | None) -> Array:
    """Return values ``(r, o)`` times the weights of their outputs, if there are any, and 0 for targets that are NaN."""
    if output_weights is None:
        return values
    expect("output_weights", output_weights, targets.shape[1], dtype=targets.dtype)
    return np.where(np.isnan(targets) | ~(output_weights > 0), targets.dtype.type(0), values * output_weights)


@silent
def softmax_cross_entropy(
    logits: Array,
    targets: Array,
    row_weights: Array | None,
    label_smoothing: float,
    weight: float,
    dlogits: Array | None,
    loss_sums: Array,
) -> None:
    """Add the cross-entropy of softmax(logits) with classes, and write its gradient.

    Parameters
    ----------
    logits
        ``(r, o)``.
    targets
        int32 ``(r,)``: classes in ``range(o)``, else IndexError.
    row_weights
        ``(r,)``: how much the loss of each row counts; None: 1.
    label_smoothing
        Part of the target that is spread evenly over all classes.
    weight
        Factor on the gradient: 1 / samples of the global batch.
    dlogits
        ``(r, o)``, or None for the loss alone.
    loss_sums
        float64 ``(2,)``: gets the sum of the weighted losses and the number of rows whose first largest logit is the
        target's added; a row whose loss is NaN is never right.
    """
    expect_loss(logits, row_weights, dlogits, loss_sums)
    expect("targets", targets, len(logits), dtype=np.int32)
    rows, classes = np.arange(len(logits)), logits.shape[1]
    if len(logits) == 0:
        return
    if targets.min() < 0 or targets.max() >= classes:
        bad = int(np.argmax((targets < 0) | (targets >= classes)))
        raise IndexError(f"targets[{bad}]: got {targets[bad]}, expected a class below {classes}")
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    denominator = exponentials.sum(axis=1, dtype=np.float64)
    losses = np.log(denominator) - (1 - label_smoothing) * shifted[rows, targets]
    if label_smoothing > 0:
        losses -= label_smoothing * shifted.mean(axis=1, dtype=np.float64)
    loss_sums += _weighed(losses, row_weights).sum(), np.sum((logits.argmax(axis=1) == targets) & ~np.isnan(losses))
    if dlogits is not None:
        wanted = np.full(logits.shape, label_smoothing / classes)
        wanted[rows, targets] += 1 - label_smoothing
        dlogits[...] = _weighed(weight * (exponentials / denominator[:, None] - wanted), row_weights)


@silent
def binary_cross_entropy(
    logits: Array,
    targets: Array,
    row_weights: Array | None,
    output_weights: Array | None,
    weight: float,
    dlogits: Array | None,
    loss_sums: Array,
) -> None:
    """Add the binary cross-entropy of sigmoid(logits), summed over the outputs, and write its gradient.

    A row counts as right by the part of its outputs with ``(logit > 0) == (target > 0.5)``, where outputs have weights
    by the part of its measured targets, whatever they weigh.

    Parameters
    ----------
    logits, targets, dlogits
        ``(r, o)``; targets in [0, 1]; dlogits may be None.
    output_weights
        ``(o,)``: how much the loss of each output counts, while targets that are NaN, and outputs of weight 0, do not;
        None: 1, and every target does.
    row_weights, weight, loss_sums
        As in `softmax_cross_entropy`.
    """
    _expect_output_loss(logits, targets, row_weights, dlogits, loss_sums)
    losses = np.where(logits <= 0, 0, logits) - logits * targets + np.log1p(np.exp(-np.abs(logits)))
    measured = ~np.isnan(targets) if output_weights is not None else np.ones(targets.shape, bool)
    right = ((logits > 0) == (targets > 0.5)) & measured
    loss_sums[1] += (right.sum(axis=1) / np.maximum(measured.sum(axis=1), 1)).sum()
    slopes = logistic(logits) - targets
    add(losses, slopes, targets, row_weights, output_weights, weight, dlogits, loss_sums)


@silent
def squared_error(
    logits: Array,
    targets: Array,
    row_weights: Array | None,
    output_weights: Array | None,
    weight: float,
    dlogits: Array | None,
    loss_sums: Array,
) -> None:
    """Add ``(z - t)^2``, summed over the outputs, and write its gradient; shapes as in `binary_cross_entropy`."""
    _expect_output_loss(logits, targets, row_weights, dlogits, loss_sums)
    error = logits - targets
    add(error * error, 2 * error, targets, row_weights, output_weights, weight, dlogits, loss_sums)


@silent
def absolute_error(
    logits: Array,
    targets: Array,
    row_weights: Array | None,
    output_weights: Array | None,
    weight: float,
    dlogits: Array | None,
    loss_sums: Array,
) -> None:
    """Add ``|z - t|``, summed over the outputs, and write its gradient, 0 at 0; shapes as in `binary_cross_entropy`."""
    _expect_output_loss(logits, targets, row_weights, dlogits, loss_sums)
    error = logits - targets
    add(np.abs(error), np.sign(error), targets, row_weights, output_weights, weight, dlogits, loss_sums)


@silent
def huber(
    logits: Array,
    targets: Array,
    row_weights: Array | None,
    output_weights: Array | None,
    delta: float,
    weight: float,
    dlogits: Array | None,
    loss_sums: Array,
) -> None:
    """Add ``e^2 / 2`` for ``|e| <= delta`` and ``delta (|e| - delta / 2)`` beyond, of the error ``e = z - t``.

    Shapes as in `binary_cross_entropy`; the sum goes over the outputs.
    """
    _expect_output_loss(logits, targets, row_weights, dlogits, loss_sums)
    error = logits - targets
    size = np.abs(error)
    losses = np.where(size > delta, delta * (size - 0.5 * delta), 0.5 * error * error)
    slopes = np.clip(error, -delta, delta)
    add(losses, slopes, targets, row_weights, output_weights, weight, dlogits, loss_sums)


@silent
def log_cosh(
    logits: Array,
    targets: Array,
    row_weights: Array | None,
    output_weights: Array | None,
    weight: float,
    dlogits: Array | None,
    loss_sums: Array,
) -> None:
    """Add ``log(cosh(z - t))`` of all outputs, and write its gradient; shapes as in `binary_cross_entropy`."""
    _expect_output_loss(logits, targets, row_weights, dlogits, loss_sums)
    error = logits - targets
    size = np.abs(error)
    # log(cosh(e)) = log(1 + (cosh(e) - 1)) keeps the digits of small errors.
    near = np.log1p(2 * np.sinh(np.minimum(size, 1) / 2) ** 2)
    losses = np.where(size < 1, near, size + np.log1p(np.exp(-2 * size)) - np.log(2).astype(size.dtype))
    add(losses, np.tanh(error), targets, row_weights, output_weights, weight, dlogits, loss_sums)


@silent
def poisson(
    logits: Array,
    targets: Array,
    row_weights: Array | None,
    output_weights: Array | None,
    weight: float,
    dlogits: Array | None,
    loss_sums: Array,
) -> None:
    """Add ``exp(z) - z t``, summed over the outputs, and write its gradient; shapes as in `binary_cross_entropy`.

    The negative logarithm of the likelihood of a count t with the mean exp(z), without the logarithm of its factorial.
    """
    _expect_output_loss(logits, targets, row_weights, dlogits, loss_sums)
    rates = np.exp(logits)
    add(rates - logits * targets, rates - targets, targets, row_weights, output_weights, weight, dlogits, loss_sums)


def add(losses: Array, slopes: Array, targets: Array, row_weights: Array | None,
        output_weights: Array | None, weight: float, dlogits: Array | None, loss_sums: Array) -> None:  # fmt: skip
    """Add losses ``(r, o)``, and write their derivatives, weighed by output and by row."""
    losses, slopes = (_by_output(values, targets, output_weights) for values in (losses, slopes))
    loss_sums[0] += np.sum(_weighed(losses, row_weights), dtype=np.float64)
    if dlogits is not None:
        dlogits[...] = _weighed(weight * slopes, row_weights)


@silent
def softmax(logits: Array, out: Array) -> None:
    """Write ``exp(z) / sum exp(z)`` of each row; `out` may be `logits`."""
    expect("logits", logits, *logits.shape)
    expect("out", out, *logits.shape, dtype=logits.dtype)
    if logits.size == 0:
        return
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    out[...] = exponentials / exponentials.sum(axis=1, keepdims=True, dtype=np.float64)


@silent
def sigmoid(logits: Array, out: Array) -> None:
    """Write ``1 / (1 + exp(-z))``; `out` may be `logits`."""
    expect("logits", logits, *logits.shape)
    expect("out", out, *logits.shape, dtype=logits.dtype)
    out[...] = logistic(logits)

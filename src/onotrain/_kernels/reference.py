"""The reference implementations of the kernels in NumPy: the same names, parameters and in-place contract.

They are the oracle of the tests, and what runs with ``ONOTRAIN_KERNELS=reference``; those of codecs are in
`onotrain._kernels.reference_codecs`.

Dimensions: ``r`` rows of the batch on this rank, ``i`` inputs, ``o`` outputs, ``n`` parameters of a shard, ``k``
gradient rows.  Arrays of numbers have one dtype, float32 or float64, unless said otherwise, and are C-contiguous;
outputs stand last and belong to the caller.  Zero rows are allowed everywhere.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onotrain.known_names import ACTIVATIONS

Array = np.ndarray[Any, np.dtype[Any]]

#: As compiled code does, the reference lets infinities and NaN pass without a word.
silent = np.errstate(all="ignore")


def expect(what: str, array: Array | None, *shape: int, dtype: Any = None) -> None:
    """Raise ValueError unless the array is C-contiguous and has this shape and dtype; None passes."""
    if array is None:
        return
    if array.shape != shape:
        raise ValueError(f"{what}: got shape {array.shape}, expected {shape}")
    if not array.flags.c_contiguous:
        raise ValueError(f"{what}: got an array with gaps, expected a C-contiguous one")
    if dtype is not None and array.dtype != dtype:
        raise ValueError(f"{what}: got dtype {array.dtype}, expected {np.dtype(dtype)}")


# ---------------------------------------------------------------------------------------------------------------- gemm


@silent
def gemm(a: Array, b: Array, transpose_a: bool, transpose_b: bool, alpha: float, beta: float, c: Array) -> None:
    """Write ``c = alpha op(a) op(b) + beta c``; c is not read if beta is 0."""
    left, right = (a.T if transpose_a else a), (b.T if transpose_b else b)
    expect("a", a, *a.shape)
    expect("b", b, *b.shape, dtype=a.dtype)
    if left.shape[1] != right.shape[0]:
        raise ValueError(f"columns of op(a): got {left.shape[1]}, expected {right.shape[0]}")
    expect("c", c, left.shape[0], right.shape[1], dtype=a.dtype)
    product = alpha * (left @ right)
    c[...] = product if beta == 0 else product + beta * c


# -------------------------------------------------------------------------------------------------------------- random

_PHILOX_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_PHILOX_WEYL = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_COUNTERS = 16


def philox4x32(counter: Array, key: Array, out: Array) -> None:
    """Philox4x32-10 (Salmon et al., SC 2011): write four random words for each counter.

    Parameters
    ----------
    counter
        uint32 ``(4, ...)``: one array for each word.
    key
        uint32 ``(2,)``.
    out
        uint32, the counter's shape.
    """
    x = [word.astype(np.uint64) for word in counter]
    key0, key1 = int(key[0]), int(key[1])
    for _ in range(10):
        a, b = _PHILOX_MULTIPLIERS[0] * x[0], _PHILOX_MULTIPLIERS[1] * x[2]
        x = [
            (b >> np.uint64(32)) ^ x[1] ^ np.uint64(key0), b & _LOW,
            (a >> np.uint64(32)) ^ x[3] ^ np.uint64(key1), a & _LOW,
        ]  # fmt: skip
        key0, key1 = (key0 + _PHILOX_WEYL[0]) & 0xFFFFFFFF, (key1 + _PHILOX_WEYL[1]) & 0xFFFFFFFF
    out[...] = np.stack(x)


def _dropout_factors(shape: tuple[int, int], rate: float, seed: int, step: int, layer: int, first_row: int) -> Array:
    """Return 0, or ``1 / (1 - rate)`` where an element is kept, as float64 ``(r, o)``.

    The counter of a draw is (block, row, step, layer), its key the seed.  A counter serves 8 columns with 16 bits each;
    16 counters with neighbouring blocks serve 128 neighbouring columns, column ``16 h + b`` of them with the h-th 16
    bits of the b-th counter.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: got {rate}, expected a rate of at least 0 and below 1")
    rows, columns = shape
    blocks = _COUNTERS * math.ceil(columns / (8 * _COUNTERS))
    counter = np.empty((4, rows, blocks), np.uint32)
    counter[0] = np.arange(blocks)
    counter[1] = ((first_row + np.arange(rows)) & 0xFFFFFFFF)[:, None]
    counter[2] = step & 0xFFFFFFFF
    counter[3] = layer & 0xFFFFFFFF
    words = np.empty_like(counter)
    philox4x32(counter, np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32), words)
    halves = np.stack([words & np.uint32(0xFFFF), words >> np.uint32(16)], axis=1).reshape(
        8, rows, blocks // _COUNTERS, _COUNTERS
    )
    uniform = halves.transpose(1, 2, 0, 3).reshape(rows, 8 * blocks)[:, :columns]
    threshold = min(int(rate * 65536 + 0.5), 65535)
    return np.where(uniform >= threshold, 65536 / (65536 - threshold), 0.0)


def _mix(x: Array) -> Array:
    """Return the hash of SplitMix64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def shuffle_positions(start: int, n: int, key: int, out: Array) -> None:
    """Write ``out[j] = P_key(start + j)``, with ``P_key`` a bijection of ``range(n)``.

    A Feistel network on ``Z_a x Z_a``, ``a = ceil(sqrt(n))``; a value beyond n is sent through again until it falls
    into the range (Black and Rogaway: Ciphers with arbitrary finite domains. CT-RSA 2002).

    Parameters
    ----------
    start
        First position, at least 0.
    n
        Size of the permuted range, below 2^62.
    key
        uint64: names the permutation.
    out
        int64 ``(m,)``, with ``start + m <= n``.
    """
    if start < 0 or n < 0 or len(out) > n - start:
        raise ValueError(f"positions {start} to {start + len(out)} do not lie in range({n})")
    if n >= 1 << 62:
        raise ValueError(f"n: got {n}, expected less than 2^62")
    expect("out", out, len(out), dtype=np.int64)
    a = np.uint64(math.isqrt(n - 1) + 1 if n else 0)
    round_keys = _mix(np.array([(key + j * 0x9E3779B97F4A7C15) % (1 << 64) for j in range(1, 9)], np.uint64))
    x = np.arange(start, start + len(out), dtype=np.uint64)
    walking = np.ones(len(x), bool)
    while walking.any():
        left, right = np.divmod(x[walking], a)
        for round_key in round_keys:
            turn = ((_mix(right + round_key) >> np.uint64(32)) * a) >> np.uint64(32)
            left, right = right, (left + turn) % a
        x[walking] = left * a + right
        walking = x >= n
    out[...] = x


# -------------------------------------------------------------------------------------------------------------- gather


@silent
def gather(source: Array, index: Array, shift: Array, scale: Array, out: Array) -> None:
    """Write ``out = (source[index] - shift) * scale``.

    Parameters
    ----------
    source
        ``(n, i)`` uint8, float32 or float64.
    index
        int64 ``(r,)``, each in ``range(n)``, else IndexError.
    shift, scale
        ``(i,)``, float64 if `source` is, else the dtype of `out`.
    out
        ``(r, i)``.
    """
    if source.ndim != 2 or source.dtype not in (np.uint8, np.float32, np.float64):
        raise ValueError(f"source: got {source.dtype} {source.shape}, expected uint8, float32 or float64 (n, i)")
    expect("source", source, *source.shape)
    expect("index", index, len(index), dtype=np.int64)
    affine = np.float64 if source.dtype == np.float64 else out.dtype
    expect("shift", shift, source.shape[1], dtype=affine)
    expect("scale", scale, source.shape[1], dtype=affine)
    expect("out", out, len(index), source.shape[1])
    outside = (index < 0) | (index >= len(source))
    if outside.any():
        bad = int(np.argmax(outside))
        raise IndexError(f"index[{bad}]: got {index[bad]}, expected one of the {len(source)} rows of source")
    out[...] = (source[index] - shift) * scale


# --------------------------------------------------------------------------------------------------------------- dense

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _activate(z: Array, activation: int, negative_slope: float) -> tuple[Array, Array]:
    """Return the activation of z and its derivative."""
    if activation == ACTIVATIONS["identity"]:
        return z.copy(), np.ones_like(z)
    if activation == ACTIVATIONS["relu"]:
        return np.where(z <= 0, 0, z), np.where(z <= 0, 0, 1)
    if activation == ACTIVATIONS["leaky_relu"]:
        return np.where(z <= 0, negative_slope * z, z), np.where(z <= 0, negative_slope, 1)
    if activation == ACTIVATIONS["sigmoid"]:
        y = _logistic(z)
        return y, y * (1 - y)
    if activation == ACTIVATIONS["tanh"]:
        y = np.tanh(z)
        return y, 1 - y * y
    if activation == ACTIVATIONS["gelu"]:
        cumulative = 0.5 * _erfc(-z / math.sqrt(2))
        return z * cumulative, cumulative + z * np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    if activation == ACTIVATIONS["silu"]:
        share = _logistic(z)
        return z * share, share * (1 + z * (1 - share))
    if activation == ACTIVATIONS["elu"]:
        y = np.expm1(np.minimum(z, 0))
        return np.where(z <= 0, y, z), np.where(z <= 0, y + 1, 1)
    if activation == ACTIVATIONS["softplus"]:
        return np.logaddexp(z, 0), _logistic(z)
    raise ValueError(f"activation: got code {activation}, expected one of {ACTIVATIONS}")


def _logistic(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


@silent
def dense_forward(
    x: Array, weight: Array, bias: Array | None, activation: int, negative_slope: float, dropout: float,
    seed: int, step: int, layer: int, first_row: int, slope: Array, y: Array,
) -> None:  # fmt: skip
    """Write ``y = dropout(activation(z))`` and ``slope = dy/dz`` with ``z = x W^T + b``.

    Parameters
    ----------
    x
        ``(r, i)``.
    weight, bias
        ``(o, i)`` and ``(o,)``, or None for no bias.
    activation, negative_slope
        A code of `ACTIVATIONS`; the slope of leaky_relu below 0.
    dropout
        Rate, at least 0 and below 1; realised in steps of 2^-16.
    seed, step, layer, first_row
        Key of the mask: that of row q and column c depends on (seed, step, layer, first_row + q, c) alone.
    slope, y
        ``(r, o)``.
    """
    expect("weight", weight, weight.shape[0], x.shape[1], dtype=x.dtype)
    expect("bias", bias, len(weight), dtype=x.dtype)
    expect("slope", slope, len(x), len(weight), dtype=x.dtype)
    z = x @ weight.T if bias is None else x @ weight.T + bias
    elementwise_forward(z, activation, negative_slope, dropout, seed, step, layer, first_row, slope, y)


@silent
def dense_backward(
    x: Array, weight: Array, slope: Array, accumulate: bool, shared: bool,
    dy: Array, dx: Array | None, dw: Array | None, db: Array | None,
) -> None:  # fmt: skip
    """Turn dy into ``dz = dy * slope``; write ``dx = dz W``, ``dw = dz^T x``, and in db the sum of the rows of dz.

    Parameters
    ----------
    x, weight, slope
        As given to and got from `dense_forward`.
    accumulate
        Add to dw and db instead of overwriting them.
    shared
        Other ranks read dw: a hint on where to keep it, which changes no value.
    dy
        ``(r, o)``.
    dx
        ``(r, i)``, or None if nobody needs it.
    dw, db
        ``(o, i)`` and ``(o,)``, or None if nobody needs them.
    """
    expect("weight", weight, slope.shape[1], x.shape[1], dtype=x.dtype)
    expect("slope", slope, len(x), len(weight), dtype=x.dtype)
    expect("dy", dy, *slope.shape, dtype=x.dtype)
    expect("dx", dx, *x.shape, dtype=x.dtype)
    expect("dw", dw, *weight.shape, dtype=x.dtype)
    expect("db", db, len(weight), dtype=x.dtype)
    dy *= slope
    if dx is not None:
        dx[...] = dy @ weight
    if dw is not None:
        dw[...] = dy.T @ x + (dw if accumulate else 0)
    if db is not None:
        db[...] = dy.sum(axis=0) + (db if accumulate else 0)


@silent
def dense_predict(
    x: Array, weight: Array, bias: Array | None, activation: int, negative_slope: float, y: Array
) -> None:
    """Write ``y = activation(x W^T + b)``; shapes as in `dense_forward`."""
    expect("weight", weight, weight.shape[0], x.shape[1], dtype=x.dtype)
    expect("bias", bias, len(weight), dtype=x.dtype)
    elementwise_predict(x @ weight.T if bias is None else x @ weight.T + bias, activation, negative_slope, y)


@silent
def elementwise_forward(
    x: Array, activation: int, negative_slope: float, dropout: float,
    seed: int, step: int, layer: int, first_row: int, slope: Array, y: Array,
) -> None:  # fmt: skip
    """Write ``y = dropout(activation(x))`` and ``slope = dy/dx``; all ``(r, i)``."""
    expect("x", x, *slope.shape)
    expect("slope", slope, *x.shape, dtype=x.dtype)
    expect("y", y, *x.shape, dtype=x.dtype)
    value, derivative = _activate(x, activation, negative_slope)
    factor = _dropout_factors((x.shape[0], x.shape[1]), dropout, seed, step, layer, first_row)
    y[...] = value * factor
    slope[...] = derivative * factor


@silent
def elementwise_backward(slope: Array, dy: Array, dx: Array) -> None:
    """Write ``dx = dy * slope``; all ``(r, i)``."""
    expect("dy", dy, *slope.shape, dtype=slope.dtype)
    expect("dx", dx, *slope.shape, dtype=slope.dtype)
    np.multiply(dy, slope, out=dx)


@silent
def elementwise_predict(x: Array, activation: int, negative_slope: float, y: Array) -> None:
    """Write ``y = activation(x)``; both ``(r, i)``."""
    expect("y", y, *x.shape, dtype=x.dtype)
    y[...] = _activate(x, activation, negative_slope)[0]


# -------------------------------------------------------------------------------------------------------------- losses


def _expect_loss(logits: Array, row_weights: Array | None, dlogits: Array | None, loss_sums: Array) -> None:
    expect("logits", logits, *logits.shape)
    expect("row_weights", row_weights, len(logits), dtype=logits.dtype)
    expect("dlogits", dlogits, *logits.shape, dtype=logits.dtype)
    expect("loss_sums", loss_sums, 2, dtype=np.float64)


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
    _expect_loss(logits, row_weights, dlogits, loss_sums)
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
    _expect_loss(logits, row_weights, dlogits, loss_sums)
    expect("targets", targets, *logits.shape, dtype=logits.dtype)
    losses = np.where(logits <= 0, 0, logits) - logits * targets + np.log1p(np.exp(-np.abs(logits)))
    losses = _by_output(losses, targets, output_weights)
    measured = ~np.isnan(targets) if output_weights is not None else np.ones(targets.shape, bool)
    right = ((logits > 0) == (targets > 0.5)) & measured
    loss_sums[0] += _weighed(losses, row_weights).sum(dtype=np.float64)
    loss_sums[1] += (right.sum(axis=1) / np.maximum(measured.sum(axis=1), 1)).sum()
    if dlogits is not None:
        slopes = _by_output(_logistic(logits) - targets, targets, output_weights)
        dlogits[...] = _weighed(weight * slopes, row_weights)


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
    _expect_loss(logits, row_weights, dlogits, loss_sums)
    expect("targets", targets, *logits.shape, dtype=logits.dtype)
    error = logits - targets
    losses = _by_output(error * error, targets, output_weights)
    loss_sums[0] += np.sum(_weighed(losses, row_weights), dtype=np.float64)
    if dlogits is not None:
        dlogits[...] = _weighed(weight * _by_output(2 * error, targets, output_weights), row_weights)


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
    _expect_loss(logits, row_weights, dlogits, loss_sums)
    expect("targets", targets, *logits.shape, dtype=logits.dtype)
    error = logits - targets
    losses = _by_output(np.abs(error), targets, output_weights)
    loss_sums[0] += np.sum(_weighed(losses, row_weights), dtype=np.float64)
    if dlogits is not None:
        dlogits[...] = _weighed(weight * _by_output(np.sign(error), targets, output_weights), row_weights)


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
    _expect_loss(logits, row_weights, dlogits, loss_sums)
    expect("targets", targets, *logits.shape, dtype=logits.dtype)
    error = logits - targets
    size = np.abs(error)
    losses = np.where(size > delta, delta * (size - 0.5 * delta), 0.5 * error * error)
    losses = _by_output(losses, targets, output_weights)
    loss_sums[0] += _weighed(losses, row_weights).sum(dtype=np.float64)
    if dlogits is not None:
        slopes = _by_output(np.clip(error, -delta, delta), targets, output_weights)
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
    out[...] = _logistic(logits)

"""Reference implementations of the kernels of normalisations; conventions as in `reference`.

Dimensions: ``r`` samples on this rank, ``p`` positions of a sample, ``c`` channels, ``g`` groups of them; ``m`` sets of
positions that are normalised together.  A matrix ``(r p, c)`` holds the positions of one sample after the other.
"""

from __future__ import annotations

import numpy as np

from onotrain._kernels.reference import Array, expect, silent


def _by_sample(what: str, x: Array, samples: int) -> Array:
    """Return ``(r p, c)`` as float64 ``(r, p, c)``."""
    positions = len(x) // samples if samples else 0
    expect(what, x, samples * positions, x.shape[1])
    return x.reshape(samples, positions, x.shape[1]).astype(np.float64)


def _moments(sums: Array, count: float, channels: int) -> tuple[Array, Array]:
    """Return mean and variance from the sums of `count` values and of their squares."""
    expect("sums", sums, 2 * channels, dtype=np.float64)
    mean, square = (sums / count).reshape(2, channels)
    return mean, np.maximum(square - mean * mean, 0)


def _affine(x: Array, mean: Array, variance: Array, epsilon: float, weight: Array | None, bias: Array | None) -> Array:
    """Return ``weight (x - mean) / sqrt(variance + epsilon) + bias`` in float64."""
    normal = (x - mean.astype(np.float64)) / np.sqrt(variance.astype(np.float64) + epsilon)
    return normal * (1.0 if weight is None else weight) + (0.0 if bias is None else bias)


@silent
def sum_rows(x: Array, accumulate: bool, out: Array) -> None:
    """Write the sum of the rows of x ``(r, i)`` to out ``(i,)``, or add it to what is there."""
    expect("out", out, x.shape[1], dtype=x.dtype)
    out[...] = x.sum(axis=0, dtype=np.float64) + (out if accumulate else 0)


# ------------------------------------------------------------------------------------------------- batch normalisation


@silent
def batch_norm_sums(x: Array, sums: Array) -> None:
    """Write for each sample the sums of x and of its square over the positions.

    Parameters
    ----------
    x
        ``(r p, c)``.
    sums
        float64 ``(r, 2 c)``: sums of x, then those of the square.
    """
    channels = x.shape[1]
    expect("sums", sums, len(sums), 2 * channels, dtype=np.float64)
    samples = _by_sample("x", x, len(sums))
    sums[:, :channels] = samples.sum(axis=1)
    sums[:, channels:] = (samples * samples).sum(axis=1)


@silent
def batch_norm_forward(
    x: Array, sums: Array, count: float, epsilon: float, weight: Array | None, bias: Array | None, y: Array
) -> None:
    """Write ``y = weight (x - mean) / sqrt(variance + epsilon) + bias``.

    Parameters
    ----------
    x
        ``(r p, c)``.
    sums
        float64 ``(2 c,)``: those of `batch_norm_sums` over the global batch.
    count
        Values of a channel in the global batch.
    epsilon
        Added to the variance, which is that of all these values and not an estimate.
    weight, bias
        ``(c,)``, or None: 1 and 0.
    y
        ``(r p, c)``.
    """
    expect("weight", weight, x.shape[1], dtype=x.dtype)
    expect("bias", bias, x.shape[1], dtype=x.dtype)
    expect("y", y, *x.shape, dtype=x.dtype)
    y[...] = _affine(x, *_moments(sums, count, x.shape[1]), epsilon, weight, bias)


@silent
def batch_norm_predict(
    x: Array, mean: Array | None, variance: Array, epsilon: float, weight: Array | None, bias: Array | None, y: Array
) -> None:
    """Write ``y = weight (x - mean) / sqrt(variance + epsilon) + bias``.

    Parameters
    ----------
    x, epsilon, weight, bias, y
        As in `batch_norm_forward`.
    mean, variance
        ``(c,)``; None for a mean of 0.
    """
    for name, array in {"mean": mean, "variance": variance, "weight": weight, "bias": bias}.items():
        expect(name, array, x.shape[1], dtype=x.dtype)
    expect("y", y, *x.shape, dtype=x.dtype)
    y[...] = _affine(x, np.zeros(x.shape[1]) if mean is None else mean, variance, epsilon, weight, bias)


@silent
def batch_norm_backward_sums(
    x: Array, sums: Array, count: float, epsilon: float, dy: Array, dsums: Array, dweight: Array | None,
    dbias: Array | None,
) -> None:  # fmt: skip
    """Write for each sample the sums of dy and of ``dy x'`` over the positions, ``x' = (x - mean) / std``.

    Parameters
    ----------
    x, sums, count, epsilon
        As given to `batch_norm_forward`; std is ``sqrt(variance + epsilon)``.
    dy
        ``(r p, c)``.
    dsums
        float64 ``(r, 2 c)``: sums of dy, then those of ``dy x'``.
    dweight, dbias
        ``(r, c)``: the same in the dtype of x, ``dy x'`` and dy; or both None.
    """
    channels = x.shape[1]
    expect("dy", dy, *x.shape, dtype=x.dtype)
    expect("dsums", dsums, len(dsums), 2 * channels, dtype=np.float64)
    if (dweight is None) != (dbias is None):
        raise ValueError("dweight and dbias: expected both or none")
    expect("dweight", dweight, len(dsums), channels, dtype=x.dtype)
    expect("dbias", dbias, len(dsums), channels, dtype=x.dtype)
    normal = _affine(_by_sample("x", x, len(dsums)), *_moments(sums, count, channels), epsilon, None, None)
    of_sample = _by_sample("dy", dy, len(dsums))
    dsums[:, :channels] = of_sample.sum(axis=1)
    dsums[:, channels:] = (of_sample * normal).sum(axis=1)
    if dweight is not None and dbias is not None:
        dbias[...], dweight[...] = dsums[:, :channels], dsums[:, channels:]


@silent
def batch_norm_backward(
    x: Array, sums: Array, dsums: Array, count: float, epsilon: float, weight: Array | None, dy: Array, dx: Array
) -> None:
    """Write ``dx = weight / std (dy - mean of dy - x' mean of (dy x'))`` with ``x' = (x - mean) / std``.

    Parameters
    ----------
    x, sums, count, epsilon, weight
        As given to `batch_norm_forward`.
    dsums
        float64 ``(2 c,)``: those of `batch_norm_backward_sums` over the global batch.
    dy, dx
        ``(r p, c)``.
    """
    channels = x.shape[1]
    mean, variance = _moments(sums, count, channels)
    expect("dsums", dsums, 2 * channels, dtype=np.float64)
    expect("weight", weight, channels, dtype=x.dtype)
    expect("dy", dy, *x.shape, dtype=x.dtype)
    expect("dx", dx, *x.shape, dtype=x.dtype)
    normal = _affine(x, mean, variance, epsilon, None, None)
    of_dy, of_x = (dsums / count).reshape(2, channels)
    factor = (1.0 if weight is None else weight) / np.sqrt(variance + epsilon)
    dx[...] = factor * (dy - of_dy - normal * of_x)


@silent
def batch_norm_running(
    mean: Array, variance: Array, sums: Array, count: float, weight: float, dmean: Array, dvariance: Array
) -> None:
    """Write for each sample `weight` times what running moments are above those of the batch.

    Parameters
    ----------
    mean, variance
        The running moments ``(c,)``.
    sums, count
        As given to `batch_norm_forward`; what is compared is the unbiased estimate of the variance.
    weight
        1 / samples of the global batch: the rows add up to the difference.
    dmean, dvariance
        ``(r, c)``.
    """
    of_batch, variance_of_batch = _moments(sums, count, len(mean))
    expect("variance", variance, len(mean), dtype=mean.dtype)
    expect("dmean", dmean, len(dmean), len(mean), dtype=mean.dtype)
    expect("dvariance", dvariance, len(dmean), len(mean), dtype=mean.dtype)
    dmean[...] = weight * (mean - of_batch)
    dvariance[...] = weight * (variance - variance_of_batch * (count / np.float64(count - 1)))


# ------------------------------------------------------------------------------------- group and layer normalisation


def _by_group(x: Array, positions: int, groups: int) -> Array:
    """Return ``(m p, c)`` as float64 ``(m, p, g, c / g)``."""
    rows, channels = x.shape
    if positions < 1 or rows % positions:
        raise ValueError(f"positions: got {positions}, expected a divisor of the {rows} rows of x")
    if groups < 1 or channels < groups or channels % groups:
        raise ValueError(f"groups: got {groups}, expected a divisor of the {channels} columns of x")
    return x.reshape(rows // positions, positions, groups, channels // groups).astype(np.float64)


@silent
def group_norm_forward(
    x: Array, positions: int, groups: int, epsilon: float, weight: Array | None, bias: Array | None,
    statistics: Array | None, y: Array,
) -> None:  # fmt: skip
    """Write ``y = weight (x - mean) / std + bias``, with mean and std of each group in each set of positions.

    Parameters
    ----------
    x
        ``(m p, c)``.
    positions, groups
        p and g.
    epsilon
        Added to the variance: std is ``sqrt(variance + epsilon)``.
    weight, bias
        ``(c,)``, or None: 1 and 0.
    statistics
        float64 ``(m, 2 g)``: for each group mean and 1 / std; None if nobody needs them.
    y
        ``(m p, c)``.
    """
    whole = _by_group(x, positions, groups)
    expect("weight", weight, x.shape[1], dtype=x.dtype)
    expect("bias", bias, x.shape[1], dtype=x.dtype)
    expect("statistics", statistics, len(whole), 2 * groups, dtype=np.float64)
    expect("y", y, *x.shape, dtype=x.dtype)
    mean = whole.mean(axis=(1, 3), keepdims=True)
    inverse = 1 / np.sqrt(((whole - mean) ** 2).mean(axis=(1, 3), keepdims=True) + epsilon)
    normal = ((whole - mean) * inverse).reshape(x.shape)
    y[...] = normal * (1.0 if weight is None else weight) + (0.0 if bias is None else bias)
    if statistics is not None:
        statistics[...] = np.stack([mean[:, 0, :, 0], inverse[:, 0, :, 0]], axis=2).reshape(statistics.shape)


@silent
def group_norm_backward(
    x: Array, positions: int, groups: int, statistics: Array, weight: Array | None, dy: Array, dx: Array | None,
    dweight: Array | None, dbias: Array | None,
) -> None:  # fmt: skip
    """Write ``dx = (weight dy - mean of (weight dy) - x' mean of (weight dy x')) / std``, ``x' = (x - mean) / std``.

    Parameters
    ----------
    x, positions, groups, statistics, weight
        As given to and got from `group_norm_forward`.
    dy
        ``(m p, c)``.
    dx
        ``(m p, c)``, or None if nobody needs it.
    dweight, dbias
        ``(r, c)``: for each sample the sums of ``dy x'`` and of dy, where a sample is one set or several; or both None.
    """
    whole = _by_group(x, positions, groups)
    expect("statistics", statistics, len(whole), 2 * groups, dtype=np.float64)
    expect("weight", weight, x.shape[1], dtype=x.dtype)
    expect("dy", dy, *x.shape, dtype=x.dtype)
    expect("dx", dx, *x.shape, dtype=x.dtype)
    if (dweight is None) != (dbias is None):
        raise ValueError("dweight and dbias: expected both or none")
    mean, inverse = statistics.reshape(len(whole), 1, groups, 2, 1).transpose(3, 0, 1, 2, 4)
    normal = (whole - mean) * inverse
    if dweight is not None and dbias is not None:
        expect("dweight", dweight, len(dweight), x.shape[1], dtype=x.dtype)
        expect("dbias", dbias, len(dweight), x.shape[1], dtype=x.dtype)
        dbias[...] = _by_sample("dy", dy, len(dweight)).sum(axis=1)
        dweight[...] = _by_sample("dy x'", dy * normal.reshape(x.shape), len(dweight)).sum(axis=1)
    if dx is not None:
        weighted = _by_group(dy * (np.float64(1) if weight is None else weight), positions, groups)
        of_dy, of_x = (each.mean(axis=(1, 3), keepdims=True) for each in (weighted, weighted * normal))
        dx[...] = (inverse * (weighted - of_dy - normal * of_x)).reshape(x.shape)

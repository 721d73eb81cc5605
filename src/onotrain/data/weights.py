"""How much each sample counts in the loss, by its own weight and by that of its class, and how much each output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from onotrain.data.dataset import Dataset
from onotrain.data.output_names import by_output
from onotrain.data.targets import TargetCodec
from onotrain.errors import DataError

#: The setting ``loss.class_weights``.
ClassWeights = Literal["balanced"] | Mapping[str, float] | None


def sample_weights(dataset: Dataset) -> np.ndarray | None:
    """Return the weights of the samples, float64 ``(n,)``; None where they have none.

    Raises
    ------
    DataError
        One is negative, infinite or NaN, or all are 0.
    """
    if dataset.weights is None:
        return None
    weights = np.asarray(dataset.weights, np.float64).reshape(-1)
    if len(weights) != len(dataset):
        raise DataError(f"{dataset.source}: {len(weights)} weights for {len(dataset)} samples")
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"{dataset.where(row)}: the sample's weight is {weights[row]:g}, expected a number from 0 on")
    if not weights.any():
        raise DataError(f"{dataset.source}: all weights of samples are 0", hint="choose another column in data.weights")
    return weights


def training_weights(
    samples: np.ndarray | None,
    classes: ClassWeights,
    codec: TargetCodec,
    targets: np.ndarray,
    index: np.ndarray | None,
    source: str,
) -> np.ndarray | None:
    """Return how much each sample counts in the loss: the product of both weights, 1 in the mean.

    Parameters
    ----------
    samples
        Of `sample_weights`.
    classes
        ``balanced``: a class c counts ``n / (k n_c)``, where ``n_c`` of the n samples are of it and k classes occur; or
        weights by the names of classes, 1 for those that are not named.
    codec
        Of the targets.
    targets
        Encoded.
    index
        Rows to train on, which counts and mean are taken over; None for all.
    source
        For messages.

    Returns
    -------
    numpy.ndarray or None
        float64 ``(n,)`` for all rows; None if all count alike.

    Raises
    ------
    DataError
        A class has no such name, or all samples to train on have weight 0.
    """
    if samples is None and classes is None:
        return None
    weights = np.ones(len(targets)) if samples is None else samples.astype(np.float64)
    trained = slice(None) if index is None else index
    if classes is not None:
        numbers = np.rint(targets).astype(np.int64).reshape(-1)
        weights = weights * _of_classes(classes, codec, numbers[trained], source)[numbers]
    mean = float(weights[trained].mean())
    if not mean > 0:
        raise DataError(
            f"{source}: all samples to train on have weight 0", hint="change data.weights or loss.class_weights"
        )
    return weights / mean


def output_weights(setting: Any, names: Sequence[str], source: str) -> np.ndarray | None:
    """Return how much each output counts in the loss, 1 in the mean; None if all count alike.

    Parameters
    ----------
    setting
        ``loss.output_weights``: numbers in the order of the outputs, or by their names, 1 for the others; or None.
    names
        Of the outputs.
    source
        For messages.

    Returns
    -------
    numpy.ndarray or None
        float64 ``(outputs,)``.

    Raises
    ------
    DataError
        There is no such output, or all have weight 0.
    """
    if setting is None:
        return None
    if isinstance(setting, Mapping):
        setting = by_output(setting, names, [1.0] * len(names), f"{source}: loss.output_weights names the output")
    weights = np.array(setting, np.float64)
    if not weights.any():
        raise DataError(f"{source}: loss.output_weights: all outputs have weight 0")
    return weights / weights.mean()


def measured_weights(
    own: np.ndarray | None, blocks: Iterable[tuple[np.ndarray, np.ndarray | None]]
) -> np.ndarray | None:
    """Return how much each output counts per sample that was measured, so that each has its weight in the mean.

    That is ``u_j W / W_j``, of samples of weight W in all, of which the measured ones of output j weigh ``W_j``: the
    loss, divided by the number of all samples, is then the sum over outputs of ``u_j`` times the mean over what was
    measured, and nobody needs to count what a batch holds.

    Parameters
    ----------
    own
        ``u``, of `output_weights`.
    blocks
        Successive targets ``(n, outputs)``, NaN where not measured, and the weights of these samples.

    Returns
    -------
    numpy.ndarray or None
        float64 ``(outputs,)``, 0 for outputs that are never measured; None if all count alike and all is measured.
    """
    total, lost = 0.0, np.zeros(1)
    for targets, weights in blocks:
        counts = np.ones(len(targets)) if weights is None else weights.astype(np.float64)
        total += float(counts.sum())
        lost = lost + counts @ np.isnan(targets)
    if not lost.any():
        return own
    measured = total - lost
    with np.errstate(divide="ignore"):
        share = np.where(measured > 0, total / measured, 0.0)
    return share if own is None else own * share


def _of_classes(classes: ClassWeights, codec: TargetCodec, numbers: np.ndarray, source: str) -> np.ndarray:
    """Return the weight of every class, float64 ``(classes,)``, for these classes of the samples to train on."""
    if not isinstance(classes, Mapping):
        counts = np.bincount(numbers, minlength=codec.classes)
        with np.errstate(divide="ignore"):
            return np.where(counts > 0, len(numbers) / (np.count_nonzero(counts) * counts), 1.0)
    names = codec.class_names or tuple(map(str, range(codec.classes)))
    unknown = [name for name in classes if name not in names]
    if unknown:
        shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        raise DataError(f"{source}: loss.class_weights names the class {unknown[0]!r}, expected some of {shown}")
    return np.array([classes.get(name, 1.0) for name in names])

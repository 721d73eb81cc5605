"""Which classes the targets of a file are, and how these are written."""

from __future__ import annotations

import contextlib

import numpy as np

from onotrain.data.array_names import are_places
from onotrain.data.dataset import Dataset
from onotrain.data.tables.table import texts_of
from onotrain.errors import DataError


def one_column(targets: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Return class labels ``(n,)``; of one-hot columns the number of the one."""
    if targets.ndim == 1:
        return targets
    if targets.shape[1] == 1:
        return targets[:, 0]
    if is_one_hot(targets):
        return np.asarray(targets).argmax(axis=1)
    raise DataError(
        f"{dataset.source}: targets have shape {targets.shape}, expected one class label a sample",
        hint="for several labels a sample use the loss binary_cross_entropy, for numbers mse; columns of one-hot "
        "targets must have exactly one 1 in each row",
    )


def is_one_hot(targets: np.ndarray) -> bool:
    """Return whether each row ``(n, k)`` has exactly one 1 and zeros else."""
    if targets.ndim != 2 or targets.shape[1] < 2 or targets.dtype.kind not in "iuf":
        return False
    return bool(((targets == 0) | (targets == 1)).all() and (targets.sum(axis=1) == 1).all())


def class_names(targets: np.ndarray, dataset: Dataset, expected: int, *, soft: bool = False) -> tuple[str, ...] | None:
    """Return the names of the classes of targets, in the order of their numbers; None if they are 0, 1, 2, ...

    Parameters
    ----------
    targets
        Text or numbers ``(n,)``, or ``(n, k)``.
    dataset
        That they are of.
    expected
        Number of classes.
    soft
        Whether numbers from 0 to 1 may be probabilities.
    """
    if targets.ndim == 2 and is_one_hot(targets):
        return None if are_places(dataset.target_names) else dataset.target_names or None
    labels = one_column(targets, dataset)
    if labels.dtype.kind == "U":
        return tuple(str(name) for name in np.unique(labels))
    values = np.unique(labels)
    if not np.isfinite(values).all():
        return None  # `encode` names the place
    if soft and len(values) and values[0] >= 0 and values[-1] <= 1:
        return None
    whole = bool((values == np.floor(values)).all()) and bool((np.abs(values) < 2.0**53).all())
    if not whole or (len(values) and values[0] >= 0 and values[-1] < expected):
        return None
    return tuple(texts(values).tolist())


def are_numbers(names: tuple[str, ...] | None) -> bool:
    """Return whether the names of classes are numbers, so that a number stands for the class of this name."""
    try:
        return names is not None and bool([float(name) for name in names])
    except ValueError:
        return False


def texts(labels: np.ndarray) -> np.ndarray:
    """Return numbers as the shortest text: 3.0 as ``3``."""
    values, places = np.unique(labels, return_inverse=True)
    return texts_of(values)[places]


def as_written(labels: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Return text with numbers written as the names of classes are, where they stand for the same number."""
    by_number = {}
    for name in names:
        with contextlib.suppress(ValueError):
            by_number[float(name)] = name
    values, places = np.unique(labels, return_inverse=True)
    found = []
    for value in values.tolist():
        try:
            found.append(by_number.get(float(value), value) if value not in names else value)
        except ValueError:
            found.append(value)
    return np.array(found)[places]

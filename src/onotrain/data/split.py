"""A validation part cut from the training data."""

from __future__ import annotations

import numpy as np

from onotrain.errors import DataError


def stratified_split(labels: np.ndarray | None, n: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split samples in training and validation, each class in the same proportion.

    Each class gives its share, rounded so that the total is right (largest remainders); a class of two or more samples
    is in both parts.  Classes of a single sample are treated as one class together.  The result is a function of the
    arguments alone, on any machine and with any version of NumPy.

    Parameters
    ----------
    labels
        ``(n,)`` class of each sample, or None for a plain random split (regression, multi-label).
    n
        Number of samples.
    fraction
        Part of the samples for validation, ``0 < fraction < 1``.
    seed
        Of the choice.

    Returns
    -------
    train, validation : ndarray
        int64, sorted, disjoint, together ``range(n)``; neither is empty.

    Raises
    ------
    DataError
        Fewer than two samples.
    """
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"fraction is {fraction}, expected a number between 0 and 1")
    if n < 2:
        raise DataError(
            f"{n} sample{'s' * (n != 1)} cannot be split in training and validation, expected at least 2",
            hint="use more data, or leave data.validation out",
        )
    classes = np.zeros(n, np.int64) if labels is None else _classes(labels, n)
    sizes = np.bincount(classes)
    take = _shares(sizes, fraction)
    # A bit generator's raw output is what NumPy promises never to change; its permutations are not.
    draw = np.random.Philox(np.random.SeedSequence(seed)).random_raw(n)
    order = np.lexsort((draw, classes))
    rank_in_class = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = np.zeros(n, bool)
    chosen[order] = rank_in_class < np.repeat(take, sizes)
    return np.flatnonzero(~chosen).astype(np.int64), np.flatnonzero(chosen).astype(np.int64)


def _classes(labels: np.ndarray, n: int) -> np.ndarray:
    """Return a number for the class of each sample; classes of one sample share theirs."""
    if labels.shape != (n,):
        raise ValueError(f"labels have shape {labels.shape}, expected ({n},)")
    _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    number = np.cumsum(sizes > 1)
    number[sizes == 1] = 0
    return np.unique(number[classes], return_inverse=True)[1].astype(np.int64)


def _shares(sizes: np.ndarray, fraction: float) -> np.ndarray:
    """Return how many samples of each class go to validation: largest remainders within the classes' bounds."""
    low, high = np.where(sizes > 1, 1, 0), np.maximum(sizes - 1, 0)
    total = min(max(round(int(sizes.sum()) * fraction), 1), int(sizes.sum()) - 1)
    return largest_remainders(sizes * fraction, total, low, high)


def largest_remainders(quota: np.ndarray, total: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return whole numbers near `quota` (int64) from `low` to `high` whose sum is `total`, if these bounds allow it."""
    take = np.clip(np.floor(quota).astype(np.int64), low, high)
    while (missing := total - int(take.sum())) != 0:
        step = 1 if missing > 0 else -1
        free = np.flatnonzero(take < high) if step > 0 else np.flatnonzero(take > low)
        if len(free) == 0:  # the bounds leave no choice: many tiny classes
            break
        want = step * (quota - take)[free]
        take[free[np.argsort(-want, kind="stable")[: abs(missing)]]] += step
    return take

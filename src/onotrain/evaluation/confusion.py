"""Counts of (true class, predicted class), kept for the pairs that occur."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from onotrain.evaluation.rows import Rows
from onotrain.evaluation.statistics import Collection

#: Kept pairs beyond which equal ones are added up.
_MANY = 1 << 18


@dataclass(frozen=True)
class ConfusionCounts:
    """The entries of a confusion matrix that are not zero, in the order of true, then predicted classes.

    Parameters
    ----------
    classes
        Number of classes.
    true, predicted
        int64 numbers of the classes of each entry.
    samples
        int64 number of samples of each entry.
    """

    classes: int
    true: np.ndarray
    predicted: np.ndarray
    samples: np.ndarray

    def dense(self) -> np.ndarray:
        """Return the whole matrix, int64 ``(classes, classes)``: true classes are rows."""
        matrix = np.zeros((self.classes, self.classes), np.int64)
        matrix[self.true, self.predicted] = self.samples
        return matrix


@dataclass(frozen=True)
class Confusion(Collection):
    """The confusion matrix of networks that tell classes apart of which a sample has one."""

    classes: int

    def keep(self, rows: Rows) -> Any:
        """Return numbers of pairs, and how often each occurs."""
        return np.unique(rows.truth * self.classes + rows.predicted, return_counts=True)

    def compact(self, kept: list[Any]) -> list[Any]:
        """Add up equal pairs, once there are many; counts are whole numbers, so the order does not matter."""
        if len(kept) < 2 or sum(len(pairs) for pairs, _ in kept) < max(_MANY, 2 * len(kept[0][0])):
            return kept
        return [_added(kept)]

    def result(self, kept: list[Any]) -> ConfusionCounts:
        """Return the matrix."""
        pairs, counts = _added(kept)
        return ConfusionCounts(self.classes, *np.divmod(pairs, self.classes), counts)


def _added(kept: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return different pairs in order with the sums of their counts."""
    pairs, places = np.unique(np.concatenate([pairs for pairs, _ in kept]), return_inverse=True)
    counts = np.bincount(places, np.concatenate([counts for _, counts in kept]), minlength=len(pairs))
    return pairs, counts.astype(np.int64)

"""Precision, recall, F1 and their kin, as formulas of the counts per class."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class PerClass(NamedTuple):
    """Sums of `onotrain.evaluation.statistics.ClassCounts`, float64 ``(classes,)`` but for the first."""

    #: Number (or weight) of the samples.
    samples: float
    #: Samples of the class.
    support: np.ndarray
    #: Samples taken for the class.
    predicted: np.ndarray
    #: Samples of the class that were taken for it.
    right: np.ndarray

    @classmethod
    def of(cls, sums: np.ndarray) -> PerClass:
        """Return the parts of the sums."""
        return cls(float(sums[0]), *sums[1:].reshape(3, -1))

    def scores(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return precision, recall and F1 of every class, NaN where there is nothing to divide by."""
        with np.errstate(divide="ignore", invalid="ignore"):
            both = self.support + self.predicted
            return self.right / self.predicted, self.right / self.support, 2 * self.right / both


#: Numerator and denominator of a score, from counts of classes or their sums.
_Ratio = Callable[[PerClass], tuple[np.ndarray, np.ndarray]]

RATIOS: dict[str, _Ratio] = {
    "precision": lambda counts: (counts.right, counts.predicted),
    "recall": lambda counts: (counts.right, counts.support),
    "f1": lambda counts: (2 * counts.right, counts.support + counts.predicted),
}


def _scores(ratio: _Ratio, counts: PerClass) -> np.ndarray:
    """Return the score of every class, 0 where there is nothing to divide by, as scikit-learn does."""
    above, below = ratio(counts)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below == 0, 0.0, above / below)  # counts that are NaN stay


def macro(ratio: _Ratio, *, labels: bool) -> Callable[[np.ndarray], float]:
    """Return the mean score over the labels, or over the classes that occur or are predicted."""

    def value(sums: np.ndarray) -> float:
        counts = PerClass.of(sums)
        scores = _scores(ratio, counts)
        return float(scores.mean() if labels else scores[(counts.support > 0) | (counts.predicted > 0)].mean())

    return value


def micro(ratio: _Ratio) -> Callable[[np.ndarray], float]:
    """Return the score of all classes' counts together."""

    def value(sums: np.ndarray) -> float:
        samples, *counts = PerClass.of(sums)
        return float(_scores(ratio, PerClass(samples, *(np.atleast_1d(count.sum()) for count in counts)))[0])

    return value


def by_support(ratio: _Ratio) -> Callable[[np.ndarray], float]:
    """Return the mean score, in which each class counts by its samples."""

    def value(sums: np.ndarray) -> float:
        counts = PerClass.of(sums)
        total = counts.support.sum()
        return float(counts.support @ _scores(ratio, counts) / total) if total != 0 else 0.0

    return value


def of_class(ratio: _Ratio, number: int) -> Callable[[np.ndarray], float]:
    """Return the score of one class."""
    return lambda sums: float(_scores(ratio, PerClass.of(sums))[number])


def balanced_accuracy(sums: np.ndarray) -> float:
    """Return the mean recall over the classes that occur."""
    counts = PerClass.of(sums)
    occur = counts.support > 0
    return float((counts.right[occur] / counts.support[occur]).mean())


def matthews(sums: np.ndarray) -> float:
    """Return Matthews' correlation of true and predicted classes (Gorodkin 2004); 0 where one does not vary."""
    counts = PerClass.of(sums)
    samples, right = counts.samples, counts.right.sum()
    covariance = right * samples - counts.support @ counts.predicted
    variances = (samples**2 - counts.support @ counts.support) * (samples**2 - counts.predicted @ counts.predicted)
    return float(covariance / np.sqrt(variances)) if variances > 0 else 0.0

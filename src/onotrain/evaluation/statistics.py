"""Sums over samples that metrics are formulas of.

Several metrics share one statistic, which is then summed once.  Equal statistics are equal objects (and hash alike).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from onotrain.evaluation.rows import Rows

#: Bins of equal width of the calibration error.
CALIBRATION_BINS = 15


class Statistic(ABC):
    """A few float64 sums over samples: those of a split of the samples add up to those of the whole."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of sums."""

    @abstractmethod
    def sums(self, rows: Rows) -> np.ndarray:
        """Return the sums over these rows, float64 ``(size,)``."""


class Collection(ABC):
    """What is no sum over samples: each rank keeps something of its rows, the first one makes a result of it all."""

    @abstractmethod
    def keep(self, rows: Rows) -> Any:
        """Return what to keep of these rows, in arrays of its own."""

    def compact(self, kept: list[Any]) -> list[Any]:
        """Return the same in less memory, if there is a way."""
        return kept

    @abstractmethod
    def result(self, kept: list[Any]) -> Any:
        """Return what comes of everything that was kept, in the order of the rows unless it was made compact."""


@dataclass(frozen=True)
class Means(Statistic):
    """Number (or weight) of the samples, sums of loss and right answers, and what answers there are.

    The last is the number again, unless targets are missing: then rows count by the part that was measured.
    """

    weighted: bool = False
    #: Whether answers are judged by a threshold, which the loss does not know.
    threshold: bool = False
    size = 4

    def sums(self, rows: Rows) -> np.ndarray:
        """Return ``(n, loss, right, answered)``."""
        quantities = rows.loss.task == "regression"
        counts, answered = rows.counts(self.weighted), rows.answered(self.weighted)
        if self.weighted:
            return np.array([counts.sum(), rows.weighted_loss, 0.0 if quantities else counts @ rows.right, answered])
        loss, right = rows.loss_sums
        own = not quantities and (self.threshold or rows.measured is not None)
        return np.array([len(rows), loss, rows.right.sum() if own else right, answered])


@dataclass(frozen=True)
class TopRight(Statistic):
    """Samples whose class is among the ``k`` first, largest logits first and of equal ones those of lower classes."""

    k: int
    weighted: bool = False
    size = 2

    def sums(self, rows: Rows) -> np.ndarray:
        """Return ``(n, right)``; a logit that is NaN counts as larger than any other."""
        logits, truth = rows.logits, rows.truth[:, np.newaxis]
        own = np.take_along_axis(logits, truth, axis=1)
        before = (~(logits <= own)).sum(axis=1)
        before += ((logits == own) & (np.arange(logits.shape[1]) < truth)).sum(axis=1)
        counts = rows.counts(self.weighted)
        return np.array([counts.sum(), counts @ (before < self.k)])


@dataclass(frozen=True)
class ClassCounts(Statistic):
    """Samples of each class, samples taken for it, and those of them that are right.

    Of ``multilabel`` networks the classes are the labels, of ``binary`` ones no and yes.
    """

    classes: int
    weighted: bool = False

    @property
    def size(self) -> int:
        """Number of samples, and three for each class."""
        return 1 + 3 * self.classes

    def sums(self, rows: Rows) -> np.ndarray:
        """Return ``(n, support..., predicted..., right...)``."""
        counts = rows.counts(self.weighted)
        if rows.loss.task == "multilabel":
            yes = rows.yes if rows.measured is None else rows.yes & rows.measured
            by_label = [counts @ answers for answers in (rows.wanted, yes, rows.wanted & yes)]
            return np.concatenate([[counts.sum()], *by_label])
        right = rows.right > 0
        classes = [(rows.truth, counts), (rows.predicted, counts), (rows.truth[right], counts[right])]
        by_class = [np.bincount(numbers, count, minlength=self.classes) for numbers, count in classes]
        return np.concatenate([[counts.sum()], *by_class])


@dataclass(frozen=True)
class ProbabilityErrors(Statistic):
    """Logarithms and squares of what probabilities are off by; mean over the labels for ``multilabel``."""

    weighted: bool = False
    size = 3

    def sums(self, rows: Rows) -> np.ndarray:
        """Return ``(n, log loss, squares)``."""
        counts = rows.counts(self.weighted)
        log_losses, squares = _of_classes(rows) if rows.loss.task == "multiclass" else _of_answers(rows)
        return np.array([rows.answered(self.weighted), counts @ log_losses, counts @ squares])


def _of_classes(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Return log losses and squared errors of rows of one class each, float64 ``(r,)``."""
    numbers, p, z = np.arange(len(rows)), rows.predictions, rows.logits
    largest, own = p[numbers, rows.predicted].astype(np.float64), p[numbers, rows.truth].astype(np.float64)
    # The largest probability cannot vanish, so the logarithm of a small one is had from the difference of logits.
    behind = z[numbers, rows.predicted].astype(np.float64) - z[numbers, rows.truth]
    squares = np.einsum("ij,ij->i", p, p, dtype=np.float64) - 2 * own + 1
    return behind - np.log(largest), squares / 2 if p.shape[1] == 2 else squares


def _of_answers(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Return log losses and squared errors of answers, their means over a row, float64 ``(r,)``.

    What was not measured adds 0.
    """
    z, t, p = rows.logits.astype(np.float64), rows.targets.astype(np.float64), rows.predictions.astype(np.float64)
    log_losses, squares = np.maximum(z, 0) - z * t + np.log1p(np.exp(-np.abs(z))), np.square(p - t)
    if rows.measured is not None:
        log_losses, squares = (np.where(rows.measured, term, 0.0) for term in (log_losses, squares))
    return log_losses.mean(axis=1), squares.mean(axis=1)


@dataclass(frozen=True)
class Calibration(Statistic):
    """For each bin of confidence: number of answers, sum of their confidences, and how many are right."""

    weighted: bool = False
    size = 3 * CALIBRATION_BINS

    def sums(self, rows: Rows) -> np.ndarray:
        """Return three numbers for each bin ``(i / bins, (i + 1) / bins]``."""
        counts, p = rows.counts(self.weighted), rows.predictions
        if rows.loss.task == "multiclass":
            confidence, right = p.max(axis=1).astype(np.float64), rows.right
        else:
            yes = p.astype(np.float64).reshape(-1)
            confidence, right = np.maximum(yes, 1 - yes), ((yes > 0.5) == rows.wanted.reshape(-1)).astype(np.float64)
            counts = np.repeat(counts, p.shape[1])
            if rows.measured is not None:
                known = rows.measured.reshape(-1)
                confidence, right, counts = confidence[known], right[known], counts[known]
        sound = np.isfinite(confidence)
        if not sound.all():  # no bin holds them: the result must not be a number
            return np.full(self.size, np.nan)
        bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
        parts = (counts, counts * confidence, counts * right)
        return np.concatenate([np.bincount(bins, part, minlength=CALIBRATION_BINS) for part in parts])


@dataclass(frozen=True)
class QuantileErrors(Statistic):
    """What quantiles are off by, and how many targets they enclose, over the samples of which a target was measured.

    Parameters
    ----------
    levels
        The quantiles, rising.
    targets
        Number of targets.
    """

    levels: tuple[float, ...]
    targets: int
    weighted: bool = False

    @property
    def size(self) -> int:
        """Three for each target."""
        return 3 * self.targets

    def sums(self, rows: Rows) -> np.ndarray:
        """Return ``(n..., pinball losses, means over the quantiles..., enclosed...)``."""
        values, quantiles, q = rows.values.astype(np.float64), rows.quantiles, np.array(self.levels)
        errors = values[:, :, np.newaxis] - quantiles
        pinball = np.maximum(q * errors, (q - 1) * errors).mean(axis=2)
        inside = (values <= quantiles[:, :, -1]) & ((values >= quantiles[:, :, 0]) | (len(q) == 1))
        inside = np.where(np.isnan(quantiles).any(axis=2), np.nan, inside)
        known = np.ones(values.shape) if rows.measured is None else rows.measured.astype(np.float64)
        if rows.measured is not None:
            pinball, inside = (np.where(rows.measured, term, 0.0) for term in (pinball, inside))
        counts = rows.counts(self.weighted)
        return np.concatenate([counts @ term for term in (known, pinball, inside)])


@dataclass(frozen=True)
class Errors(Statistic):
    """Errors of values, and the variation of their targets, per output, over the samples of which it was measured.

    Parameters
    ----------
    origin
        Any target of each output, such as the first: sums of squares are taken about it, for a large mean would swallow
        the variance.
    """

    origin: tuple[float, ...]
    weighted: bool = False

    @property
    def size(self) -> int:
        """Five for each output."""
        return 5 * len(self.origin)

    def sums(self, rows: Rows) -> np.ndarray:
        """Return ``(n..., absolute..., squared..., shifted targets..., their squares...)``."""
        shifted = rows.values - np.asarray(self.origin)
        errors = rows.predictions.astype(np.float64) - rows.values
        known = np.ones(errors.shape) if rows.measured is None else rows.measured.astype(np.float64)
        if rows.measured is not None:
            errors, shifted = (np.where(rows.measured, values, 0.0) for values in (errors, shifted))
        terms = (np.abs(errors), np.square(errors), shifted, np.square(shifted))
        if not self.weighted:
            return np.concatenate([known.sum(axis=0), *(term.sum(axis=0) for term in terms)])
        counts = rows.counts(True)
        return np.concatenate([counts @ known, *(counts @ term for term in terms)])

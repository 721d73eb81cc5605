"""Measures of the order that scores put samples in: ROC AUC, average precision, and the threshold with the best F1.

They are exact: every score is kept, by the rank that computed it and in the end by the first one, which sorts them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from onotrain.errors import UsageError
from onotrain.evaluation.rows import Rows
from onotrain.evaluation.statistics import Collection

#: Scores (samples x classes) that the first rank keeps at most: 128 MiB in float32.
MOST_SCORES = 1 << 25


class Ranking(NamedTuple):
    """How the scores of each class order the samples; float64 ``(classes,)`` each, NaN where there is no answer."""

    #: Area under the ROC curve; there is none unless some samples are of the class and some are not.
    roc_auc: np.ndarray
    #: There is none unless some samples are of the class.
    average_precision: np.ndarray
    #: Probability above which a sample is best taken for one of the class.
    best_threshold: np.ndarray


@dataclass(frozen=True)
class Scores(Collection):
    """Probabilities with the classes or labels of their samples.

    Of a ``binary`` network there is one score, that of the second class.
    """

    weighted: bool = False

    def keep(self, rows: Rows) -> Any:
        """Return probabilities, targets and how much each row counts."""
        counts = rows.counts(True) if self.weighted else None
        truth = rows.truth if rows.loss.task == "multiclass" else rows.answers
        scores = rows.predictions
        return (scores.copy() if scores is rows.logits else scores), truth, counts

    def result(self, kept: list[Any]) -> Ranking:
        """Return the measures of every class."""
        scores, truth = (np.concatenate([part[place] for part in kept]) for place in (0, 1))
        counts = np.concatenate([part[2] for part in kept]) if self.weighted else np.ones(len(scores))
        found = [_measures(*of_class(number, scores, truth, counts)) for number in range(scores.shape[1])]
        return Ranking(*np.array(found, np.float64).T)


def of_class(
    number: int, scores: np.ndarray, truth: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the scores of a class or label, which samples are of it, and how much they count: of those measured.

    Parameters
    ----------
    number
        Of the class or label.
    scores
        ``(n, classes)``.
    truth
        Classes ``(n,)``, or answers ``(n, labels)`` (see `Rows.answers`).
    counts
        ``(n,)``.
    """
    if truth.ndim == 1:
        return scores[:, number], truth == number, counts
    known = truth[:, number] >= 0
    return scores[known, number], truth[known, number] == 1, counts[known]


def check_size(name: str, samples: int, outputs: int) -> None:
    """Refuse a metric that would keep more scores than a rank should hold.

    Raises
    ------
    UsageError
        There are more than `MOST_SCORES`.
    """
    if samples * outputs > MOST_SCORES:
        raise UsageError(
            f"metric {name!r} keeps every score: {samples:,} samples x {outputs:,} outputs are "
            f"{samples * outputs:,}, expected at most {MOST_SCORES:,}",
            hint="use fewer samples, or metrics that are sums, such as balanced_accuracy, f1 or log_loss",
        )


def _measures(scores: np.ndarray, positive: np.ndarray, counts: np.ndarray) -> tuple[float, float, float]:
    """Return ROC AUC, average precision and best threshold of one class; equal scores are one step of the curves."""
    if not len(scores) or np.isnan(scores).any():
        return np.nan, np.nan, np.nan
    limits, right, wrong = steps_of(scores, positive, counts)
    taken, positives, negatives = right + wrong, right[-1], wrong[-1]
    if not positives > 0:
        return np.nan, np.nan, np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(taken > 0, right / taken, 0.0)
    average_precision = float(np.diff(right, prepend=0.0) @ precision / positives)
    steps, before = np.diff(wrong, prepend=0.0), np.concatenate([[0.0], right[:-1]])
    area = float(steps @ (before + right) / 2 / positives / negatives) if negatives > 0 else np.nan
    return area, average_precision, _best(limits.astype(np.float64), right, taken, positives)


def steps_of(scores: np.ndarray, positive: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what a threshold that falls from one score to the next takes for the class.

    Parameters
    ----------
    scores, positive, counts
        Of the samples, ``(n,)``: how probable the class is, whether it is right, and how much a sample counts.

    Returns
    -------
    limits, right, wrong : ndarray
        The different scores, falling, and how many samples have such a score or a larger one, by whether they are of
        the class.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    right, wrong = (np.cumsum(np.where(yes, counts, 0.0)[order])[ends] for yes in (positive, ~positive))
    return ordered[ends], right, wrong


def _best(scores: np.ndarray, right: np.ndarray, taken: np.ndarray, positives: float) -> float:
    """Return a threshold with the largest F1: of the numbers that part the same samples, one with few digits."""
    f1 = 2 * right / (taken + positives)
    if not scores[-1] > 0:  # no threshold from 0 to 1 takes those that score 0
        f1[-1] = -1.0
    best = int(np.argmax(f1))
    upper = float(scores[best])
    lower = float(scores[best + 1]) if best + 1 < len(scores) else 0.0
    middle = (lower + upper) / 2
    rounded = (round(middle, digits) for digits in range(1, 18))
    return next((value for value in rounded if lower <= value < upper), lower)

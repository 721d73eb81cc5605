"""What pictures of an evaluation are made of: predictions beside targets, and curves over the threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from onotrain.evaluation.ranking import of_class, steps_of
from onotrain.evaluation.rows import Rows
from onotrain.evaluation.statistics import Collection

#: Samples of a picture of values, and points of a curve.
MOST_SAMPLES, MOST_POINTS = 100_000, 1_000


class Pairs(NamedTuple):
    """Targets and predictions of a regression in the units of the data, float64 ``(n, outputs)``."""

    targets: np.ndarray
    predictions: np.ndarray
    #: Number of all samples, of which every so many are here where there are more than `MOST_SAMPLES`.
    samples: int


@dataclass(frozen=True)
class PairsOf(Collection):
    """Collects `Pairs`."""

    def keep(self, rows: Rows) -> Any:
        """Return targets and predictions."""
        return np.array(rows.values, np.float64), np.array(rows.predictions, np.float64)

    def result(self, kept: list[Any]) -> Pairs:
        """Return those of all rows, or of some that are evenly spread."""
        targets, predictions = (np.concatenate([part[place] for part in kept]) for place in (0, 1))
        samples = len(targets)
        chosen = np.unique(np.linspace(0, samples - 1, min(samples, MOST_SAMPLES)).round().astype(np.int64))
        return Pairs(targets[chosen], predictions[chosen], samples)


class Curve(NamedTuple):
    """ROC and precision over recall of one class or label, float64 ``(points,)`` each.

    All are empty where all samples are of the class, or none.
    """

    #: Of the class or label.
    name: str
    false_positive_rate: np.ndarray
    #: Also called recall.
    true_positive_rate: np.ndarray
    precision: np.ndarray
    #: Fraction of the samples that are of the class.
    share: float
    roc_auc: float
    average_precision: float


@dataclass(frozen=True)
class CurvesOf(Collection):
    """Collects a `Curve` of each class or label, by their names; of two classes that of the second one alone."""

    names: tuple[str, ...]

    def keep(self, rows: Rows) -> Any:
        """Return probabilities, and which class or labels are right."""
        return rows.predictions.copy(), rows.truth if rows.loss.task == "multiclass" else rows.answers

    def result(self, kept: list[Any]) -> list[Curve]:
        """Return the curves."""
        scores, truth = (np.concatenate([part[place] for part in kept]) for place in (0, 1))
        if truth.ndim == 1:
            numbers = range(1, 2) if scores.shape[1] == 2 else range(scores.shape[1])
            return [_curve(self.names[number], number, scores, truth) for number in numbers]
        names = self.names[-scores.shape[1] :]  # one output says whether a sample is of the second of two classes
        return [_curve(name, number, scores, truth) for number, name in enumerate(names)]


def _curve(name: str, number: int, all_scores: np.ndarray, truth: np.ndarray) -> Curve:
    scores, positive, counts = of_class(number, all_scores, truth, np.ones(len(all_scores)))
    share, nothing = float(positive.mean()) if len(positive) else np.nan, np.empty(0)
    if np.isnan(scores).any() or not 0 < share < 1:
        return Curve(name, nothing, nothing, nothing, share, np.nan, np.nan)
    right, wrong = steps_of(scores, positive, counts)[1:]
    recall, rate, precision = right / right[-1], wrong / wrong[-1], right / (right + wrong)
    average = float(np.diff(recall, prepend=0.0) @ precision)
    area = float(np.diff(rate, prepend=0.0) @ (recall + np.concatenate([[0.0], recall[:-1]])) / 2)
    points = np.unique(np.linspace(0, len(rate) - 1, min(len(rate), MOST_POINTS)).round().astype(np.int64))
    return Curve(
        name, np.concatenate([[0.0], rate[points]]), np.concatenate([[0.0], recall[points]]),
        np.concatenate([precision[:1], precision[points]]), share, area, average,
    )  # fmt: skip

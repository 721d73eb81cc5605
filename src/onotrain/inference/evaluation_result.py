"""What an evaluation has found out, and its form as data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from onotrain.evaluation.class_scores import PerClass
from onotrain.evaluation.confusion import ConfusionCounts
from onotrain.evaluation.curves import Curve, Pairs
from onotrain.evaluation.value_scores import PerOutput

#: More classes than these have a confusion matrix of the entries that are not zero, instead of a whole one.
MOST_DENSE_CLASSES = 100


@dataclass(frozen=True)
class ClassScore:
    """How well one class is recognised; NaN where there is nothing to divide by."""

    name: str
    precision: float
    recall: float
    f1: float
    #: Number of samples of the class.
    support: int
    #: Number of samples that were taken for the class.
    predicted: int


@dataclass(frozen=True)
class OutputScore:
    """How well one output of a regression is predicted; R2 is NaN where the targets do not vary."""

    name: str
    mae: float
    rmse: float
    r2: float
    #: Of targets, mae and rmse; empty if it is not known.
    unit: str = ""
    #: Number of samples of which it was measured.
    samples: int = 0


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found out.

    Parameters
    ----------
    source
        Name of the data.
    samples
        Number of samples.
    metrics
        Values by name.
    class_names
        Names or numbers of the classes; empty where the network does not tell classes apart.
    counts
        Entries of the confusion matrix that are not zero; None where there is none, or other metrics were asked for.
    per_class, per_output
        Sums of each class, or each output of a regression; None likewise.
    output_names
        Names or numbers of the outputs of a regression.
    threshold
        Probability above which the answer was yes, one for each label where several were chosen; None if it was not
        given.
    warnings
        To be shown to the user.
    notes
        What is to be known of how the samples were read and computed, in words.
    output_units
        Units of the outputs of a regression, empty text where one is not known; empty if none is.
    drawable
        What `onotrain.reporting.evaluation` draws; None if it was not asked for.
    """

    source: str
    samples: int
    metrics: dict[str, float]
    class_names: tuple[str, ...] = ()
    counts: ConfusionCounts | None = None
    per_class: PerClass | None = None
    output_names: tuple[str, ...] = ()
    per_output: PerOutput | None = None
    threshold: float | tuple[float, ...] | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    output_units: tuple[str, ...] = ()
    drawable: Pairs | list[Curve] | None = None

    @property
    def unit(self) -> str:
        """The unit that all outputs have, which is that of their mean errors too; empty if there is none."""
        return self.output_units[0] if len(set(self.output_units)) == 1 else ""

    @cached_property
    def confusion(self) -> np.ndarray | None:
        """The whole confusion matrix.

        int64 ``(classes, classes)``: number of samples by true class (row) and predicted class (column); None as
        `counts`.
        """
        return None if self.counts is None else self.counts.dense()

    @cached_property
    def scores(self) -> list[ClassScore]:
        """Precision, recall and F1 of every class."""
        if self.per_class is None:
            return []
        counts = self.per_class
        columns = (*counts.scores(), counts.support.astype(np.int64), counts.predicted.astype(np.int64))
        return [ClassScore(*row) for row in zip(self.class_names, *(c.tolist() for c in columns), strict=True)]

    @cached_property
    def outputs(self) -> list[OutputScore]:
        """Errors and R2 of every output of a regression."""
        if self.per_output is None:
            return []
        columns = (self.per_output.mae, self.per_output.rmse, self.per_output.r2)
        units = self.output_units or ("",) * len(self.output_names)
        counts = self.per_output.samples.astype(np.int64)
        rows = zip(self.output_names, *(c.tolist() for c in columns), units, counts.tolist(), strict=True)
        return [OutputScore(*row) for row in rows]

    def to_mapping(self) -> dict[str, Any]:
        """Return it as data for JSON; what is not a number is None.

        Of more than `MOST_DENSE_CLASSES` classes, ``confusion`` is a mapping of the three lists ``true``, ``predicted``
        and ``samples``, one entry for each pair that occurs, and ``classes`` lists those that occur or are predicted.
        """
        mapping: dict[str, Any] = {
            "data": self.source,
            "samples": self.samples,
            "metrics": {name: _number(value) for name, value in self.metrics.items()},
        }
        if self.threshold is not None:
            mapping["threshold"] = list(self.threshold) if isinstance(self.threshold, tuple) else self.threshold
        if self.per_output is not None:
            mapping["outputs"] = [
                _entries(output, ("mae", "rmse", "r2"))
                | ({"unit": output.unit} if output.unit else {})
                | ({"samples": output.samples} if output.samples != self.samples else {})
                for output in self.outputs
            ]
        many = len(self.class_names) > MOST_DENSE_CLASSES
        if self.per_class is not None:
            shown = [score for score in self.scores if not many or score.support or score.predicted]
            mapping["classes"] = [_entries(score, ("precision", "recall", "f1", "support")) for score in shown]
        if self.counts is not None:
            mapping["confusion"] = _sparse(self.counts) if many else self.counts.dense().tolist()
        for key, said in (("notes", self.notes), ("warnings", self.warnings)):
            if said:
                mapping[key] = list(said)
        return mapping


def _entries(score: ClassScore | OutputScore, keys: tuple[str, ...]) -> dict[str, Any]:
    return {"name": score.name, **{key: _number(getattr(score, key)) for key in keys}}


def _sparse(counts: ConfusionCounts) -> dict[str, list[int]]:
    return {key: getattr(counts, key).tolist() for key in ("true", "predicted", "samples")}


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None

"""What a network's outputs stand for: their names, and the classes that probabilities decide for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from onotrain.errors import UsageError

if TYPE_CHECKING:
    from onotrain.runs.metadata import ModelMetadata


#: Columns that name the samples, by name: text ``(n,)``.
Ids = Mapping[str, np.ndarray]
#: Significant digits of what a float32 network gives.
_FLOAT32_DIGITS, _MOST_DIGITS = 8, 17


@dataclass(frozen=True)
class Outputs:
    """The outputs of one network.

    Parameters
    ----------
    task
        ``multiclass``, ``binary``, ``multilabel`` or ``regression``.
    width
        Number of values predicted for a sample; 1 for ``binary``: the probability of the second class.  Of a regression
        some for each target, side by side.
    dtype
        float32 or float64.
    names
        Of the classes, labels or targets; None where they are only numbers.
    threshold
        Probability above which the answer is yes, where answers are yes or no; None: where they are more probable.
    """

    task: str
    width: int
    dtype: np.dtype
    names: tuple[str, ...] | None
    threshold: float | None = None
    #: Significant decimal digits in text; None: as many as can be read back exactly.
    digits: int | None = None
    #: What is appended to the name of a target for each value that is predicted of it.
    titles: tuple[str, ...] = ("",)

    @classmethod
    def of(cls, metadata: ModelMetadata, dtype: np.dtype) -> Outputs:
        """Return the outputs of the network that `metadata` describes."""
        codec = metadata.codec
        scaled = codec.scaling is not None and metadata.config.training.dtype == "float32"
        digits, titles = _digits(codec.scaling) if scaled else None, codec.per_target.titles
        width = codec.outputs * len(titles)
        return cls(codec.task, width, dtype, codec.names(metadata.target_names), digits=digits, titles=titles)

    def with_threshold(self, threshold: float | None) -> Outputs:
        """Return outputs that decide by a threshold.

        Raises
        ------
        UsageError
            It is no probability, or the answers are not yes or no.
        """
        if threshold is None:
            return self
        if not 0 <= threshold <= 1:
            raise UsageError(f"the threshold is {threshold:g}, expected a probability from 0 to 1")
        self.check_threshold()
        return replace(self, threshold=float(threshold))

    def check_threshold(self) -> None:
        """Refuse a threshold where the answers are not yes or no.

        Raises
        ------
        UsageError
            The network predicts values, or one of three classes or more.
        """
        if self.regression or (self.task == "multiclass" and self.width != 2):
            found = "values" if self.regression else f"one of {self.width} classes"
            raise UsageError(
                f"a threshold needs a network that answers yes or no, or tells two classes apart; this one predicts "
                f"{found}",
                hint="leave --threshold out",
            )

    @property
    def regression(self) -> bool:
        """Whether the network predicts values, not probabilities."""
        return self.task == "regression"

    @cached_property
    def shown_names(self) -> tuple[str, ...]:
        """Names of the classes, labels or targets; their numbers where they have none."""
        count = 2 if self.task == "binary" else self.width // len(self.titles)
        return self.names or tuple(map(str, range(count)))

    @property
    def columns(self) -> list[str]:
        """One title for each predicted value: ``p_<class>`` for a probability, the target's name for a value.

        Where there are several values of each target: ``y_q0.1``, ``y_q0.9``, or ``y``, ``y_std``.
        """
        if self.regression:
            names = self.names or [f"value_{number}" for number in self.shown_names]
            return [f"{name}{title}" for name in names for title in self.titles]
        return [f"p_{name}" for name in (self.shown_names[1:] if self.task == "binary" else self.shown_names)]

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the classes that probabilities ``(n, width)`` stand for.

        Returns
        -------
        numpy.ndarray
            int64 ``(n,)`` numbers of classes (of several most probable ones the first); bool ``(n, labels)`` for
            ``multilabel``.

        Raises
        ------
        UsageError
            The network predicts values.
        """
        if self.regression:
            raise UsageError("the network predicts values, not classes", hint="use predict")
        if self.task == "multiclass" and self.threshold is None:
            return probabilities.argmax(axis=1)
        # A threshold in double precision, so that it is not rounded to a probability.
        chosen = probabilities > np.float64(0.5 if self.threshold is None else self.threshold)
        return chosen if self.task == "multilabel" else chosen[:, -1].astype(np.int64)


def _digits(scaling: Any) -> int:
    """Return the digits of values in units: those of the network, and those that mean and deviation have in common."""
    common = 0.0 if scaling.log else float(np.max(np.abs(scaling.shift) / scaling.scale))
    return min(_FLOAT32_DIGITS + math.ceil(math.log10(1 + common)), _MOST_DIGITS)

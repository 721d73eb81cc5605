"""What a network's outputs stand for: their names, and the classes that probabilities decide for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from onotrain.errors import UsageError
from onotrain.nn.layers import Activation, Dense, Elementwise, Layer

if TYPE_CHECKING:
    from onotrain.runs.metadata import ModelMetadata


#: Columns that name the samples, by name: text ``(n,)``.
Ids = Mapping[str, np.ndarray]
#: Of values that a float32 network gives for scaled targets: seven, and those that mean and deviation have in common.
_SCALED_DIGITS = 12


@dataclass(frozen=True)
class Outputs:
    """The outputs of one network.

    Parameters
    ----------
    task
        ``multiclass``, ``binary``, ``multilabel`` or ``regression``.
    width
        Number of values predicted for a sample; 1 for ``binary``: the probability of the second class.
    dtype
        float32 or float64.
    names
        Of the classes, labels or targets; None where they are only numbers.
    """

    task: str
    width: int
    dtype: np.dtype
    names: tuple[str, ...] | None
    #: Significant decimal digits in text; None: as many as can be read back exactly.
    digits: int | None = None

    @classmethod
    def of(cls, metadata: ModelMetadata, dtype: np.dtype) -> Outputs:
        """Return the outputs of the network that `metadata` describes."""
        task, names = metadata.codec.task, metadata.codec.class_names
        if names is None and task in ("multilabel", "regression"):
            names = metadata.target_names
        expected = 2 if task == "binary" else metadata.codec.outputs
        names = names if names is not None and len(names) == expected else None
        scaled = metadata.codec.scaling is not None and metadata.config.training.dtype == "float32"
        return cls(task, metadata.codec.outputs, dtype, names, _SCALED_DIGITS if scaled else None)

    @property
    def regression(self) -> bool:
        """Whether the network predicts values, not probabilities."""
        return self.task == "regression"

    @cached_property
    def shown_names(self) -> tuple[str, ...]:
        """Names of the classes, labels or targets; their numbers where they have none."""
        return self.names or tuple(str(number) for number in range(2 if self.task == "binary" else self.width))

    @property
    def columns(self) -> list[str]:
        """One title for each predicted value: ``p_<class>`` for a probability, the target's name for a value."""
        if self.regression:
            return list(self.names or (f"value_{number}" for number in range(self.width)))
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
        if self.task == "multiclass":
            return probabilities.argmax(axis=1)
        chosen = probabilities > 0.5
        return chosen[:, 0].astype(np.int64) if self.task == "binary" else chosen


def activation_of(layer: Layer) -> Activation:
    """Return the activation of a layer, for descriptions of a network."""
    if not isinstance(layer, Dense | Elementwise):
        raise TypeError(f"no description for a layer of type {type(layer).__name__}")
    return layer.activation

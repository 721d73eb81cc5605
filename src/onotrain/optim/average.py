"""The rule of tensors that follow a statistic of the data, such as the running means of a batch normalisation."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from numpy import ndarray as Array
from pydantic import Field

from onotrain.config.optimizer import Scalars, State, UpdateRule


class Average(UpdateRule):
    """An exponential average: ``w -= rate g``, where the gradient g is w less the statistic of the batch.

    It is no choice of the configuration, but the rule of averaged tensors beside whatever optimiser trains the others:
    without its learning rate, decay and clipping.
    """

    kernel: ClassVar[str] = "average"
    counts: ClassVar[bool] = False

    name: Literal["average"] = "average"
    learning_rate: float = Field(ge=0, le=1)

    @property
    def state_names(self) -> tuple[str, ...]:
        """Return nothing: there is no state."""
        return ()

    def scalars(self, learning_rate: float, number: int) -> tuple[float, ...]:
        """Return its own rate, whatever that of the update is."""
        return (self.learning_rate,)

    @staticmethod
    def formula(xp: Any, scalars: Scalars, g: Array, w: Array, state: State) -> None:
        """``w -= rate g``."""
        (rate,) = scalars
        w -= rate * g

"""The few numbers of a step that all ranks must agree on."""

from __future__ import annotations

import math

import numpy as np


class StepStatistics:
    """The few numbers of a step that all ranks must agree on; summed over the ranks along with the gradient."""

    def __init__(self) -> None:
        #: float64: sum of losses, number of correct samples, requests to stop, sum of squares of the gradient,
        #: number of samples.
        self.values = np.zeros(5)
        #: Its first two, as the loss kernels fill them.
        self.losses = self.values[:2]

    @property
    def loss_sum(self) -> float:
        """Sum of the losses of the samples."""
        return float(self.values[0])

    @property
    def correct(self) -> float:
        """Number of samples that were classified correctly."""
        return float(self.values[1])

    @property
    def stop(self) -> bool:
        """Whether any rank was asked to stop."""
        return bool(self.values[2])

    def ask_to_stop(self) -> None:
        """Let all ranks stop after this step."""
        self.values[2] = 1.0

    @property
    def gradient_squares(self) -> float:
        """Sum of squares of the global gradient; not finite if any of it is not."""
        return float(self.values[3])

    @gradient_squares.setter
    def gradient_squares(self, value: float) -> None:
        self.values[3] = value

    @property
    def samples(self) -> int:
        """Number of samples that the sums are over; 0 between synchronisation points."""
        return int(self.values[4])

    @samples.setter
    def samples(self, value: int) -> None:
        self.values[4] = value

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are finite."""
        return all(map(math.isfinite, self.values.tolist()))

    def clear(self) -> None:
        """Begin a new step."""
        self.values[:] = 0.0

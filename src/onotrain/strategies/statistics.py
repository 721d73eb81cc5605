"""The few numbers of a step that all ranks must agree on."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class StepSums(NamedTuple):
    """The statistics of a step as numbers, in the order of `STATISTICS`."""

    loss_sum: float
    correct: float
    #: How many ranks want to stop.
    stop_requests: float
    #: Sum of squares of the global gradient.
    gradient_squares: float
    #: Number of samples that the sums are over; 0 between synchronisation points.
    samples: float

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are finite."""
        return all(map(math.isfinite, self))


#: The statistics of a step, in memory and in messages: float64 alone, so that they sum as a vector.
STATISTICS = np.dtype([(name, np.float64) for name in StepSums._fields])
_LOSS_SUM, _CORRECT, _STOP_REQUESTS, _GRADIENT_SQUARES, _SAMPLES = range(len(StepSums._fields))


def vectors(records: np.ndarray) -> np.ndarray:
    """Return records of float64 fields as float64 vectors in the same memory: of shape ``(*shape, fields)``."""
    return records[..., np.newaxis].view(np.float64)


class StepStatistics:
    """What a rank has computed in a step; summed over the ranks along with the gradient.

    Parameters
    ----------
    record
        Of dtype `STATISTICS` and shape (), whose memory is used; None for a new one.
    """

    def __init__(self, record: np.ndarray | None = None) -> None:
        #: All of them as one vector, float64: in each step numbers are read from it, and not by the names of fields,
        #: which takes three times as long.
        self.values = np.zeros(len(StepSums._fields)) if record is None else vectors(record)
        #: Sum of losses and number of correct samples, as the loss kernels fill them.
        self.losses = self.values[:2]

    @property
    def loss_sum(self) -> float:
        """Sum of the losses of the samples."""
        return self.values.item(_LOSS_SUM)

    @property
    def correct(self) -> float:
        """Number of samples that were classified correctly."""
        return self.values.item(_CORRECT)

    @property
    def stop(self) -> bool:
        """Whether any rank was asked to stop."""
        return self.values.item(_STOP_REQUESTS) != 0.0

    @stop.setter
    def stop(self, value: bool) -> None:
        self.values[_STOP_REQUESTS] = value

    def ask_to_stop(self) -> None:
        """Let all ranks stop after this step."""
        self.stop = True

    @property
    def gradient_squares(self) -> float:
        """Sum of squares of the global gradient; not finite if any of it is not."""
        return self.values.item(_GRADIENT_SQUARES)

    @gradient_squares.setter
    def gradient_squares(self, value: float) -> None:
        self.values[_GRADIENT_SQUARES] = value

    @property
    def samples(self) -> int:
        """Number of samples that the sums are over; 0 between synchronisation points."""
        return int(self.values.item(_SAMPLES))

    @samples.setter
    def samples(self, value: int) -> None:
        self.values[_SAMPLES] = value

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are finite."""
        return all(map(math.isfinite, self.values.tolist()))

    def clear(self) -> None:
        """Begin a new step."""
        self.values.fill(0.0)

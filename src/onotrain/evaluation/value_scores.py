"""Metrics of values, as formulas of the sums of errors per output."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class PerOutput(NamedTuple):
    """Sums of `onotrain.evaluation.statistics.Errors`, float64 ``(outputs,)`` but for the first."""

    #: Number (or weight) of the samples.
    samples: float
    #: Sum of absolute errors.
    absolute: np.ndarray
    #: Sum of squared errors.
    squared: np.ndarray
    #: Sum of the targets, shifted.
    first: np.ndarray
    #: Sum of the squares of the shifted targets.
    second: np.ndarray

    @classmethod
    def of(cls, sums: np.ndarray) -> PerOutput:
        """Return the parts of the sums."""
        return cls(float(sums[0]), *sums[1:].reshape(4, -1))

    @property
    def mae(self) -> np.ndarray:
        """Mean absolute error of every output."""
        return self.absolute / self.samples

    @property
    def rmse(self) -> np.ndarray:
        """Root of the mean squared error of every output."""
        return np.sqrt(self.squared / self.samples)

    @property
    def r2(self) -> np.ndarray:
        """Part of the variance of every output's targets that is explained; NaN where they do not vary."""
        total = self.second - self.first**2 / self.samples
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(total > 0, 1.0 - self.squared / total, np.nan)


def mae(sums: np.ndarray) -> float:
    """Return the mean absolute error over samples and outputs."""
    errors = PerOutput.of(sums)
    return float(errors.absolute.sum() / (errors.samples * len(errors.absolute)))


def rmse(sums: np.ndarray) -> float:
    """Return the root of the mean squared error over samples and outputs."""
    errors = PerOutput.of(sums)
    return math.sqrt(float(errors.squared.sum() / (errors.samples * len(errors.squared))))


def r2(sums: np.ndarray) -> float:
    """Return the mean over the outputs whose targets vary; NaN if there is none."""
    errors = PerOutput.of(sums)
    if np.isnan(errors.squared).any():
        return math.nan
    each = errors.r2
    vary = ~np.isnan(each)
    return float(each[vary].mean()) if vary.any() else math.nan

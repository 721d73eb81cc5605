"""Metrics of values, as formulas of the sums of errors per output."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class PerOutput(NamedTuple):
    """Sums of `onotrain.evaluation.statistics.Errors`, float64 ``(outputs,)``."""

    #: Number (or weight) of the samples of which it was measured.
    samples: np.ndarray
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
        return cls(*sums.reshape(5, -1))

    @property
    def mae(self) -> np.ndarray:
        """Mean absolute error of every output."""
        return _ratio(self.absolute, self.samples)

    @property
    def rmse(self) -> np.ndarray:
        """Root of the mean squared error of every output."""
        return np.sqrt(_ratio(self.squared, self.samples))

    @property
    def r2(self) -> np.ndarray:
        """Part of the variance of every output's targets that is explained; NaN where they do not vary."""
        total = self.second - _ratio(self.first**2, self.samples)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(total > 0, 1.0 - self.squared / total, np.nan)


def _ratio(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return means; NaN where there is nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sums / counts)


def mae(sums: np.ndarray) -> float:
    """Return the mean absolute error over what was measured of samples and outputs."""
    errors = PerOutput.of(sums)
    return float(_ratio(errors.absolute.sum(), errors.samples.sum()))


def rmse(sums: np.ndarray) -> float:
    """Return the root of the mean squared error over what was measured of samples and outputs."""
    errors = PerOutput.of(sums)
    return math.sqrt(float(_ratio(errors.squared.sum(), errors.samples.sum())))


def r2(sums: np.ndarray) -> float:
    """Return the mean over the outputs whose targets vary; NaN if there is none."""
    errors = PerOutput.of(sums)
    if np.isnan(errors.squared).any():
        return math.nan
    each = errors.r2
    vary = ~np.isnan(each)
    return float(each[vary].mean()) if vary.any() else math.nan

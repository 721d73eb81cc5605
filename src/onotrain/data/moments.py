"""Mean, spread and extremes of columns, in little memory."""

from __future__ import annotations

import numpy as np


class Moments:
    """Count, mean, population standard deviation and extremes of the finite values of each column, block by block.

    All in float64.  Blocks are merged by the formula of Chan, Golub and LeVeque, "Updating Formulae and a Pairwise
    Algorithm for Computing Sample Variances" (1979), which does not cancel.

    Attributes
    ----------
    count
        int64 ``(d,)``: finite values of each column.
    mean, minimum, maximum
        float64 ``(d,)``; of a column without values 0, infinity and minus infinity.
    """

    def __init__(self, columns: int) -> None:
        self.count = np.zeros(columns, np.int64)
        self.mean = np.zeros(columns)
        self.minimum = np.full(columns, np.inf)
        self.maximum = np.full(columns, -np.inf)
        self._squares = np.zeros(columns)

    def add(self, block: np.ndarray) -> None:
        """Take in the rows of a block ``(rows, d)``."""
        if len(block) == 0:
            return
        with np.errstate(invalid="ignore"):  # a signalling NaN
            values = block.astype(np.float64)
        finite = None if block.dtype.kind in "iu" else np.isfinite(values)
        if finite is None or finite.all():
            finite = None
            count = np.full(values.shape[1], len(values), np.int64)
            low, high = values.min(axis=0), values.max(axis=0)
        else:
            count = finite.sum(axis=0)
            low = np.where(finite, values, np.inf).min(axis=0)
            high = np.where(finite, values, -np.inf).max(axis=0)
            values[~finite] = 0.0
        mean = values.sum(axis=0) / np.maximum(count, 1)
        values -= mean
        if finite is not None:
            values[~finite] = 0.0
        squares = np.einsum("ij,ij->j", values, values)
        self._merge(count, mean, squares)
        self.minimum, self.maximum = np.minimum(self.minimum, low), np.maximum(self.maximum, high)

    def _merge(self, count: np.ndarray, mean: np.ndarray, squares: np.ndarray) -> None:
        """Take in the moments of a block."""
        total = np.maximum(self.count + count, 1)
        delta = mean - self.mean
        self._squares = self._squares + squares + delta * delta * (self.count * (count / total))
        self.mean = self.mean + delta * (count / total)
        self.count = self.count + count

    @property
    def std(self) -> np.ndarray:
        """Population standard deviation of each column, float64 ``(d,)``."""
        return np.sqrt(self._squares / np.maximum(self.count, 1))

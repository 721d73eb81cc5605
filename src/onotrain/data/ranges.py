"""Values whose sizes differ so much that their logarithms say more than they do."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

#: Largest value over smallest from which on values are wide.
_WIDE = 100.0
#: Quantiles between which targets are compared: a few outliers do not decide.
_MOST = (0.01, 0.99)
#: The logarithms are nearer to a normal distribution if they are off by so much less.  An exponential distribution,
#: whose logarithm has a tail on the other side, has 0.32; a log-uniform one over two decades 0.19, over three 0.13.
_NEARER = 1 / 4
#: Fewer values do not show a distribution.
_FEWEST = 20


def is_wide(values: Iterable[float]) -> bool:
    """Return whether values ask for a logarithmic axis: all finite ones above 0, the largest 100 times the smallest."""
    known = np.asarray(list(values), np.float64)
    known = known[np.isfinite(known)]
    return bool(len(known) and far_apart(known.min(), known.max()))


def far_apart(lowest: np.ndarray, highest: np.ndarray) -> np.ndarray:
    """Return whether the lowest values are above 0 and the highest 100 times as large, for each pair (bool)."""
    return np.asarray((lowest > 0) & (highest > _WIDE * lowest))


def most_are_wide(values: np.ndarray) -> bool:
    """Return `is_wide` of all finite values ``(n,)`` but the smallest and the largest hundredth."""
    return bool(len(values)) and is_wide(np.quantile(values, _MOST))


def is_logarithmic(values: np.ndarray) -> bool:
    """Return whether finite values ``(n,)`` are positive and wide, and much nearer to normal in the logarithm."""
    if len(values) < _FEWEST or values.min() <= 0 or not most_are_wide(values):
        return False
    return _off_normal(np.log(values)) < _NEARER * _off_normal(values)


def _off_normal(values: np.ndarray) -> float:
    """Return 1 - r^2 of the line of a normal probability plot: 0 for a normal distribution (Shapiro and Francia)."""
    from scipy.special import ndtri  # here, as it takes long to import and few data ask for it

    scores = ndtri((np.arange(len(values)) + 0.5) / len(values))
    return float(1 - np.corrcoef(np.sort(values), scores)[0, 1] ** 2)

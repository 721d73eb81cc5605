"""What the tests of the kernels share: arrays to compute on, and derivatives to compare with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: Relative and absolute tolerance between a kernel and its reference: only the order of sums and the last bits of
#: elementary functions may differ.
TOLERANCE = {"float32": {"rtol": 2e-5, "atol": 2e-6}, "float64": {"rtol": 1e-12, "atol": 1e-13}}


def assert_matches_reference(got: np.ndarray, expected: np.ndarray) -> None:
    """Fail unless the arrays agree to the tolerance of their dtype, NaN and infinities included."""
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, **TOLERANCE[got.dtype.name])


def normal(rng: np.random.Generator, dtype: np.dtype, *shape: int) -> np.ndarray:
    """Standard normal numbers."""
    return rng.standard_normal(shape).astype(dtype)


def unset(dtype: np.dtype, *shape: int) -> np.ndarray:
    """An output that has not been written: NaN shows what a kernel forgot, or read."""
    return np.full(shape, np.nan, dtype)


def central_differences(function: Callable[[], float], x: np.ndarray, step: float = 1e-3) -> np.ndarray:
    """Gradient of a function of the float64 array x, which is changed in place, with an error of order step^4."""
    gradient = np.empty_like(x)
    for place in np.ndindex(*x.shape):
        start = x[place]
        values = []
        for shift in (-2, -1, 1, 2):
            x[place] = start + shift * step
            values.append(function())
        x[place] = start
        gradient[place] = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
    return gradient

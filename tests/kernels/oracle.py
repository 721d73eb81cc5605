"""What the tests of the kernels share: arrays to compute on, and derivatives to compare with."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

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


def in_turn(
    names: Sequence[str], cases: Iterable[Sequence[Any]]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a test all cases one after the other, as `pytest.mark.parametrize` gives them to tests of their own.

    For cases that take less time than what pytest does around a test.  The error of a case names it.
    """
    cases = list(cases)
    assert cases

    def decorated(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def of_all(**fixtures: Any) -> None:
            for case in cases:
                options = dict(zip(names, case, strict=True))
                try:
                    test(**fixtures, **options)
                except BaseException as error:
                    error.add_note(f"with {options}")
                    raise

        signature = inspect.signature(test)
        left = [each for name, each in signature.parameters.items() if name not in names]
        assert len(left) == len(signature.parameters) - len(names)
        of_all.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]
        return of_all

    return decorated


def assert_is_gradient(
    gradient: np.ndarray, function: Callable[[], float], x: np.ndarray, rng: np.random.Generator, step: float = 1e-3
) -> None:
    """Fail unless the gradient of a function of the float64 array x, which is changed in place, is this one.

    Slopes along a few random directions, which a wrong number at any place changes, against fourth-order differences:
    of a large array, far fewer calls than `central_differences` makes.
    """
    start = x.copy()
    for _ in range(4):
        direction, values = rng.uniform(-1, 1, x.shape), []
        for shift in (-2, -1, 1, 2):
            x[...] = start + shift * step * direction
            values.append(function())
        x[...] = start
        slope = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
        np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=1e-7, atol=1e-8)


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

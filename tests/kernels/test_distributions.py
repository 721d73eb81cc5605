"""Losses of several outputs for each target, and the predictions that outputs stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernels.oracle import TOLERANCE, assert_matches_reference, central_differences, normal, unset
from onotrain._kernels import Kernels, reference_distributions

LEVELS = [0.1, 0.25, 0.5, 0.9]
LOG_FLOOR = np.log(1e-3)
SHAPES = [(0, 3), (1, 1), (4, 0), (3, 2), (7, 10), (5, 257)]
#: Outputs for each target.
COUNT = {"pinball": len(LEVELS), "gaussian_nll": 2}

# name -> call of (kernels, logits, targets, row_weights, output_weights, weight, dlogits, loss_sums)
LOSSES: dict[str, Callable[..., None]] = {
    "pinball": lambda k, z, *a: k.pinball(z, *a[:3], np.array(LEVELS, z.dtype), *a[3:]),
    "gaussian_nll": lambda k, *a: k.gaussian_nll(*a[:4], LOG_FLOOR, *a[4:]),
}


def drawn(rng: np.random.Generator, dtype: Any, name: str, r: int, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and targets."""
    return normal(rng, dtype, r, t * COUNT[name]), normal(rng, dtype, r, t)


def run(k: Any, name: str, logits, targets, gradient=True, row_weights=None, output_weights=None):
    dlogits, loss_sums = unset(logits.dtype, *logits.shape) if gradient else None, np.array([2.0, 1.0])
    LOSSES[name](k, logits, targets, row_weights, output_weights, 0.25, dlogits, loss_sums)
    return dlogits, loss_sums


def check(k: Kernels, name: str, logits: np.ndarray, targets: np.ndarray, **weights: Any) -> None:
    """Compare a kernel with its reference, with and without gradient."""
    got, sums = run(k, name, logits, targets, **weights)
    expected, expected_sums = run(reference_distributions, name, logits, targets, **weights)
    assert_matches_reference(got, expected)
    np.testing.assert_allclose(sums, expected_sums, **TOLERANCE[k.dtype.name])
    np.testing.assert_array_equal(run(k, name, logits, targets, gradient=False, **weights)[1], sums)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("r", "t"), SHAPES)
@pytest.mark.parametrize("size", [1.0, 30.0])
def test_against_the_reference(
    kernels: Kernels, rng: np.random.Generator, name: str, r: int, t: int, size: float
) -> None:
    logits, targets = drawn(rng, kernels.dtype, name, r, t)
    if name == "gaussian_nll":  # its loss has exp(-s)
        logits[:, ::2] *= size
        logits[:, 1::2] *= min(size, 4.0)
    else:
        logits *= size
    check(kernels, name, logits, targets)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("r", "t"), SHAPES)
@pytest.mark.parametrize("weigh_rows", [False, True])
def test_weights_and_targets_that_are_missing(
    kernels: Kernels, rng: np.random.Generator, name: str, r: int, t: int, weigh_rows: bool
) -> None:
    """Each target's loss and gradient times its weight and that of its row; what is missing counts for nothing."""
    logits, whole = drawn(rng, kernels.dtype, name, r, t)
    targets = np.where(rng.random((r, t)) < 1 / 3, np.nan, whole).astype(kernels.dtype)
    each = rng.choice([0.0, 0.5, 1.0, 3.0], t).astype(kernels.dtype)
    rows = rng.choice([0.0, 0.5, 2.0], r).astype(kernels.dtype) if weigh_rows else None
    logits.reshape(r, t, COUNT[name])[:, each == 0] = np.nan  # does not show
    check(kernels, name, logits, targets, row_weights=rows, output_weights=each)
    got, _ = run(kernels, name, logits, targets, row_weights=rows, output_weights=each)
    plain, _ = run(kernels, name, np.nan_to_num(logits), whole)
    factors = np.where(np.isnan(targets), 0, each) * (1 if rows is None else rows[:, None])
    np.testing.assert_allclose(got, plain * factors.repeat(COUNT[name], axis=1), rtol=1e-5, atol=1e-6)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(r=st.integers(0, 9), t=st.integers(0, 20), seed=st.integers(0, 99), weights=st.sets(st.sampled_from("ro")))
@pytest.mark.parametrize("name", LOSSES)
def test_any_shape(kernels: Kernels, name: str, r: int, t: int, seed: int, weights: set[str]) -> None:
    rng = np.random.default_rng(seed)
    logits, targets = drawn(rng, kernels.dtype, name, r, t)
    check(
        kernels, name, logits, targets, row_weights=rng.random(r).astype(kernels.dtype) if "r" in weights else None,
        output_weights=rng.random(t).astype(kernels.dtype) if "o" in weights else None,
    )  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("r", "t"), [(1, 1), (4, 3)])
def test_gradients_are_those_of_the_loss(
    double_kernels: Kernels, rng: np.random.Generator, name: str, r: int, t: int, weighted: bool
) -> None:
    logits, targets = drawn(rng, np.float64, name, r, t)
    errors = logits - targets.repeat(COUNT[name], axis=1)
    logits[np.abs(errors) < 0.01] += 0.05  # not within a difference's reach of a kink
    weights = {"row_weights": rng.uniform(0.5, 2, r), "output_weights": rng.uniform(0, 3, t)} if weighted else {}

    def loss() -> float:
        return 0.25 * run(double_kernels, name, logits, targets, gradient=False, **weights)[1][0]

    gradient, _ = run(double_kernels, name, logits, targets, **weights)
    np.testing.assert_allclose(gradient, central_differences(loss, logits), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_what_is_not_finite(kernels: Kernels, rng: np.random.Generator, name: str, bad: float, place: int) -> None:
    """NaN shows in loss and gradient; no output makes a number of what is none in the reference."""
    logits, targets = drawn(rng, kernels.dtype, name, 2, 3)
    logits[0, place] = bad
    check(kernels, name, logits, targets)
    got, sums = run(kernels, name, logits, targets)
    least = name == "gaussian_nll" and place % 2 == 1 and bad == -np.inf  # is the least variance
    assert np.isfinite(sums[0]) == least
    assert np.isnan(got[0, place]) == np.isnan(bad)
    targets[1, 1] = np.nan
    assert np.isnan(run(kernels, name, logits, targets)[1][0])


def test_pinball_by_hand(kernels: Kernels) -> None:
    """Below the target its quantile counts, above it the rest, at it nothing pulls."""
    targets, levels, sums = np.array([[1.0]], kernels.dtype), np.array([0.25, 0.5, 0.9], kernels.dtype), np.zeros(2)
    dlogits = unset(kernels.dtype, 1, 3)
    kernels.pinball(np.array([[0.0, 1.0, 3.0]], kernels.dtype), targets, None, None, levels, 1.0, dlogits, sums)
    np.testing.assert_allclose(sums[0], 0.25 * 1 + 0 + 0.1 * 2, rtol=1e-6)
    np.testing.assert_allclose(dlogits, [[-0.25, 0.0, 0.1]], rtol=1e-6)


@pytest.mark.parametrize("s", [-1e4, -300.0, -20.0, 0.0, 50.0, 80.0, 300.0, 1e4])
def test_any_variance_is_finite(kernels: Kernels, s: float) -> None:
    """Also where exp(s) is 0 or infinite."""
    logits, targets = np.array([[0.5, s]], kernels.dtype), np.array([[0.25]], kernels.dtype)
    dlogits, sums = run(kernels, "gaussian_nll", logits, targets)
    log_variance = np.logaddexp(s, LOG_FLOOR)
    np.testing.assert_allclose(sums[0] - 2, (log_variance + 0.0625 * np.exp(-log_variance)) / 2, rtol=1e-5)
    assert np.isfinite(dlogits).all()


@pytest.mark.parametrize("name", ["exponential", "mean_and_deviation"])
@pytest.mark.parametrize(("r", "t"), SHAPES)
def test_predictions(kernels: Kernels, rng: np.random.Generator, name: str, r: int, t: int) -> None:
    own = (LOG_FLOOR,) if name == "mean_and_deviation" else ()
    logits = 5 * normal(rng, kernels.dtype, r, 2 * t)
    out, expected = unset(kernels.dtype, r, 2 * t), unset(kernels.dtype, r, 2 * t)
    getattr(kernels, name)(logits, *own, out)
    getattr(reference_distributions, name)(logits, *own, expected)
    assert_matches_reference(out, expected)
    if own:
        np.testing.assert_array_equal(out[:, ::2], logits[:, ::2])
        np.testing.assert_allclose(out[:, 1::2] ** 2, 1e-3 + np.exp(logits[:, 1::2]), rtol=2e-5)
    getattr(kernels, name)(logits, *own, logits)  # in place
    np.testing.assert_array_equal(logits, out)
    for k in (kernels, reference_distributions):
        with pytest.raises(ValueError):
            getattr(k, name)(logits, *own, np.zeros((r + 1, 2 * t), kernels.dtype))
    nan = np.full((1, 2), np.nan, kernels.dtype)
    getattr(kernels, name)(nan, *own, nan)
    assert np.isnan(nan).all()


@pytest.mark.parametrize("name", LOSSES)
def test_wrong_shapes_and_dtypes_are_refused(kernels: Kernels, rng: np.random.Generator, name: str) -> None:
    logits, targets = drawn(rng, kernels.dtype, name, 4, 3)
    right = [logits, targets, np.ones(4, kernels.dtype), np.ones(3, kernels.dtype), 1.0, logits.copy(), np.zeros(2)]
    wrong: dict[int, list[np.ndarray]] = {
        0: [logits[:, :-1].copy(), logits[:3].copy(), logits.astype(np.float16)],
        1: [targets[:3].copy(), targets[:, :2].copy(), targets.astype(np.int32)],
        2: [np.ones(3, kernels.dtype), np.ones(4, np.float16)],
        3: [np.ones(2, kernels.dtype), np.ones(logits.shape[1], kernels.dtype)],
        5: [logits[:, :-1].copy(), np.asfortranarray(logits)],
        6: [np.zeros(3), np.zeros(2, np.float32)],
    }
    for k in (kernels, reference_distributions):
        LOSSES[name](k, *right)
        for place, arrays in wrong.items():
            for array in arrays:
                with pytest.raises(ValueError):
                    LOSSES[name](k, *right[:place], array, *right[place + 1 :])


def test_no_quantiles_and_half_a_pair_are_refused(kernels: Kernels) -> None:
    empty, one, none = np.zeros((2, 0), kernels.dtype), np.zeros((2, 1), kernels.dtype), np.zeros(0, kernels.dtype)
    for k in (kernels, reference_distributions):
        with pytest.raises(ValueError, match="length of levels: got 0"):
            k.pinball(empty, one, None, None, none, 1.0, None, np.zeros(2))
        with pytest.raises(ValueError):
            k.mean_and_deviation(one, LOG_FLOOR, one)

"""Kernels of normalisations against their references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.oracle import assert_matches_reference, normal, unset
from onotrain import _kernels
from onotrain._kernels import Kernels, reference_norm

EPSILON = 1e-5
#: Samples, positions, channels: few channels and many, more than are gone through at a time, and none of the former.
SHAPES = [(0, 4, 6), (1, 1, 1), (3, 5, 2), (7, 1, 33), (4, 49, 6), (2, 23, 64), (5, 3, 300), (2, 2, 777), (3, 200, 1)]
#: Groups of these channels.
GROUPS = {6: 3, 1: 1, 2: 1, 33: 11, 64: 32, 300: 1, 777: 3}


def affine(rng: np.random.Generator, dtype: np.dtype, channels: int, given: bool) -> list[Any]:
    return [normal(rng, dtype, channels), normal(rng, dtype, channels)] if given else [None, None]


def of_groups(
    kernels: Any, x: np.ndarray, dy: np.ndarray, positions: int, groups: int, weight: Any, bias: Any, samples: Any
) -> list[np.ndarray]:
    """Return statistics, y, dx and, for so many samples, dweight and dbias."""
    sets = len(x) // positions
    statistics, y, dx = unset(np.dtype(float), sets, 2 * groups), unset(x.dtype, *x.shape), unset(x.dtype, *x.shape)
    parameters = [None, None] if samples is None else [unset(x.dtype, samples, x.shape[1]) for _ in range(2)]
    kernels.group_norm_forward(x, positions, groups, EPSILON, weight, bias, statistics, y)
    kernels.group_norm_backward(x, positions, groups, statistics, weight, dy, dx, *parameters)
    return [each for each in (statistics, y, dx, *parameters) if each is not None]


def of_batch(
    kernels: Any, x: np.ndarray, dy: np.ndarray, samples: int, weight: Any, bias: Any
) -> dict[str, np.ndarray]:
    """Return all that batch normalisation computes of a batch."""
    channels, count = x.shape[1], float(max(2, len(x)))
    double = np.dtype(np.float64)
    sums, dsums = unset(double, samples, 2 * channels), unset(double, samples, 2 * channels)
    total, dtotal = unset(double, 2 * channels), unset(double, 2 * channels)
    y, dx, predicted = (unset(x.dtype, *x.shape) for _ in range(3))
    of_sample = {name: unset(x.dtype, samples, channels) for name in ("dweight", "dbias", "dmean", "dvariance")}
    running = np.linspace(-1, 1, channels).astype(x.dtype), np.linspace(0.5, 2, channels).astype(x.dtype)
    kernels.batch_norm_sums(x, sums)
    kernels.sum_rows(sums, False, total)
    kernels.batch_norm_forward(x, total, count, EPSILON, weight, bias, y)
    kernels.batch_norm_backward_sums(x, total, count, EPSILON, dy, dsums, of_sample["dweight"], of_sample["dbias"])
    kernels.sum_rows(dsums, False, dtotal)
    kernels.batch_norm_backward(x, total, dtotal, count, EPSILON, weight, dy, dx)
    kernels.batch_norm_running(*running, total, count, 0.3, of_sample["dmean"], of_sample["dvariance"])
    kernels.batch_norm_predict(x, running[0], running[1], EPSILON, weight, bias, predicted)
    return {"sums": sums, "dsums": dsums, "y": y, "dx": dx, "predicted": predicted, **of_sample}


@pytest.mark.parametrize("with_affine", [True, False])
@pytest.mark.parametrize(("r", "p", "c"), SHAPES)
def test_groups_against_the_reference(
    kernels: Kernels, rng: np.random.Generator, r: int, p: int, c: int, with_affine: bool
) -> None:
    """Groups over all positions of a sample, and the channels of each position by themselves."""
    x, dy = 2 + normal(rng, kernels.dtype, r * p, c), normal(rng, kernels.dtype, r * p, c)
    weight, bias = affine(rng, kernels.dtype, c, with_affine)
    for positions, groups in ((p, GROUPS[c]), (1, 1), (p, 1), (1, c)):
        arguments = x, dy, positions, groups, weight, bias, r if with_affine else None
        got, expected = of_groups(kernels, *arguments), of_groups(reference_norm, *arguments)
        # Of a variance of 0, a division by sqrt(epsilon) makes much of roundings.
        alone = 1 / np.sqrt(EPSILON) if positions * c == groups else 1.0
        for number, (mine, theirs) in enumerate(zip(got, expected, strict=True)):
            # Of sums over positions, too.
            scale = theirs.dtype.type(max(alone if number == 2 else 1.0, np.abs(theirs).max(initial=0)))
            assert_matches_reference(mine / scale, theirs / scale)
        predicted = unset(kernels.dtype, r * p, c)
        kernels.group_norm_forward(x, positions, groups, EPSILON, weight, bias, None, predicted)
        np.testing.assert_array_equal(predicted, got[1])
        # Without the gradient by x.
        dweight, dbias = unset(kernels.dtype, r, c), unset(kernels.dtype, r, c)
        kernels.group_norm_backward(x, positions, groups, got[0], weight, dy, None, dweight, dbias)
        if with_affine:
            np.testing.assert_array_equal(dweight, got[3])
            np.testing.assert_array_equal(dbias, got[4])


@pytest.mark.parametrize("with_affine", [True, False])
@pytest.mark.parametrize(("r", "p", "c"), SHAPES)
def test_batches_against_the_reference(
    kernels: Kernels, rng: np.random.Generator, r: int, p: int, c: int, with_affine: bool
) -> None:
    x, dy = 2 + normal(rng, kernels.dtype, r * p, c), normal(rng, kernels.dtype, r * p, c)
    arguments = x, dy, r, *affine(rng, kernels.dtype, c, with_affine)
    got, expected = of_batch(kernels, *arguments), of_batch(reference_norm, *arguments)
    for name, theirs in expected.items():
        scale = max(1.0, np.abs(theirs).max(initial=0))
        if r * p == 1 and name == "dx":  # 0, but for what a division by sqrt(epsilon) makes of roundings
            scale *= 1 / np.sqrt(EPSILON)
        np.testing.assert_allclose(
            got[name] / scale, theirs / scale, rtol=0, atol=3e-6 if kernels.dtype == np.float32 else 1e-12, err_msg=name
        )


@given(
    st.sampled_from(_kernels.available()[:-1]), st.integers(0, 5), st.integers(1, 40), st.integers(1, 9),
    st.integers(1, 300), st.integers(0, 2**32),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_any_shape(build: str, r: int, p: int, g: int, size: int, seed: int) -> None:
    """In float64, of groups and of batches."""
    kernels, rng = _kernels.load("float64", build), np.random.default_rng(seed)
    c = g * size
    x, dy = normal(rng, kernels.dtype, r * p, c), normal(rng, kernels.dtype, r * p, c)
    weight, bias = affine(rng, kernels.dtype, c, True)
    # A variance near 0 makes much of roundings.
    tolerance = {"rtol": 1e-9, "atol": 1e-9}
    for positions in (1, p):
        arguments = x, dy, positions, g, weight, bias, r
        for mine, theirs in zip(of_groups(kernels, *arguments), of_groups(reference_norm, *arguments), strict=True):
            np.testing.assert_allclose(mine, theirs, **tolerance)
    got, expected = of_batch(kernels, x, dy, r, weight, bias), of_batch(reference_norm, x, dy, r, weight, bias)
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], err_msg=name, **tolerance)


@pytest.mark.parametrize("far", [1e4, -1e6])
def test_values_far_from_zero_lose_nothing(kernels: Kernels, rng: np.random.Generator, far: float) -> None:
    """Mean far above the standard deviation.

    What the variance of a batch loses by a factor of the mean's square is less than what rounding of the values does.
    """
    x = (far + normal(rng, np.dtype(np.float64), 64 * 9, 8)).astype(kernels.dtype)
    exact = x.astype(np.float64)
    expected = (exact - exact.mean(axis=0)) / np.sqrt(exact.var(axis=0) + EPSILON)
    tolerance = 4e-15 * far * far + (1e-6 if kernels.dtype == np.float32 else 1e-12)
    if kernels.dtype == np.float32:
        assert tolerance < np.finfo(np.float32).eps * abs(far)
    np.testing.assert_allclose(of_batch(kernels, x, x, 64, None, None)["y"], expected, rtol=0, atol=tolerance)
    expected = (exact - exact.mean(axis=1, keepdims=True)) / np.sqrt(exact.var(axis=1, keepdims=True) + EPSILON)
    y = of_groups(kernels, x, x, 1, 1, None, None, None)[1]
    np.testing.assert_allclose(y, expected, rtol=0, atol=2e-6 if kernels.dtype == np.float32 else 1e-9)


def test_constant_values_become_zero(kernels: Kernels) -> None:
    """Not what rounding has left of them, divided by the root of epsilon."""
    x = np.full((12, 5), 1 / 3, kernels.dtype)
    np.testing.assert_allclose(of_groups(kernels, x, x, 4, 1, None, None, None)[1], 0, atol=1e-6)
    np.testing.assert_allclose(of_batch(kernels, x, x, 3, None, None)["y"], 0, atol=1e-6)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_spread_as_far_as_the_moments(
    kernels: Kernels, rng: np.random.Generator, wrong: float
) -> None:
    """To all values that are normalised with the wrong one, and to no other."""
    x, dy = normal(rng, kernels.dtype, 6 * 4, 10), normal(rng, kernels.dtype, 6 * 4, 10)
    x[5, 3] = wrong  # of sample 1
    _, y, dx, dweight, _ = of_groups(kernels, x, dy, 4, 2, None, None, 6)
    expected = np.zeros((24, 10), bool)
    expected[4:8, :5] = True
    for array in (y, dx):
        np.testing.assert_array_equal(np.isnan(array), expected)
    np.testing.assert_array_equal(np.isnan(dweight), expected[::4])
    found = of_batch(kernels, x, dy, 6, None, None)
    for name in ("y", "dx", "dmean", "dvariance"):
        bad = ~np.isfinite(found[name])
        assert bad[:, 3].all() and bad.sum() == len(bad), name
    assert np.isfinite(found["predicted"]).sum() == 239
    dy[0, 0] = wrong
    assert not np.isfinite(of_batch(kernels, normal(rng, kernels.dtype, 24, 10), dy, 6, None, None)["dx"][:, 0]).any()


def test_sums_of_rows(kernels: Kernels, rng: np.random.Generator) -> None:
    """Of both dtypes, whatever that of the network is: sums over batches are float64."""
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        for r, i in ((0, 3), (1, 1), (9, 5), (4, 700)):
            x, start = normal(rng, dtype, r, i), normal(rng, dtype, i)
            out = unset(dtype, i)
            kernels.sum_rows(x, False, out)
            assert_matches_reference(out, x.sum(axis=0, dtype=np.float64).astype(dtype))
            out = start.copy()
            kernels.sum_rows(x, True, out)
            assert_matches_reference(out, (x.sum(axis=0, dtype=np.float64) + start).astype(dtype))


def test_wrong_shapes_are_refused(kernels: Kernels) -> None:
    def made(*shape: int) -> np.ndarray:
        return np.ones(shape, kernels.dtype)

    def double(*shape: int) -> np.ndarray:
        return np.ones(shape)

    x, two = made(6, 4), double(8)
    refused = [
        ("group_norm_forward", (x, 4, 2, EPSILON, None, None, None, made(6, 4)), "positions: got 4"),
        ("group_norm_forward", (x, 0, 2, EPSILON, None, None, None, made(6, 4)), "positions: got 0"),
        ("group_norm_forward", (x, 3, 3, EPSILON, None, None, None, made(6, 4)), "groups: got 3"),
        ("group_norm_forward", (x, 3, 8, EPSILON, None, None, None, made(6, 4)), "groups: got 8"),
        ("group_norm_forward", (x, 3, 2, EPSILON, made(3), None, None, made(6, 4)), "weight"),
        ("group_norm_forward", (x, 3, 2, EPSILON, None, None, double(2, 2), made(6, 4)), "statistics"),
        ("group_norm_forward", (x, 3, 2, EPSILON, None, None, None, made(6, 5)), "y"),
        ("group_norm_backward", (x, 3, 2, double(2, 4), None, x, None, made(2, 4), None), "both or none"),
        ("group_norm_backward", (x, 3, 2, double(2, 4), None, made(5, 4), None, None, None), "dy"),
        ("group_norm_backward", (x, 1, 2, double(6, 4), None, x, None, made(4, 4), made(4, 4)), "got 6, expected 4|dy"),
        ("batch_norm_sums", (x, double(4, 8)), "x: got|rows of x"),
        ("batch_norm_sums", (x, double(3, 4)), "sums"),
        ("batch_norm_forward", (x, double(6), 6.0, EPSILON, None, None, made(6, 4)), "sums"),
        ("batch_norm_forward", (x, two, 6.0, EPSILON, None, made(5), made(6, 4)), "bias"),
        ("batch_norm_predict", (x, None, made(3), EPSILON, None, None, made(6, 4)), "variance"),
        ("batch_norm_backward_sums", (x, two, 6.0, EPSILON, x, double(3, 8), made(3, 4), None), "both or none"),
        ("batch_norm_backward_sums", (x, two, 6.0, EPSILON, x, double(3, 8), made(2, 4), made(3, 4)), "dweight"),
        ("batch_norm_backward", (x, two, double(4), 6.0, EPSILON, None, x, made(6, 4)), "dsums"),
        ("batch_norm_running", (made(4), made(3), two, 6.0, 0.1, made(3, 4), made(3, 4)), "variance"),
        ("batch_norm_running", (made(4), made(4), two, 6.0, 0.1, made(3, 4), made(2, 4)), "dvariance"),
        ("sum_rows", (x, False, made(3)), "out"),
    ]  # fmt: skip
    for name, arguments, match in refused:
        with pytest.raises(ValueError, match=match):
            getattr(kernels, name)(*arguments)

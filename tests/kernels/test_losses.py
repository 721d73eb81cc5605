from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from kernels.oracle import TOLERANCE, assert_matches_reference, central_differences, in_turn, normal, unset
from onotrain._kernels import Kernels
from onotrain._kernels import reference_losses as reference

SHAPES = [(0, 3), (1, 1), (3, 2), (7, 10), (16, 64), (5, 257), (2, 1000)]

# name -> call of (kernels, logits, targets, row_weights, output_weights, weight, dlogits, loss_sums)
LOSSES: dict[str, Callable] = {
    "softmax": lambda k, *a: k.softmax_cross_entropy(*a[:3], 0.0, *a[4:]),
    "smoothed": lambda k, *a: k.softmax_cross_entropy(*a[:3], 0.1, *a[4:]),
    "binary": lambda k, *a: k.binary_cross_entropy(*a),
    "squared": lambda k, *a: k.squared_error(*a),
    "absolute": lambda k, *a: k.absolute_error(*a),
    "huber": lambda k, *a: k.huber(*a[:4], 0.7, *a[4:]),
    "log_cosh": lambda k, *a: k.log_cosh(*a),
    "poisson": lambda k, *a: k.poisson(*a),
}
#: Those whose outputs are independent of each other.
BY_OUTPUT = ["binary", "squared", "absolute", "huber", "log_cosh", "poisson"]


def targets_of(name: str, rng: np.random.Generator, dtype: np.dtype, r: int, o: int) -> np.ndarray:
    if name in ("softmax", "smoothed"):
        return rng.integers(0, o, r).astype(np.int32)
    if name == "binary":
        return rng.random((r, o)).round(1).astype(dtype)
    if name == "poisson":
        return rng.poisson(2.0, (r, o)).astype(dtype)
    return normal(rng, dtype, r, o)


def run(k: Kernels, name: str, logits, targets, weight=0.25, gradient=True, row_weights=None, output_weights=None):
    dlogits = unset(logits.dtype, *logits.shape) if gradient else None
    loss_sums = np.array([2.0, 1.0])
    LOSSES[name](k, logits, targets, row_weights, output_weights, weight, dlogits, loss_sums)
    return dlogits, loss_sums


@pytest.mark.parametrize("name", LOSSES)
@in_turn(("r", "o"), SHAPES)
@pytest.mark.parametrize("size", [1.0, 30.0])
def test_against_the_reference(compiled, rng, name, r, o, size):
    kernels = compiled
    logits = (size * normal(rng, kernels.dtype, r, o)).astype(kernels.dtype)
    targets = targets_of(name, rng, kernels.dtype, r, o)
    got, loss_sums = run(kernels, name, logits, targets)
    expected, expected_sums = run(reference, name, logits, targets)
    assert_matches_reference(got, expected)
    np.testing.assert_allclose(loss_sums, expected_sums, **TOLERANCE[kernels.dtype.name])
    _, alone = run(kernels, name, logits, targets, gradient=False)
    np.testing.assert_allclose(alone, loss_sums, rtol=1e-13)


@pytest.mark.parametrize("name", LOSSES)
@in_turn(("r", "o"), SHAPES)
def test_weights_of_rows(kernels, rng, name, r, o):
    """Each row's loss and gradient times its weight; whether it is right does not depend on what it weighs."""
    logits, targets = normal(rng, kernels.dtype, r, o), targets_of(name, rng, kernels.dtype, r, o)
    weights = rng.choice([0.0, 0.5, 1.0, 3.0], r).astype(kernels.dtype)
    got, loss_sums = run(kernels, name, logits, targets, row_weights=weights)
    assert_matches_reference(got, run(reference, name, logits, targets, row_weights=weights)[0])
    plain, sums = run(kernels, name, logits, targets)
    assert_matches_reference(got, plain * weights[:, None])
    each = [run(kernels, name, logits[q : q + 1], targets[q : q + 1])[1][0] - 2 for q in range(r)]
    np.testing.assert_allclose(loss_sums, [2 + np.dot(each, weights), sums[1]], rtol=1e-6)
    for k in (kernels, reference):
        alone = run(k, name, logits, targets, gradient=False, row_weights=weights)[1]
        np.testing.assert_allclose(alone, loss_sums, **TOLERANCE[kernels.dtype.name])
    ones, sums_of_ones = run(kernels, name, logits, targets, row_weights=np.ones(r, kernels.dtype))
    np.testing.assert_array_equal(ones, plain)
    np.testing.assert_allclose(sums_of_ones, sums, rtol=1e-12)


def some_missing(rng: np.random.Generator, targets: np.ndarray) -> np.ndarray:
    """Return targets a third of which is NaN."""
    return np.where(rng.random(targets.shape) < 1 / 3, np.nan, targets).astype(targets.dtype)


@pytest.mark.parametrize("name", BY_OUTPUT)
@pytest.mark.parametrize("weigh_rows", [False, True])
@in_turn(("r", "o"), [*SHAPES, (3, 700)])
def test_weights_of_outputs_and_targets_that_are_missing(kernels, rng, name, weigh_rows, r, o):
    """Each output's loss and gradient times its weight; what is not measured, or of weight 0, counts for nothing."""
    logits, whole = normal(rng, kernels.dtype, r, o), targets_of(name, rng, kernels.dtype, r, o)
    targets = some_missing(rng, whole)
    outputs = rng.choice([0.0, 0.5, 1.0, 3.0], o).astype(kernels.dtype)
    logits[:, outputs == 0] = np.nan  # does not show
    rows = rng.choice([0.5, 2.0], r).astype(kernels.dtype) if weigh_rows else None
    options = {"row_weights": rows, "output_weights": outputs}
    got, loss_sums = run(kernels, name, logits, targets, **options)
    expected, expected_sums = run(reference, name, logits, targets, **options)
    assert_matches_reference(got, expected)
    np.testing.assert_allclose(loss_sums, expected_sums, **TOLERANCE[kernels.dtype.name])
    alone = run(kernels, name, logits, targets, gradient=False, **options)[1]
    np.testing.assert_allclose(alone, loss_sums, rtol=1e-13)

    measured, each = ~np.isnan(targets), np.ones(r) if rows is None else rows
    plain, _ = run(kernels, name, np.nan_to_num(logits), whole)
    np.testing.assert_allclose(got, plain * np.where(measured, outputs, 0) * each[:, None], rtol=1e-5, atol=1e-6)
    total = 0.0
    for row, weight in itertools.product(range(r), (0.5, 1.0, 3.0)):
        alike = measured[row] & (outputs == weight)
        total += each[row] * weight * (run(kernels, name, logits[[row]][:, alike], targets[[row]][:, alike])[1][0] - 2)
    np.testing.assert_allclose(loss_sums[0] - 2, total, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", BY_OUTPUT)
def test_outputs_of_weight_one_are_as_without_weights(kernels, rng, name):
    logits, targets = normal(rng, kernels.dtype, 5, 40), targets_of(name, rng, kernels.dtype, 5, 40)
    got, sums = run(kernels, name, logits, targets, output_weights=np.ones(40, kernels.dtype))
    plain, plain_sums = run(kernels, name, logits, targets)
    np.testing.assert_array_equal(got, plain)
    np.testing.assert_allclose(sums, plain_sums, rtol=1e-12)


@pytest.mark.parametrize("name", BY_OUTPUT)
def test_a_missing_target_shows_where_outputs_have_no_weights(kernels, name):
    targets = np.array([[0.0, np.nan]], kernels.dtype)
    assert np.isnan(run(kernels, name, np.zeros_like(targets), targets)[1][0])


@pytest.mark.parametrize("name", BY_OUTPUT)
def test_a_logit_that_is_not_finite_shows_where_its_target_is_measured(kernels, name):
    logits, ones = np.array([[np.nan, 0.0]], kernels.dtype), np.ones(2, kernels.dtype)
    for targets, seen in (([[1.0, np.nan]], True), ([[np.nan, 1.0]], False)):
        got, sums = run(kernels, name, logits, np.array(targets, kernels.dtype), output_weights=ones)
        assert np.isnan(sums[0]) == np.isnan(got).any() == seen


@pytest.mark.parametrize("name", BY_OUTPUT)
def test_gradients_of_weighted_outputs_are_those_of_the_loss(double_kernels, rng, name):
    logits, targets = normal(rng, np.float64, 4, 5), targets_of(name, rng, np.float64, 4, 5)
    targets = some_missing(rng, targets)
    options = {"row_weights": rng.uniform(0.5, 2, 4), "output_weights": rng.uniform(0, 3, 5)}
    for kink in (0.0, 0.7, -0.7):
        logits[abs(logits - targets - kink) < 0.01] += 0.05

    def loss() -> float:
        return 0.25 * run(double_kernels, name, logits, targets, gradient=False, **options)[1][0]

    gradient, _ = run(double_kernels, name, logits, targets, **options)
    np.testing.assert_allclose(gradient, central_differences(loss, logits), rtol=1e-6, atol=1e-6)


def test_rows_count_by_the_part_of_what_is_measured(kernels):
    logits = np.array([[1, -1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1]], kernels.dtype)
    targets = np.array([[1, np.nan, 0, 0], [np.nan, np.nan, np.nan, 1], [np.nan] * 4], kernels.dtype)
    for k in (kernels, reference):
        _, sums = run(k, "binary", logits, targets, output_weights=np.array([1, 1, 1, 5], kernels.dtype))
        assert sums[1] == pytest.approx(1 + 2 / 3 + 1 + 0)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("r", "o"), [(1, 1), (4, 3), (3, 17)])
def test_gradients_are_those_of_the_loss(double_kernels, rng, name, r, o, weighted):
    weights = rng.uniform(0.0, 3.0, r) if weighted else None
    logits, targets = normal(rng, np.float64, r, o), targets_of(name, rng, np.float64, r, o)
    if name in ("absolute", "huber"):  # not within a difference's reach of a kink
        error = logits - targets
        for kink in (0.0, 0.7, -0.7):
            logits[abs(error - kink) < 0.01] += 0.05

    def loss() -> float:
        return 0.25 * run(double_kernels, name, logits, targets, gradient=False, row_weights=weights)[1][0]

    gradient, _ = run(double_kernels, name, logits, targets, row_weights=weights)
    np.testing.assert_allclose(gradient, central_differences(loss, logits), rtol=1e-6, atol=1e-6)


def test_cross_entropy_of_known_probabilities(kernels):
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.5, 0.25, 0.25]], kernels.dtype))
    dlogits, loss_sums = run(kernels, "softmax", logits, np.array([0, 2], np.int32), weight=0.5)
    np.testing.assert_allclose(loss_sums, [2 - np.log(0.7) - np.log(0.25), 1 + 1], rtol=1e-6)
    np.testing.assert_allclose(dlogits, [[-0.15, 0.1, 0.05], [0.25, 0.125, -0.375]], atol=1e-7)


def test_of_equal_logits_the_first_wins(kernels):
    logits = np.array([[1, 2, 2], [2, 2, 1], [3, 3, 3]], kernels.dtype)
    _, loss_sums = run(kernels, "softmax", logits, np.array([1, 1, 0], np.int32))
    assert loss_sums[1] == 1 + 2


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "poisson"])  # whose loss is as large as that
def test_huge_logits_do_not_overflow(kernels, rng, name):
    logits = np.array([[1e4, -1e4, 0.0]], kernels.dtype)
    targets = np.array([1], np.int32) if name in ("softmax", "smoothed") else np.zeros((1, 3), kernels.dtype)
    dlogits, loss_sums = run(kernels, name, logits, targets)
    assert np.isfinite(dlogits).all() and np.isfinite(loss_sums).all()


@pytest.mark.parametrize("name", LOSSES)
@in_turn(("bad", "place"), itertools.product([np.nan, np.inf], [0, 1, 2]))
def test_what_is_not_finite_shows_in_the_loss(kernels, name, bad, place):
    logits = np.zeros((1, 3), kernels.dtype)
    logits[0, place] = bad
    targets = np.array([1], np.int32) if name in ("softmax", "smoothed") else np.zeros((1, 3), kernels.dtype)
    dlogits, loss_sums = run(kernels, name, logits, targets)
    assert not np.isfinite(loss_sums[0])
    if np.isnan(bad):
        assert np.isnan(dlogits[0, place])
        if name in ("softmax", "smoothed"):
            assert np.isnan(dlogits).all() and loss_sums[1] == 1  # NaN is never right
    expected, expected_sums = run(reference, name, logits, targets)
    np.testing.assert_array_equal(dlogits, expected)
    np.testing.assert_array_equal(loss_sums, expected_sums)


def test_an_impossible_class_costs_nothing_unless_it_is_the_target(kernels):
    logits = np.array([[0.0, -np.inf]], kernels.dtype)
    assert run(kernels, "softmax", logits, np.array([0], np.int32))[1][0] == 2
    assert run(kernels, "softmax", logits, np.array([1], np.int32))[1][0] == np.inf


def test_kinks(kernels):
    """Slope 0 of the absolute error at 0; huber meets itself at delta."""
    zero = np.zeros((1, 2), kernels.dtype)
    assert not run(kernels, "absolute", zero, zero)[0].any()
    error = np.array([[0.7, -0.7, 0.0]], kernels.dtype)
    dlogits, loss_sums = run(kernels, "huber", error, np.zeros_like(error), weight=1.0)
    np.testing.assert_allclose(dlogits, error, rtol=1e-6)
    np.testing.assert_allclose(loss_sums[0], 2 + 0.49, rtol=1e-6)


def test_log_cosh_keeps_the_digits_of_small_errors(kernels):
    """``|e| + log(1 + exp(-2 |e|)) - log(2)`` alone would have none left."""
    tiny = 1e-4 if kernels.dtype == np.float32 else 1e-8
    for size in (tiny, 30 * tiny, 0.1, 0.8, 0.9, 3.0):
        loss_sums = np.zeros(2)
        error = np.full((1, 1), size, kernels.dtype)
        kernels.log_cosh(error, np.zeros_like(error), None, None, 1.0, None, loss_sums)
        exact = np.log1p(2 * np.sinh(float(error[0, 0]) / 2) ** 2)
        np.testing.assert_allclose(loss_sums[0], exact, rtol=1e-6 if kernels.dtype == np.float32 else 1e-14)


def test_poisson_is_least_at_the_logarithm_of_the_count(kernels):
    counts = np.array([[1.0, 4.0, 20.0]], kernels.dtype)
    dlogits, loss_sums = run(kernels, "poisson", np.log(counts), counts)
    np.testing.assert_allclose(dlogits, 0, atol=2e-6)
    np.testing.assert_allclose(loss_sums[0] - 2, (counts - np.log(counts) * counts).sum(), rtol=1e-6)


def test_binary_rows_count_by_the_part_that_is_right(kernels):
    logits = np.array([[1, -1, 1, 0], [1, 1, 1, 1]], kernels.dtype)
    targets = np.array([[1, 0, 0, 0], [1, 1, 1, 1]], kernels.dtype)
    assert run(kernels, "binary", logits, targets)[1][1] == 1 + 0.75 + 1


def test_the_sum_of_many_small_losses_does_not_drift(kernels):
    """A float32 sum of a million equal terms would be wrong in the fourth digit."""
    logits = np.full((1000, 1000), np.sqrt(0.1), kernels.dtype)
    loss_sums = np.zeros(2)
    kernels.squared_error(logits, np.zeros_like(logits), None, None, 1.0, None, loss_sums)
    np.testing.assert_allclose(loss_sums[0], 1e6 * float(logits[0, 0]) ** 2, rtol=1e-7)


@pytest.mark.parametrize("bad", [-1, 3])
@pytest.mark.parametrize("gradient", [True, False])
def test_a_class_outside_the_logits_is_refused_before_anything_is_written(kernels, bad, gradient):
    dlogits, loss_sums = unset(kernels.dtype, 2, 3) if gradient else None, np.zeros(2)
    logits, targets = np.zeros((2, 3), kernels.dtype), np.array([0, bad], np.int32)
    with pytest.raises(IndexError, match=rf"targets\[1\]: got {bad}"):
        kernels.softmax_cross_entropy(logits, targets, None, 0.0, 1.0, dlogits, loss_sums)
    assert not loss_sums.any() and (dlogits is None or np.isnan(dlogits).all())


@pytest.mark.parametrize("name", LOSSES)
def test_wrong_shapes_and_dtypes_are_refused(kernels, rng, name):
    targets = targets_of(name, rng, kernels.dtype, 4, 3)
    dlogits, weights = np.zeros((4, 3), kernels.dtype), np.ones(4, kernels.dtype)
    outputs = np.ones(3, kernels.dtype)
    right = [np.zeros((4, 3), kernels.dtype), targets, weights, outputs, 1.0, dlogits, np.zeros(2)]
    LOSSES[name](kernels, *right)
    wrong = {
        0: [np.zeros((5, 3), kernels.dtype), np.zeros((4, 3), np.float16), np.zeros((4, 6), kernels.dtype)[:, ::2]],
        1: [targets[:3], targets.astype(np.int64)],
        2: [weights[:3], np.ones(4, np.float16), np.ones((4, 1), kernels.dtype), np.ones(8, kernels.dtype)[::2]],
        3: [outputs[:2], np.ones(3, np.float16), np.ones(6, kernels.dtype)[::2]] if name in BY_OUTPUT else [],
        5: [np.zeros((4, 4), kernels.dtype), np.zeros((3, 3), kernels.dtype), np.zeros((3, 4), kernels.dtype).T],
        6: [np.zeros(3), np.zeros(2, np.float32)],
    }
    for place, arrays in wrong.items():
        for array in arrays:
            with pytest.raises(ValueError):
                LOSSES[name](kernels, *right[:place], array, *right[place + 1 :])


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
@pytest.mark.parametrize(("r", "o"), SHAPES)
def test_probabilities(kernels, rng, name, r, o):
    logits = (20 * normal(rng, kernels.dtype, r, o)).astype(kernels.dtype)
    out, expected = unset(kernels.dtype, r, o), unset(kernels.dtype, r, o)
    getattr(kernels, name)(logits, out)
    getattr(reference, name)(logits, expected)
    assert_matches_reference(out, expected)
    if name == "softmax":
        np.testing.assert_allclose(out.sum(axis=1), np.ones(r), rtol=1e-5)
    getattr(kernels, name)(logits, logits)  # in place
    np.testing.assert_array_equal(logits, out)
    with pytest.raises(ValueError):
        getattr(kernels, name)(logits, np.zeros((r + 1, o), kernels.dtype))


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_probabilities_of_nan_are_nan(kernels, name):
    out = np.zeros((1, 2), kernels.dtype)
    getattr(kernels, name)(np.array([[0.0, np.nan]], kernels.dtype), out)
    assert np.isnan(out[0, 1])

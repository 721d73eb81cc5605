"""Outer optimisers of local SGD, against their formulas in float64."""

from __future__ import annotations

import numpy as np
import pytest

from builders import config
from onotrain.strategies.blocks import BLOCK
from onotrain.strategies.local_sgd.outer import OUTERS, Adam, Average, Nesterov, Outer

# One piece, exactly one, one and a bit, several.
SIZES = [1, BLOCK, BLOCK + 1, 3 * BLOCK + 17]


def vectors(size: int, dtype: str, seed: int) -> np.ndarray:
    """Return parameters of very different magnitudes."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=size) * 10.0 ** rng.integers(-6, 3, size)).astype(dtype)


def run(outer: Outer, size: int, dtype: str, periods: int, begin: int = 0) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the parameters after some periods, in each of which the ranks' mean moves elsewhere; and all means."""
    parameters = vectors(size, dtype, 0)
    start = parameters.copy()
    means = []
    for period in range(periods):
        parameters *= 0.9
        parameters += vectors(size, dtype, begin + period + 1)
        means.append(parameters.copy())
        outer.step(start, parameters)
        np.testing.assert_array_equal(start, parameters)
    return parameters, means


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES)
def test_nesterov_with_rate_1_and_no_momentum_is_the_mean_exactly(size: int, dtype: str) -> None:
    """Not to rounding: start - (start - mean) would be another number in most places."""
    plain, _ = run(Average(), size, dtype, 3)
    diloco, means = run(Nesterov(size, dtype, 1.0, 0.0), size, dtype, 3)
    np.testing.assert_array_equal(diloco, plain)
    np.testing.assert_array_equal(plain, means[-1])
    start = vectors(size, dtype, 0)
    assert size == 1 or np.any(start - (start - means[0]) != means[0])


@pytest.mark.parametrize("size", SIZES)
def test_nesterov_is_its_formula(size: int) -> None:
    """``u = mu u + delta; w = start - lr (delta + mu u)``, over periods."""
    w, means = run(Nesterov(size, "float64", 0.7, 0.9), size, "float64", 4)
    start, u = vectors(size, "float64", 0), np.zeros(size)
    for mean in means:
        delta = start - mean
        u = 0.9 * u + delta
        start = start - 0.7 * (delta + 0.9 * u)
    np.testing.assert_allclose(w, start, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_adam_is_its_formula(size: int) -> None:
    """FedAdam without bias correction, second moment from tau squared."""
    w, means = run(Adam(size, "float64", 0.05, (0.8, 0.95), 1e-2), size, "float64", 4)
    start, m, v = vectors(size, "float64", 0), np.zeros(size), np.full(size, 1e-4)
    for mean in means:
        delta = start - mean
        m = 0.8 * m + 0.2 * delta
        v = 0.95 * v + 0.05 * delta**2
        start = start - 0.05 * m / (np.sqrt(v) + 1e-2)
    np.testing.assert_allclose(w, start, rtol=1e-12, atol=1e-12)


def test_adam_goes_the_way_the_ranks_went() -> None:
    """A sign that is wrong would lead away from the mean."""
    start, parameters = np.array([1.0, 1.0, 1.0]), np.array([2.0, 0.0, 1.0])
    Adam(3, "float64", 0.01, (0.9, 0.99), 1e-3).step(start, parameters)
    assert parameters[0] > 1.0 > parameters[1] and parameters[2] == 1.0


OPTIONS = {
    name: config(strategy={"name": "local_sgd", "outer": {"name": name, **more}}).strategy.outer
    for name, more in {"none": {}, "nesterov": {"momentum": 0.8}, "adam": {"learning_rate": 0.5}}.items()
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(OUTERS))
def test_a_resumed_outer_step_is_the_same_to_the_bit(name: str, dtype: str) -> None:
    """All state is in the named vectors, which have the parameters' dtype and are written in place to restore."""
    size = BLOCK + 5
    whole, first, second = (OUTERS[name](OPTIONS[name], size, dtype) for _ in range(3))
    run(whole, size, dtype, 3)
    run(first, size, dtype, 3)
    for key, vector in second.state().items():
        assert vector.dtype == dtype and vector.shape == (size,)
        vector[:] = first.state()[key]
    np.testing.assert_array_equal(run(second, size, dtype, 2, 7)[0], run(whole, size, dtype, 2, 7)[0])


@pytest.mark.parametrize(("name", "state"), [("none", set()), ("nesterov", {"velocity"}), ("adam", {"m", "v"})])
def test_names_of_the_state(name: str, state: set[str]) -> None:
    """Checkpoints depend on them."""
    assert set(OUTERS[name](OPTIONS[name], 3, "float32").state()) == state


@pytest.mark.parametrize("name", sorted(OUTERS))
def test_the_gaps_of_the_flat_vector_stay_zero(name: str) -> None:
    """They hold zeros on all ranks."""
    outer = OUTERS[name](OPTIONS[name], 4, "float32")
    for _ in range(3):
        start, parameters = np.array([[1, 0, 2, 0], [3, 0, 1, 0]], "float32")
        outer.step(start, parameters)
        assert parameters[[1, 3]].tolist() == [0.0, 0.0] and parameters[0] != 0.0


@pytest.mark.parametrize(("name", "key"), [("nesterov", "velocity"), ("adam", "m"), ("adam", "v")])
def test_state_that_has_vanished_becomes_zero(name: str, key: str) -> None:
    """Subnormal numbers would stay for ever, and slow every step down."""
    outer = OUTERS[name](OPTIONS[name], 1, "float32")
    outer.state()[key][:] = np.finfo("float32").tiny
    start = np.ones(1, "float32")
    outer.step(start, start.copy())
    assert outer.state()[key][0] == 0.0


@pytest.mark.parametrize("name", sorted(OUTERS))
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_parameters_that_have_diverged_stay_visible(name: str, bad: float) -> None:
    """They become no numbers that look well, and make no noise here; the neighbour is not touched."""
    outer = OUTERS[name](OPTIONS[name], 2, "float32")
    start, parameters = np.ones(2, "float32"), np.array([bad, 1.0], "float32")
    outer.step(start, parameters)
    assert not np.isfinite(parameters[0]) and parameters[1] == 1.0

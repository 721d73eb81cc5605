"""The rule of averaged tensors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.oracle import normal
from onotrain import _kernels
from onotrain._kernels import reference_update as reference
from onotrain.optim.average import Average

RULE = Average.model_validate({"learning_rate": 0.25})
#: Those of every update: whatever its learning rate and number.
SCALARS = (1.0, *RULE.decay(3.0), *RULE.scalars(3.0, 7))


def test_its_scalars_are_no_ones_but_its_own() -> None:
    assert SCALARS == (1.0, 0.0, 1.0, 0.25)


@pytest.mark.parametrize("n", [0, 1, 7, 64, 513, 1030])
@pytest.mark.parametrize("k", [1, 3, 16, 33])
@pytest.mark.parametrize("shared", [False, True])
def test_it_is_the_references_bit_for_bit(kernels, rng, n, k, shared):
    grads, value = normal(rng, kernels.dtype, k, n + 5)[:, :n], normal(rng, kernels.dtype, n)
    expected, by_hand = value.copy(), value - 0.25 * grads.sum(axis=0)
    assert kernels.update(RULE, SCALARS, grads, None, shared, (), None, value) == 0.0
    assert reference.update(RULE, SCALARS, grads, None, shared, (), None, expected) == 0.0
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_allclose(value, by_hand, rtol=0, atol=k * 10 * np.finfo(kernels.dtype).eps)


@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 40),
    st.sampled_from(_kernels.available()), st.sampled_from(["float32", "float64"]),
)  # fmt: skip
def test_it_multiplies_the_factors_of_a_gradient(r: int, o: int, i: int, build: str, dtype: str) -> None:
    kernels, rng = _kernels.load(dtype, build), np.random.default_rng(r + 41 * o + 1681 * i)
    dz, x, value = (rng.normal(size=shape).astype(dtype) for shape in ((r, o), (r, i), (o * i,)))
    expected = value - 0.25 * (dz.T @ x).reshape(-1)
    assert kernels.update(RULE, SCALARS, dz, x, False, (), None, value) == 0.0
    np.testing.assert_allclose(value, expected, rtol=0, atol=100 * r * np.finfo(dtype).eps)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 299])
@pytest.mark.parametrize("k", [1, 20])
def test_a_gradient_that_is_not_finite_shows(kernels, rng, bad, place, k):
    grads, value = normal(rng, kernels.dtype, k, 300), normal(rng, kernels.dtype, 300)
    grads[k // 2, place] = bad
    assert np.isnan(kernels.update(RULE, SCALARS, grads, None, False, (), None, value))
    assert np.isfinite(value).sum() == 299 and not np.isfinite(value[place])


def test_it_is_recorded(kernels, rng):
    """Each step overwrites the squares of the one before."""
    grads, value = normal(rng, kernels.dtype, 2, 30), normal(rng, kernels.dtype, 30)
    expected, squares = value.copy(), np.full(1, 5.0)
    program = kernels.program(
        [kernels.record_update(RULE, np.tile(SCALARS, (1, 1)), grads, None, False, (), value, 0, squares)]
    )
    program.run(3)
    reference.update(RULE, SCALARS, grads, None, False, (), None, expected)
    np.testing.assert_array_equal(value, expected)
    assert squares[0] == 0.0

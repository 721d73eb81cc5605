from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.oracle import assert_is_gradient, assert_matches_reference, normal, unset
from onotrain import _kernels
from onotrain.known_names import BORDERS

KEY = (2**40 + 7, 3, 1, 64)  # seed, step, layer, first row


@pytest.mark.parametrize(
    ("r", "m", "n"),
    [(0, 3, 4), (1, 1, 1), (5, 1, 7), (4, 7, 1), (2, 3, 1024), (2, 49, 64), (3, 5, 3), (2, 16, 16), (2, 2, 9)],
)
def test_transposed_samples(kernels, rng, r, m, n):
    x, y = normal(rng, kernels.dtype, r, m, n), unset(kernels.dtype, r, n, m)
    kernels.transpose_samples(x, y)
    np.testing.assert_array_equal(y, x.transpose(0, 2, 1))


@given(st.integers(0, 3), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_transposed_samples_of_any_shape(r, m, n):
    for build in _kernels.available()[:-1]:
        for dtype in ("float32", "float64"):
            x, y = np.arange(r * m * n, dtype=dtype).reshape(r, m, n), unset(dtype, r * m * n + 9)
            _kernels.load(dtype, build).transpose_samples(x, y[: x.size].reshape(r, n, m))
            np.testing.assert_array_equal(y[: x.size].reshape(r, n, m), x.transpose(0, 2, 1))
            assert np.isnan(y[x.size :]).all()


MOVES = {
    "shift": ((6, 5, 7, 2), 2, "constant", 0.5, False, False),
    "shift of one channel": ((4, 8, 8, 1), 3, "constant", 0.0, False, False),
    "edge": ((6, 6, 5, 3), 4, "edge", 0.0, False, False),
    "reflect": ((6, 5, 6, 4), 4, "reflect", 0.0, False, False),
    "flip": ((9, 4, 5, 3), 0, "constant", 0.0, True, False),
    "flip of one channel": ((9, 4, 5, 1), 0, "constant", 0.0, True, True),
    "everything": ((9, 6, 6, 5), 2, "reflect", 0.0, True, True),
    "everything with a fill": ((9, 6, 6, 5), 5, "constant", -1.5, True, True),
    "one pixel": ((3, 1, 1, 2), 0, "edge", 0.0, True, True),
    "no rows": ((0, 4, 4, 1), 1, "edge", 0.0, True, False),
}


def moved(kernels, x, pixels, border, fill, horizontal, vertical, key=KEY):
    y = unset(x.dtype, *x.shape)
    kernels.shift_and_flip(x, pixels, BORDERS[border], fill, horizontal, vertical, *key, y)
    return y


def moved_back(kernels, dy, pixels, border, _, horizontal, vertical, key=KEY):
    dx = unset(dy.dtype, *dy.shape)
    kernels.shift_and_flip_backward(dy, pixels, BORDERS[border], horizontal, vertical, *key, dx)
    return dx


@pytest.mark.parametrize("case", MOVES)
def test_moves_against_the_reference(compiled, rng, case):
    shape, *move = MOVES[case]
    x, reference = normal(rng, compiled.dtype, *shape), _kernels.load(compiled.dtype, "reference")
    np.testing.assert_array_equal(moved(compiled, x, *move), moved(reference, x, *move))
    assert_matches_reference(moved_back(compiled, x, *move), moved_back(reference, x, *move))


@given(
    st.tuples(st.integers(0, 3), st.integers(1, 7), st.integers(1, 7), st.integers(1, 5)), st.integers(0, 6),
    st.sampled_from(list(BORDERS)), st.booleans(), st.booleans(), st.integers(0, 2**64 - 1), st.integers(0, 2**33),
)  # fmt: skip
@settings(max_examples=50, deadline=None)
def test_any_move(shape, pixels, border, horizontal, vertical, seed, first_row):
    pixels = min(pixels, min(shape[1:3]) - 1)
    x = np.random.default_rng(1).normal(size=shape)
    move, key = (pixels, border, 2.5, horizontal, vertical), (seed, 9, 2, first_row)
    for build in _kernels.available()[:-1]:
        for dtype in ("float32", "float64"):
            kernels, reference = (_kernels.load(dtype, each) for each in (build, "reference"))
            got, expected = (moved(each, x.astype(dtype), *move, key=key) for each in (kernels, reference))
            np.testing.assert_array_equal(got, expected)
            got, expected = (moved_back(each, x.astype(dtype), *move, key=key) for each in (kernels, reference))
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", MOVES)
def test_gradients_are_those_of_the_forward_pass(double_kernels, rng, case):
    shape, *move = MOVES[case]
    x, dy = normal(rng, np.float64, *shape), normal(rng, np.float64, *shape)

    def objective() -> float:
        return float((moved(double_kernels, x, *move) * dy).sum())

    assert_is_gradient(moved_back(double_kernels, dy, *move), objective, x, rng)


def test_every_shift_and_flip_is_as_likely_as_another():
    """The place of one pixel that is set, in 20000 images: each of 9 shifts by 4 flips within 5 standard deviations.

    In one build: all draw alike.
    """
    kernels = _kernels.load("float32", _kernels.available()[0])
    samples = 20000
    x = np.zeros((samples, 4, 4, 1), kernels.dtype)
    x[:, 1, 1] = 1  # flips bring it to (1 or 2, 1 or 2), shifts by up to 1 keep it within
    y = moved(kernels, x, 1, "constant", 0.0, True, True)
    assert (y.sum(axis=(1, 2, 3)) == 1).all()
    along = np.array([1, 2, 2, 1]) / 6  # shifts and flips that lead to a row: 0 from 1, 1 from 1 and 2, ...
    expected = np.outer(along, along)
    got = y[..., 0].mean(axis=0)
    assert (np.abs(got - expected) < 5 * np.sqrt(expected / samples)).all()


def test_a_sample_is_moved_alike_in_any_part_of_the_batch(kernels, rng):
    x, move = normal(rng, kernels.dtype, 12, 5, 5, 2), (2, "constant", 0.0, True, True)
    seed, step, layer, first = KEY
    whole = moved(kernels, x, *move)
    parts = [moved(kernels, x[a:b].copy(), *move, key=(seed, step, layer, first + a)) for a, b in ((0, 5), (5, 12))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    for key in ((seed + 1, step, layer, first), (seed, step + 1, layer, first), (seed, step, layer + 1, first)):
        assert (moved(kernels, x, *move, key=key) != whole).any()


def test_nan_and_infinities_move_like_all_others(kernels):
    x = np.full((8, 3, 3, 1), np.nan, kernels.dtype)
    x[:, 1] = np.inf
    y = moved(kernels, x, 0, "edge", 0.0, True, True)
    np.testing.assert_array_equal(y, x)
    dx = moved_back(kernels, x, 0, "edge", 0.0, True, True)
    np.testing.assert_array_equal(dx, x)


def test_wrong_arguments_are_refused(kernels):
    x, y = np.zeros((2, 4, 5, 3), kernels.dtype), np.zeros((2, 4, 5, 3), kernels.dtype)
    for pixels, border in [(-1, 0), (4, 0), (1, 3), (1, -1)]:
        with pytest.raises(ValueError, match="pixels" if border == 0 else "border"):
            kernels.shift_and_flip(x, pixels, border, 0.0, True, False, *KEY, y)
        with pytest.raises(ValueError, match="pixels" if border == 0 else "border"):
            kernels.shift_and_flip_backward(x, pixels, border, True, False, *KEY, y)
    for shape, dtype in (((2, 5, 4, 3), kernels.dtype), ((3, 4, 5, 3), kernels.dtype), ((2, 4, 5, 3), "int32")):
        wrong = np.zeros(shape, dtype)
        with pytest.raises(ValueError):
            kernels.shift_and_flip(x, 1, 0, 0.0, True, False, *KEY, wrong)
        with pytest.raises(ValueError):
            kernels.shift_and_flip_backward(wrong, 1, 0, True, False, *KEY, y)
    for shape, dtype in (((2, 4, 5), kernels.dtype), ((3, 5, 4), kernels.dtype), ((2, 5, 4), "int32")):
        wrong = np.zeros(shape, dtype)
        with pytest.raises(ValueError):
            kernels.transpose_samples(np.zeros((2, 4, 5), kernels.dtype), wrong)

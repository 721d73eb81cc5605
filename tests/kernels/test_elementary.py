"""The elementary functions that are ours, seen through the kernels that stand on them."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.oracle import unset
from onotrain import _kernels
from onotrain._kernels import reference
from onotrain.known_names import ACTIVATIONS

GRID = np.concatenate(
    [
        np.linspace(-110, 110, 40_001),
        np.linspace(-2, 2, 20_001),
        *(sign * np.logspace(-38, 2, 2_001) for sign in (1, -1)),
        [0.0, -0.0, 0.625, -0.625, 88.72, 88.73, -87.33, -103.9],
    ]
).astype(np.float32)[None, :]


def predict(kernels: _kernels.Kernels, activation: str, x: np.ndarray) -> np.ndarray:
    y = unset(x.dtype, *x.shape)
    kernels.elementwise_predict(x, ACTIVATIONS[activation], 0.0, y)
    return y


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "gelu"])
def test_float32_activations_are_right_to_their_last_bits(build, activation):
    got = predict(_kernels.load("float32", build), activation, GRID)
    expected = predict(reference, activation, GRID.astype(np.float64))
    # gelu is a product with a distribution function that is right to 1e-7 absolutely
    absolute = 2e-7 * np.abs(GRID) if activation == "gelu" else 1e-38
    assert (np.abs(got - expected) <= 4e-7 * np.abs(expected) + absolute).all()


def test_float32_exponentials_are_right_to_their_last_bits(build):
    """Through softmax of two classes: ``exp(-d) / (1 + exp(-d))``."""
    x = np.stack([GRID[0], np.zeros_like(GRID[0])], axis=1)
    got, expected = unset(x.dtype, *x.shape), unset(np.float64, *x.shape)
    _kernels.load("float32", build).softmax(x, got)
    reference.softmax(x.astype(np.float64), expected)
    np.testing.assert_allclose(got, expected, rtol=4e-7, atol=1e-38)


@pytest.mark.parametrize("name", ["sigmoid", "softmax"])
def test_probabilities_of_a_row_do_not_depend_on_the_rows_around_it(kernels, rng, name):
    """Bit for bit: a prediction must not depend on how the rows were dealt out to ranks."""
    logits = (5 * rng.standard_normal((37, 7))).astype(kernels.dtype)
    whole = unset(kernels.dtype, 37, 7)
    getattr(kernels, name)(logits, whole)
    for first in range(37):
        for last in (first + 1, first + 3, 37):
            part = unset(kernels.dtype, *logits[first:last].shape)
            getattr(kernels, name)(logits[first:last], part)
            np.testing.assert_array_equal(part, whole[first:last])

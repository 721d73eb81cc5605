"""The elementary functions that are ours, seen through the kernels that stand on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import special

from kernels.oracle import unset
from onotrain import _kernels
from onotrain.known_names import ACTIVATIONS

#: Type -> where exp leaves its range, and the smallest power of ten.
EDGES = {"float32": (110.0, -44), "float64": (750.0, -320)}
#: Errors of each activation [units in the last place], over its whole range, and on every level.
BOUNDS = {"sigmoid": 2.5, "tanh": 2.5, "gelu": 5.0, "silu": 3.5, "elu": 1.5, "softplus": 2.0}
#: What the oracle of gelu, which has 53 bits, may be wrong by in float64 [units in the last place].
_ORACLE = {("gelu", "float64"): 5.0}


def grid(dtype: str) -> np.ndarray:
    """Return numbers of all sizes, most of them where something changes: one row."""
    edge, power = EDGES[dtype]
    rng = np.random.default_rng(1)
    return np.concatenate(
        [
            rng.uniform(-edge, edge, 40_000),
            rng.uniform(-2, 2, 20_000),
            rng.uniform(-40, 40, 20_000),
            *(sign * 10.0 ** rng.uniform(power, 2, 4_000) for sign in (1, -1)),
            [0.0, -0.0, 0.625, -0.625, 88.72, 88.73, -87.33, -103.9, 709.78, 709.79, -745.13],
        ]
    ).astype(dtype)[None, :]  # fmt: skip


def predict(kernels: Any, activation: str, x: np.ndarray) -> np.ndarray:
    y = unset(x.dtype, *x.shape)
    kernels.elementwise_predict(x, ACTIVATIONS[activation], 0.0, y)
    return y


def exactly(activation: str, x: np.ndarray) -> np.ndarray:
    """Return the activation of `x` in 64 bits of mantissa; of a float64 gelu in 53."""
    z = x.astype(np.longdouble)
    e = np.exp(-np.abs(z))
    share = np.where(z >= 0, 1, e) / (1 + e)
    tail = np.exp(-z * z / 2) * special.erfcx(np.abs(x.astype(np.float64)) / np.sqrt(2)) / 2
    return {
        "sigmoid": lambda: share,
        "tanh": lambda: np.tanh(z),
        "gelu": lambda: z * np.where(z < 0, tail, 1 - tail),
        "silu": lambda: z * share,
        "elu": lambda: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
        "softplus": lambda: np.maximum(z, 0) + np.log1p(e),
    }[activation]()


def units_in_the_last_place(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Return the errors of `got`."""
    unit = np.spacing(np.abs(exact).astype(got.dtype)).astype(np.longdouble)
    return np.abs(got.astype(np.longdouble) - exact) / unit


@pytest.mark.parametrize("compiled", _kernels.available()[:-1])
@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="the oracle needs long double of 64 bits")
@pytest.mark.parametrize("dtype", list(EDGES))
@pytest.mark.parametrize("activation", list(BOUNDS))
def test_activations_are_right_to_their_last_bits(compiled, activation, dtype):
    x = grid(dtype)
    got, exact = predict(_kernels.load(dtype, compiled), activation, x), exactly(activation, x)
    assert np.isfinite(got).all()
    error = units_in_the_last_place(got, exact)
    # A product x f(x) has the rounding error of f(x) times x: of denormal numbers that is more than a unit.
    error[np.abs(got - exact) <= np.abs(x) * np.finfo(dtype).smallest_subnormal] = 0
    worst = int(np.argmax(error))
    assert error.max() <= BOUNDS[activation] + _ORACLE.get((activation, dtype), 0.0), (
        x[0, worst],
        got[0, worst],
        exact[0, worst],
    )


@pytest.mark.parametrize("dtype", list(EDGES))
@pytest.mark.parametrize("activation", list(BOUNDS))
def test_activations_keep_what_is_no_ordinary_number(build, activation, dtype):
    x = np.array([[np.nan, np.inf, 0.0, -1e30]], dtype)
    y = predict(_kernels.load(dtype, build), activation, x)[0]
    assert np.isnan(y[0])
    assert y[1] == (1 if activation in ("sigmoid", "tanh") else np.inf)
    assert y[2] == {"sigmoid": 0.5, "softplus": np.log(np.array(2, dtype))}.get(activation, 0)
    assert y[3] == {"tanh": -1, "elu": -1}.get(activation, 0)


@pytest.mark.parametrize("dtype", list(EDGES))
def test_exponentials_are_right_to_their_last_bits(build, dtype):
    """Through softmax of two classes: ``exp(-d) / (1 + exp(-d))``."""
    d = grid(dtype)[0]
    x = np.stack([d, np.zeros_like(d)], axis=1)
    got = unset(x.dtype, *x.shape)
    _kernels.load(dtype, build).softmax(x, got)
    e = np.exp(-np.abs(d.astype(np.longdouble)))
    first, second = np.where(d > 0, 1, e) / (1 + e), np.where(d > 0, e, 1) / (1 + e)
    assert units_in_the_last_place(got, np.stack([first, second], axis=1)).max() <= 3


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


@pytest.mark.parametrize("dtype", list(EDGES))
def test_logarithms_are_right_to_their_last_bits(build, dtype):
    """Of k alike classes the loss is log k, computed in float64 for either dtype."""
    kernels, classes = _kernels.load(dtype, build), [*range(2, 700), 1023, 1024, 1025, 4097, 99_991]
    got = np.zeros((len(classes), 2))
    for count, loss_sums in zip(classes, got, strict=True):
        logits = np.full((1, count), 0.5, dtype)
        kernels.softmax_cross_entropy(logits, np.zeros(1, np.int32), None, 0.0, 1.0, None, loss_sums)
    exact = np.log(np.array(classes, np.longdouble))
    assert (np.abs(got[:, 0] - exact) / np.spacing(np.log(classes))).max() <= 1.0

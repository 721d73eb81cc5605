from __future__ import annotations

import numpy as np
import pytest

from kernels.oracle import assert_matches_reference, central_differences, in_turn, normal, unset
from onotrain._kernels import Kernels, reference
from onotrain.known_names import ACTIVATIONS

SHAPES = [(0, 3, 4), (1, 1, 1), (3, 5, 2), (7, 17, 33), (8, 64, 128), (5, 31, 129), (32, 20, 10)]
DRAW = (2**40 + 7, 3, 1, 64)  # seed, step, layer, first row


def forward(kernels: Kernels, x, weight, bias, activation="relu", dropout=0.0, negative_slope=0.1):
    slope, y = unset(x.dtype, len(x), len(weight)), unset(x.dtype, len(x), len(weight))
    kernels.dense_forward(x, weight, bias, ACTIVATIONS[activation], negative_slope, dropout, *DRAW, slope, y)
    return slope, y


@in_turn(("r", "i", "o"), SHAPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_forward_against_the_reference(compiled, rng, r, i, o, activation, dropout):
    kernels = compiled
    x, weight, bias = (normal(rng, kernels.dtype, *shape) for shape in [(r, i), (o, i), (o,)])
    for b in (bias, None):
        for got, expected in zip(
            forward(kernels, x, weight, b, activation, dropout), forward(reference, x, weight, b, activation, dropout),
            strict=True,
        ):  # fmt: skip
            np.testing.assert_allclose(got, expected, rtol=2e-5 if kernels.dtype == "float32" else 1e-12, atol=1e-5)


@in_turn(("r", "i", "o"), SHAPES)
@pytest.mark.parametrize("accumulate", [False, True])
def test_backward_against_the_reference(compiled, rng, r, i, o, accumulate):
    kernels = compiled
    x, weight, slope, dy = (normal(rng, kernels.dtype, *shape) for shape in [(r, i), (o, i), (r, o), (r, o)])
    start = normal(rng, kernels.dtype, o, i), normal(rng, kernels.dtype, o)
    if not accumulate:
        start = unset(kernels.dtype, o, i), unset(kernels.dtype, o)
    for with_dx, with_db in [(True, True), (False, False)]:
        results = []
        for k in (kernels, reference):
            dz, dw, db = dy.copy(), start[0].copy(), start[1].copy() if with_db else None
            dx = unset(kernels.dtype, r, i) if with_dx else None
            k.dense_backward(x, weight, slope, accumulate, False, dz, dx, dw, db)
            results.append([a for a in (dz, dx, dw, db) if a is not None])
        for got, expected in zip(*results, strict=True):
            assert np.isfinite(got).all()
            np.testing.assert_allclose(got, expected, rtol=2e-5 if kernels.dtype == "float32" else 1e-12, atol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_are_those_of_the_forward_pass(double_kernels, rng, activation, dropout):
    """Every gradient against fourth-order central differences of sum(y * dy)."""
    x, weight, bias, dy = (normal(rng, np.float64, *shape) for shape in [(5, 4), (6, 4), (6,), (5, 6)])

    def objective() -> float:
        return float((forward(double_kernels, x, weight, bias, activation, dropout)[1] * dy).sum())

    slope, _ = forward(double_kernels, x, weight, bias, activation, dropout)
    dz, dx, dw, db = dy.copy(), unset(np.float64, 5, 4), unset(np.float64, 6, 4), unset(np.float64, 6)
    double_kernels.dense_backward(x, weight, slope, False, False, dz, dx, dw, db)
    for array, gradient in [(x, dx), (weight, dw), (bias, db)]:
        np.testing.assert_allclose(gradient, central_differences(objective, array), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@in_turn(("r", "i"), [(0, 3), (1, 1), (4, 127), (3, 300)])
def test_elementwise_against_the_reference(compiled, rng, activation, r, i):
    kernels = compiled
    x, dy = 3 * normal(rng, kernels.dtype, r, i), normal(rng, kernels.dtype, r, i)
    results = []
    for k in (kernels, reference):
        slope, y, dx, predicted = (unset(kernels.dtype, r, i) for _ in range(4))
        k.elementwise_forward(x, ACTIVATIONS[activation], 0.2, 0.5, *DRAW, slope, y)
        k.elementwise_backward(slope, dy, dx)
        k.elementwise_predict(x, ACTIVATIONS[activation], 0.2, predicted)
        results.append((slope, y, dx, predicted))
    for got, expected in zip(*results, strict=True):
        assert_matches_reference(got, expected)


@pytest.mark.parametrize("n", [0, 1, 7, 64, 1003])
def test_sums_are_numpy_s_to_the_bit(kernels, rng, n):
    """Whatever is added, and wherever arrays begin; a slope of None is 1."""
    values = normal(rng, kernels.dtype, 3, n + 1)
    values[:, ::5], values[1, ::3], values[2, 1::9] = np.inf, -np.inf, np.nan
    a, b, start = values[:, 1:]
    y, total, dx = start.copy(), unset(kernels.dtype, n), unset(kernels.dtype, 1, n)
    kernels.add(a, y)
    kernels.sum_of_two(a, b, total)
    kernels.elementwise_backward(None, a[None], dx)
    with np.errstate(invalid="ignore"):
        for got, expected in ((y, start + a), (total, a + b), (dx[0], a)):
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_elementwise_may_overwrite_what_it_reads(kernels, rng, activation):
    x = 3 * normal(rng, kernels.dtype, 5, 133)
    slope, y, predicted, own = (unset(kernels.dtype, 5, 133) for _ in range(4))
    kernels.elementwise_forward(x, ACTIVATIONS[activation], 0.2, 0.3, *DRAW, slope, y)
    kernels.elementwise_predict(x, ACTIVATIONS[activation], 0.2, predicted)
    for call, expected in (
        (lambda z: kernels.elementwise_forward(z, ACTIVATIONS[activation], 0.2, 0.3, *DRAW, own, z), y),
        (lambda z: kernels.elementwise_predict(z, ACTIVATIONS[activation], 0.2, z), predicted),
    ):
        z = x.copy()
        call(z)
        np.testing.assert_array_equal(z, expected)
    np.testing.assert_array_equal(own, slope)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@in_turn(("r", "i", "o"), SHAPES)
def test_prediction_is_the_forward_pass_without_dropout(kernels, rng, activation, r, i, o):
    x, weight, bias = (normal(rng, kernels.dtype, *shape) for shape in [(r, i), (o, i), (o,)])
    for b in (bias, None):
        y = unset(kernels.dtype, r, o)
        kernels.dense_predict(x, weight, None, b, ACTIVATIONS[activation], 0.1, y)
        np.testing.assert_array_equal(y, forward(kernels, x, weight, b, activation)[1])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_nan_is_never_swallowed(kernels, activation, dropout):
    x = np.full((4, 300), np.nan, kernels.dtype)
    slope, y = unset(kernels.dtype, 4, 300) * 0, np.zeros((4, 300), kernels.dtype)
    kernels.elementwise_forward(x, ACTIVATIONS[activation], 0.1, dropout, *DRAW, slope, y)
    assert np.isnan(y).all()
    kernels.elementwise_predict(x, ACTIVATIONS[activation], 0.1, y)
    assert np.isnan(y).all()
    dx = np.zeros_like(x)
    kernels.elementwise_backward(np.ones_like(x), x, dx)
    assert np.isnan(dx).all()


@pytest.mark.parametrize(
    ("activation", "at_minus", "at_plus"),
    [
        ("identity", -np.inf, np.inf),
        ("relu", 0, np.inf),
        ("leaky_relu", -np.inf, np.inf),
        ("sigmoid", 0, 1),
        ("tanh", -1, 1),
    ],
)
def test_infinities_have_their_limits(kernels, activation, at_minus, at_plus):
    x = np.array([[-np.inf, np.inf, -1e30, 1e30, 0.0]], kernels.dtype)
    y = np.empty_like(x)
    kernels.elementwise_predict(x, ACTIVATIONS[activation], 0.1, y)
    np.testing.assert_array_equal(y[0, :2], [at_minus, at_plus])
    assert np.isfinite(y[0, 2:]).all()


def test_relu_has_slope_0_at_0(kernels):
    x, slope, y = np.zeros((1, 3), kernels.dtype), unset(kernels.dtype, 1, 3), unset(kernels.dtype, 1, 3)
    kernels.elementwise_forward(x, ACTIVATIONS["relu"], 0.0, 0.0, *DRAW, slope, y)
    assert not slope.any() and not y.any()


def test_no_rows_clear_the_gradients_unless_they_accumulate(kernels):
    empty = np.empty((0, 3), kernels.dtype), np.empty((0, 4), kernels.dtype)
    weight, dw, db = np.ones((4, 3), kernels.dtype), unset(kernels.dtype, 4, 3), unset(kernels.dtype, 4)
    kernels.dense_backward(empty[0], weight, empty[1], False, False, empty[1].copy(), empty[0].copy(), dw, db)
    assert not dw.any() and not db.any()
    dw[:], db[:] = 5, 6
    kernels.dense_backward(empty[0], weight, empty[1], True, False, empty[1].copy(), None, dw, db)
    assert (dw == 5).all() and (db == 6).all()


def test_views_of_a_flat_vector_at_any_offset(kernels, rng):
    """Parameters and gradients are views: only what they cover may be written."""
    flat = unset(kernels.dtype, 3 + 12 + 4 + 5)
    dw, db = flat[3:15].reshape(4, 3), flat[15:19]
    x, weight = normal(rng, kernels.dtype, 6, 3), normal(rng, kernels.dtype, 4, 3)
    kernels.dense_backward(
        x, weight, np.ones((6, 4), kernels.dtype), False, False, normal(rng, kernels.dtype, 6, 4), None, dw, db
    )
    assert np.isfinite(flat[3:19]).all() and np.isnan(flat[:3]).all() and np.isnan(flat[19:]).all()


WRONG = {
    "x": [(4, 6), (3, 5)], "weight": [(2, 6), (3, 5)], "bias": [(3,)], "slope": [(4, 3), (3, 2)], "y": [(4, 3), (5, 2)],
    "dy": [(4, 3), (3, 2)], "dx": [(4, 4), (3, 5)], "dw": [(2, 4), (3, 5)], "db": [(1,)],
}  # fmt: skip


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name, shapes in WRONG.items() for shape in shapes])
def test_wrong_shapes_dtypes_and_layouts_are_refused(kernels, name, shape):
    other = np.dtype("float64" if kernels.dtype == np.float32 else "float32")
    gaps = np.zeros([2 * n for n in {"x": (4, 5), "weight": (2, 5)}.get(name, shape)], kernels.dtype)[..., ::2]
    for wrong in (np.zeros(shape, kernels.dtype), np.zeros(shape, other), gaps):
        arrays = {
            key: np.zeros(right, kernels.dtype)
            for key, right in {
                "x": (4, 5), "weight": (2, 5), "bias": (2,), "slope": (4, 2), "y": (4, 2), "dy": (4, 2), "dx": (4, 5),
                "dw": (2, 5), "db": (2,),
            }.items()
        } | {name: wrong}  # fmt: skip
        a = arrays
        calls = [
            lambda a=a: kernels.dense_forward(a["x"], a["weight"], a["bias"], 1, 0.0, 0.0, *DRAW, a["slope"], a["y"]),
            lambda a=a: kernels.dense_predict(a["x"], a["weight"], None, a["bias"], 1, 0.0, a["y"]),
            lambda a=a: kernels.dense_backward(
                a["x"], a["weight"], a["slope"], False, False, a["dy"], a["dx"], a["dw"], a["db"]
            ),
        ]
        users = {"bias": (0, 1), "slope": (0, 2), "y": (0, 1)}.get(name, (2,) if name.startswith("d") else (0, 1, 2))
        for user in users:
            with pytest.raises(ValueError):
                calls[user]()


def test_elementwise_shapes_and_unknown_activations_are_refused(kernels):
    right, wrong = np.zeros((2, 3), kernels.dtype), np.zeros((3, 2), kernels.dtype)
    for arrays in [(wrong, right, right), (right, wrong, right), (right, right, wrong)]:
        with pytest.raises(ValueError):
            kernels.elementwise_forward(arrays[0], 1, 0.0, 0.0, *DRAW, *arrays[1:])
        with pytest.raises(ValueError):
            kernels.elementwise_backward(*arrays)
    with pytest.raises(ValueError):
        kernels.elementwise_predict(right, 1, 0.0, wrong)
    other, gaps = np.zeros(6, "float64" if kernels.dtype == np.float32 else "float32"), np.zeros(12, kernels.dtype)[::2]
    for odd in (np.zeros(5, kernels.dtype), other, gaps):
        arrays = [np.zeros(6, kernels.dtype)] * 2
        for place in range(3):
            with pytest.raises(ValueError):
                kernels.sum_of_two(*arrays[:place], odd, *arrays[place:])
        for pair in ((odd, arrays[0]), (arrays[0], odd)):
            with pytest.raises(ValueError):
                kernels.add(*pair)
    for code in (-1, len(ACTIVATIONS)):
        with pytest.raises(ValueError, match="activation"):
            kernels.elementwise_predict(right, code, 0.0, right.copy())

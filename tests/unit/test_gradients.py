"""Gradients of whole networks against fourth-order central differences in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import builders
from onotrain import _kernels

ROWS, INPUTS = 6, 5
STEP = 1e-3

NETWORKS: dict[str, list[dict[str, Any]]] = {
    "linear": [],
    "relu": [{"dense": {"units": 7, "activation": "relu"}}],
    "leaky_relu": [{"dense": {"units": 7, "activation": "leaky_relu", "negative_slope": 0.2}}],
    "sigmoid": [{"dense": {"units": 7, "activation": "sigmoid"}}],
    "tanh": [{"dense": {"units": 7, "activation": "tanh"}}],
    "gelu": [{"dense": {"units": 7, "activation": "gelu"}}],
    "silu": [{"dense": {"units": 7, "activation": "silu"}}],
    "elu": [{"dense": {"units": 7, "activation": "elu"}}],
    "softplus": [{"dense": {"units": 7, "activation": "softplus"}}],
    "no bias": [{"dense": {"units": 7, "activation": "tanh", "bias": False}}],
    "separate activation": [{"dense": 7}, {"activation": "tanh"}, {"dropout": 0.3}],
    "dropout before activation": [{"dense": 7}, {"dropout": 0.3}, {"activation": "gelu"}],
    "dropout and activation on the input": [{"dropout": 0.2}, {"activation": "sigmoid"}, {"dense": 4}],
    "deep": [
        {"dense": {"units": 8, "activation": "gelu"}},
        {"dropout": 0.4},
        {"dense": {"units": 6, "activation": "sigmoid"}},
    ],
    "max pool": [
        {"dense": 50},
        {"reshape": [2, 5, 5]},
        {"max_pool2d": {"size": 3, "stride": 2, "padding": 1}},
        {"activation": "tanh"},
        "flatten",
    ],
    "mean pool": [{"dense": 48}, {"reshape": [3, 4, 4]}, {"avg_pool2d": {"size": 2, "stride": [1, 2]}}],
    "pools of sequences": [
        {"dense": 40},
        {"reshape": [20, 2]},
        {"max_pool1d": 2},
        {"avg_pool1d": {"size": 3, "stride": 1, "padding": 1}},
    ],
    "global mean": [{"dense": 45}, {"activation": "silu"}, {"reshape": [5, 3, 3]}, "global_avg_pool"],
    "augmentation": [
        {"dense": 32},
        {"reshape": [2, 4, 4]},
        {"random_shift": 2},
        {"random_crop": {"padding": 2, "fill": "reflect"}},
        {"random_flip": {"vertical": True}},
        {"avg_pool2d": 2},
    ],
    "layer_norm": [
        {"layer_norm": {}},
        {"dense": {"units": 7, "activation": "tanh"}},
        {"layer_norm": {"affine": False}},
    ],
    "normalised images": [
        {"dense": 48},
        {"reshape": [6, 4, 2]},
        {"group_norm": 3},
        {"activation": "tanh"},
        {"layer_norm": {}},
        "flatten",
    ],
    "group_norm": [{"dense": 8}, {"group_norm": 2}, {"activation": "silu"}],
    "two activations": [{"dense": {"units": 6, "activation": "tanh"}}, {"activation": "gelu"}],
    "residual": [{"residual": [{"dense": {"units": 5, "activation": "tanh"}}, {"dense": 5}]}],
    "residual around an activation": [
        {"dense": {"units": 7, "activation": "tanh"}},
        {"residual": {"layers": [{"activation": "gelu"}], "activation": "relu"}},
    ],
    "residual with dropout and a projection": [
        {"residual": {"layers": [{"dropout": 0.3}, {"dense": 6}, {"dropout": 0.2}], "activation": "relu"}},
        {"activation": "gelu"},
    ],
    "residual in residual": [
        {"residual": [{"residual": [{"residual": [{"dense": 5}, {"activation": "silu"}]}, {"dense": 4}]}, {"dense": 3}]}
    ],
    "two residuals": [
        {"residual": [{"dense": {"units": 5, "activation": "silu"}}]},
        {"residual": [{"activation": "tanh"}, {"dense": 7}]},
    ],
}
LOSSES: dict[str, tuple[dict[str, Any], int]] = {
    "cross_entropy": ({"name": "cross_entropy"}, 4),
    "label smoothing": ({"name": "cross_entropy", "label_smoothing": 0.1}, 4),
    "binary": ({"name": "binary_cross_entropy"}, 1),
    "multi-label": ({"name": "binary_cross_entropy"}, 3),
    "mse": ({"name": "mse"}, 2),
    "mae": ({"name": "mae"}, 2),
    "huber": ({"name": "huber", "delta": 0.7}, 2),
    "log_cosh": ({"name": "log_cosh"}, 2),
    "poisson": ({"name": "poisson"}, 2),
    "quantile": ({"name": "quantile", "quantiles": [0.1, 0.8]}, 4),
    "gaussian_nll": ({"name": "gaussian_nll", "min_variance": 0.1}, 4),
}


class Case:
    """A network with random parameters, inputs and targets."""

    def __init__(self, layers: list[dict[str, Any]], loss: dict[str, Any], outputs: int) -> None:
        biases = {"bias_initializer": {"name": "normal", "std": 0.3}}
        made = builders.config(*layers, outputs, model=biases, loss=loss, training={"dtype": "float64"})
        rng = np.random.default_rng(3)
        self.model = builders.model(made, INPUTS)
        self.parameters, self.gradient = self.model.layout.zeros(), self.model.layout.zeros()
        self.model.initialize(self.parameters, seed=1)
        self.model.bind(self.parameters, self.gradient)
        self.model.reserve(ROWS)
        self.x = rng.normal(size=(ROWS, INPUTS))
        self.targets = {
            "multiclass": rng.integers(0, outputs, ROWS).astype(np.int32),
            "regression": rng.normal(size=(ROWS, self.model.loss.targets)),
        }.get(self.model.loss.task, rng.integers(0, 2, (ROWS, outputs)).astype(np.float64))

    def loss(self, rows: slice = slice(None), accumulate: bool = False) -> float:
        """Return the mean loss of the batch's rows and leave their part of the gradient."""
        return self.recorded(rows, accumulate)()

    def recorded(self, rows: slice = slice(None), accumulate: bool = False) -> Callable[[], float]:
        """Return `loss` of these rows with whatever the parameters are then."""
        loss_sums = np.zeros(2)
        calls = self.model.record(
            self.x[rows], self.targets[rows], ROWS, loss_sums, seed=11, begin=rows.start or 0,
            accumulate=accumulate,
        )  # fmt: skip
        program = self.model.kernels.program(calls)

        def run() -> float:
            loss_sums[:] = 0.0
            program.run(4)
            return float(loss_sums[0]) / ROWS

        return run


def differences(case: Case) -> np.ndarray:
    """Return the gradient by fourth-order central differences."""
    out, loss = np.zeros_like(case.parameters), case.recorded()
    for tensor in case.model.layout:
        for i in range(tensor.offset, tensor.offset + tensor.size):
            values, start = [], case.parameters[i]
            for shift in (-2, -1, 1, 2):
                case.parameters[i] = start + shift * STEP
                values.append(loss())
            case.parameters[i] = start
            out[i] = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * STEP)
    return out


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("network", NETWORKS)
def test_gradient_of_every_combination(network: str, loss: str) -> None:
    """All layers with all losses, to 1e-6 of the largest entry."""
    case = Case(NETWORKS[network], *LOSSES[loss])
    expected = differences(case)
    case.loss()
    np.testing.assert_allclose(case.gradient, expected, rtol=0, atol=1e-6 * max(1.0, np.abs(expected).max()))
    assert np.abs(case.gradient).max() > 1e-3, "a gradient of zeros would prove nothing"


@pytest.mark.parametrize("path", [path for path in _kernels.available() if path != "reference"])
@pytest.mark.parametrize("network", NETWORKS)
def test_compiled_gradient_is_the_reference_s(network: str, path: str) -> None:
    """The whole backward pass of compiled kernels against NumPy's, dropout masks included."""
    chosen = _kernels.path()
    gradients = []
    try:
        for name in (path, "reference"):
            _kernels.select(name)
            case = Case(NETWORKS[network], *LOSSES["label smoothing"])
            case.loss()
            gradients.append(case.gradient)
    finally:
        _kernels.select(chosen)
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("network", NETWORKS)
def test_micro_batches_add_up(network: str) -> None:
    """Gradient accumulation over uneven micro-batches, one of them empty, with the masks of the whole batch."""
    case = Case(NETWORKS[network], *LOSSES["mse"])
    whole = case.loss()
    expected = case.gradient.copy()
    parts = [case.loss(slice(a, b), accumulate=a > 0) for a, b in ((0, 1), (1, 1), (1, 4), (4, ROWS))]
    assert sum(parts) == pytest.approx(whole, rel=1e-12)
    np.testing.assert_allclose(case.gradient, expected, rtol=1e-12, atol=1e-15)


def test_gaps_between_tensors_stay_zero() -> None:
    """Alignment leaves gaps in the flat vector; no gradient may appear there."""
    case = Case(NETWORKS["deep"], *LOSSES["mse"])
    case.loss()
    inside = np.zeros(case.model.layout.size, bool)
    for tensor in case.model.layout:
        inside[tensor.range] = True
    assert not inside.all() and not case.gradient[~inside].any()

"""Pooling and flattening against PyTorch: values, gradients, and whole networks."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import builders
from onotrain import _kernels

if find_spec("torch") is not None:
    import torch
    from torch.nn import functional
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed"),
]

TOLERANCE = {"float32": 1e-5, "float64": 1e-6}
#: (c, h, w), and size, stride and padding along height and width.
CASES = [
    ((6, 24, 24), (2, 2), (2, 2), (0, 0)),
    ((64, 7, 9), (3, 3), (2, 2), (1, 1)),
    ((1, 11, 8), (3, 2), (1, 3), (0, 1)),
    ((20, 7, 7), (7, 7), (7, 7), (0, 0)),
    ((3, 9, 9), (2, 5), (4, 1), (1, 2)),
]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("shape", "size", "stride", "padding"), CASES)
@pytest.mark.parametrize("kind", ["max_pool", "avg_pool"])
def test_values_and_gradients(kind: str, shape: Any, size: Any, stride: Any, padding: Any, dtype: str) -> None:
    """NaN and equal numbers included."""
    rng, kernels = np.random.default_rng(1), _kernels.load(dtype)
    for whole in (False, True):
        x = rng.normal(size=(5, *shape)).astype(dtype)
        if whole:
            x = np.round(x)
            x[rng.random(x.shape) < 0.01] = np.nan
        there = torch.tensor(x, requires_grad=True)
        pooled = getattr(functional, f"{kind}2d")(there, size, stride, padding)
        dy = rng.normal(size=pooled.shape).astype(dtype)
        pooled.backward(torch.tensor(dy))

        image, gradient = (np.ascontiguousarray(each.transpose(0, 2, 3, 1)) for each in (x, dy))
        y, dx, winner = np.empty_like(gradient), np.empty_like(image), np.empty(gradient.shape, np.uint8)
        window = (*size, *stride, *padding)
        if kind == "max_pool":
            kernels.max_pool(image, *window, winner, y)
            kernels.max_pool_backward(winner, gradient, *window, dx)
        else:
            kernels.avg_pool(image, *window, y)
            kernels.avg_pool_backward(gradient, *window, dx)
        for got, expected in ((y, pooled.detach()), (dx, there.grad)):
            np.testing.assert_allclose(
                got.transpose(0, 3, 1, 2), expected.numpy(), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
            )


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_network(dtype: str) -> None:
    """Weights of dense layers behind images are those of PyTorch's, flattened with the channels first."""
    made = builders.config(
        {"reshape": [3, 9, 8]}, {"max_pool2d": {"size": 3, "stride": 2, "padding": 1}}, {"activation": "tanh"},
        {"dense": 24}, {"reshape": [4, 3, 2]}, {"avg_pool2d": [2, 1]}, {"dense": 18}, {"reshape": [6, 3]},
        {"max_pool1d": 2}, {"dense": 12}, {"reshape": [4, 3, 1]}, "global_avg_pool", 5,
        loss="mse", training={"dtype": dtype},
    )  # fmt: skip
    model = builders.model(made, 216)
    parameters, gradient = model.layout.zeros(), model.layout.zeros()
    model.initialize(parameters, seed=1)
    model.bind(parameters, gradient)
    model.reserve(7)
    rng = np.random.default_rng(1)
    x, targets = rng.normal(size=(7, 216)).astype(dtype), rng.normal(size=(7, 5)).astype(dtype)
    losses = np.zeros(2)
    model.kernels.program(model.record(x, targets, 7, losses, seed=1)).run(0)

    views = model.layout.views(parameters)
    tensors = {name: torch.tensor(view, requires_grad=True) for name, view in views.items()}

    def dense(number: int, value: Any) -> Any:
        flat = value.flatten(1)
        return functional.linear(flat, tensors[f"dense_{number}/weight"], tensors[f"dense_{number}/bias"])

    value = torch.tanh(functional.max_pool2d(torch.tensor(x).reshape(7, 3, 9, 8), 3, 2, 1))
    value = functional.avg_pool2d(dense(0, value).reshape(7, 4, 3, 2), (2, 1))
    value = dense(1, value).reshape(7, 6, 3).transpose(1, 2)  # (length, channels): PyTorch has the channels first
    value = dense(2, functional.max_pool1d(value, 2)).reshape(7, 4, 3, 1)
    value = dense(3, value.mean(dim=(2, 3)))
    loss = ((value - torch.tensor(targets)) ** 2).sum() / 7
    loss.backward()
    assert losses[0] / 7 == pytest.approx(loss.item(), rel=TOLERANCE[dtype])
    for name, view in model.layout.views(gradient).items():
        np.testing.assert_allclose(view, tensors[name].grad.numpy(), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])

"""Convolutions beside PyTorch's: values, gradients, and ten steps of descent."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stack import Stack

if find_spec("torch") is not None:
    import torch
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed"),
]

TOLERANCE = {"float32": 1e-5, "float64": 1e-6}


def first(x: np.ndarray) -> Any:
    """Return a tensor with the channels first."""
    return torch.tensor(np.moveaxis(x, -1, 1).copy())


def last(x: Any) -> np.ndarray:
    return np.moveaxis(x.detach().numpy(), 1, -1)


def torch_layer(stack: Stack, options: dict[str, Any], channels: int, one: bool) -> Any:
    """Return PyTorch's layer with the parameters of the stack's."""
    kind = torch.nn.Conv1d if one else torch.nn.Conv2d
    named = {name: options.get(name, default) for name, default in (("stride", 1), ("dilation", 1), ("groups", 1))}
    made = kind(
        channels, options["filters"], options["kernel"], padding=options.get("padding", 0),
        bias=options.get("bias", True), dtype=getattr(torch, str(stack.values[0].dtype)), **named,
    )  # fmt: skip
    made.load_state_dict({name: torch.tensor(p) for name, p in stack.parameters[0].items()})
    return made


def compare(shape: tuple[int, ...], options: dict[str, Any], dtype: str, rows: int = 3) -> None:
    one = len(shape) == 2
    stack = Stack([{"conv1d" if one else "conv2d": options}], shape, rows, dtype)
    layer = torch_layer(stack, options, shape[-1], one)
    x = first(stack.values[0]).requires_grad_()
    z = layer(x)
    dy = np.random.default_rng(2).standard_normal(stack.values[-1].shape).astype(dtype)
    z.backward(first(dy))
    close(stack.forward(), last(z), dtype)
    stack.backward(dy)
    close(stack.gradients[0], last(x.grad), dtype)
    for name, tensor in layer.named_parameters():
        close(stack.dparameters[0][name], tensor.grad.numpy(), dtype)


def close(got: np.ndarray, expected: np.ndarray, dtype: str) -> None:
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE[dtype] * max(1.0, np.abs(expected).max(initial=0)))


@pytest.mark.parametrize("dtype", TOLERANCE)
@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 12), st.integers(1, 12)), st.integers(1, 6), st.integers(1, 9), st.integers(1, 6),
    st.tuples(st.integers(1, 4), st.integers(1, 4)), st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(0, 3), st.integers(0, 3)), st.tuples(st.integers(1, 2), st.integers(1, 2)),
)  # fmt: skip
def test_torch_gives_the_same_values_and_gradients(  # noqa: PLR0913
    dtype: str, image: tuple[int, int], inputs: int, outputs: int, groups: int, kernel: tuple[int, int],
    stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int],
) -> None:  # fmt: skip
    assume(all(n + 2 * p > (k - 1) * d for n, k, p, d in zip(image, kernel, padding, dilation, strict=True)))
    options = {
        "filters": outputs * groups, "kernel": list(kernel), "stride": list(stride), "padding": list(padding),
        "dilation": list(dilation), "groups": groups,
    }  # fmt: skip
    compare((*image, inputs * groups), options, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((12, 11, 3), {"filters": 5, "kernel": [5, 2], "padding": "same", "dilation": 2}),
        ((12, 11, 4), {"filters": 8, "kernel": 3, "padding": "same", "groups": 4, "bias": False}),
        ((28, 28, 1), {"filters": 6, "kernel": 5}),
        ((12, 12, 6), {"filters": 16, "kernel": 5}),
        ((14, 14, 32), {"filters": 64, "kernel": 3, "padding": "same"}),
        ((14, 14, 32), {"filters": 64, "kernel": 1, "stride": 2}),
        ((50, 6), {"filters": 9, "kernel": 5, "padding": 2, "stride": 2, "groups": 3}),
        ((50, 6), {"filters": 9, "kernel": 3, "padding": "same", "dilation": 3}),
    ],
    ids=str,
)
def test_torch_agrees_on_layers_of_networks(shape: tuple[int, ...], options: dict[str, Any], dtype: str) -> None:
    compare(shape, options, dtype, rows=8)


def test_ten_steps_of_descent_are_those_of_torch() -> None:
    """Of two layers with activations, from the same parameters, to a target."""
    sizes: list[dict[str, Any]] = [{"filters": 7, "kernel": 3, "padding": 1}, {"filters": 4, "kernel": 3, "stride": 2}]
    stack = Stack([{"conv2d": {**each, "activation": "tanh"}} for each in sizes], (9, 8, 2), rows=6)
    layers = [
        torch.nn.Conv2d(2, 7, 3, padding=1, dtype=torch.float64),
        torch.nn.Conv2d(7, 4, 3, stride=2, dtype=torch.float64),
    ]
    for layer, parameters in zip(layers, stack.parameters, strict=True):
        layer.load_state_dict({name: torch.tensor(p) for name, p in parameters.items()})
    tensors = [p for layer in layers for p in layer.parameters()]
    optimizer = torch.optim.SGD(tensors, lr=0.3)
    target = np.random.default_rng(1).uniform(-1, 1, stack.values[-1].shape)
    x, goal, losses = first(stack.values[0]), first(target), []
    for _ in range(10):
        optimizer.zero_grad()
        loss = ((torch.tanh(layers[1](torch.tanh(layers[0](x)))) - goal) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        error = stack.forward() - target
        assert float((error**2).mean()) == pytest.approx(losses[-1], rel=1e-9)
        stack.backward(2 * error / error.size)
        for parameters, gradients in zip(stack.parameters, stack.dparameters, strict=True):
            for name, parameter in parameters.items():
                parameter -= 0.3 * gradients[name]
    assert losses[-1] < 0.9 * losses[0], "steps that go nowhere would prove nothing"
    for layer, parameters in zip(layers, stack.parameters, strict=True):
        for name, tensor in layer.named_parameters():
            np.testing.assert_allclose(parameters[name], tensor.detach().numpy(), rtol=1e-9, atol=1e-12)

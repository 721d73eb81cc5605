"""Normalisations beside PyTorch's layers of the same names."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import builders
from layer_alone import LayerAlone
from onotrain.nn.layers import BatchNorm, GroupNorm, LayerNorm

if find_spec("torch") is not None:
    import torch
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed"),
]

ROWS = 9
SHAPES = [(12,), (7, 12), (5, 4, 12), (3, 3, 6)]
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


def channels_first(array: np.ndarray) -> Any:
    return torch.tensor(np.moveaxis(array, -1, 1))


def compare(alone: LayerAlone, module: Any, x: np.ndarray, dy: np.ndarray, *, first: bool) -> None:
    """Compare values and gradients; `first`: PyTorch's channels come first."""
    dtype = str(alone.kernels.dtype)
    turned = channels_first if first else torch.tensor
    module = module.to(getattr(torch, dtype))
    with torch.no_grad():
        for name, value in alone.parameters.items():
            getattr(module, name).copy_(torch.tensor(value))
    theirs = turned(x).requires_grad_()
    out = module(theirs)
    out.backward(turned(dy))
    y, dx, gradients, saved = alone.pass_over(x, dy)

    def same(mine: Any, other: Any) -> None:
        other = other.detach().numpy()
        other = np.moveaxis(other, 1, -1) if first and other.ndim > 1 else other
        scale = max(1.0, np.abs(other).max())
        np.testing.assert_allclose(mine / scale, other / scale, rtol=0, atol=TOLERANCE[dtype])

    same(y, out)
    same(dx, theirs.grad)
    for name in ("weight", "bias"):
        if name in gradients:
            same(gradients[name], getattr(module, name).grad)
            same(saved[f"d{name}"].sum(axis=0), getattr(module, name).grad)


def arrays(shape: tuple[int, ...], dtype: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    x, dy = (3 + 2 * rng.normal(size=(ROWS, *shape)), rng.normal(size=(ROWS, *shape)))
    parameters = {name: rng.normal(size=shape[-1]) for name in ("weight", "bias")}
    return x.astype(dtype), dy.astype(dtype), parameters


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_layer_norm(shape: tuple[int, ...], dtype: str, affine: bool) -> None:
    """Over the last axis."""
    x, dy, parameters = arrays(shape, dtype)
    alone = LayerAlone(LayerNorm, shape, dtype, parameters if affine else {}, affine=affine, epsilon=1e-3)
    compare(alone, torch.nn.LayerNorm(shape[-1], eps=1e-3, elementwise_affine=affine), x, dy, first=False)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_group_norm(shape: tuple[int, ...], dtype: str, groups: int) -> None:
    if dtype == "float32" and np.prod(shape) == 2 * groups:
        pytest.skip("two values that lie close together: PyTorch's gradients have few right digits")
    x, dy, parameters = arrays(shape, dtype)
    affine = groups != 2
    alone = LayerAlone(GroupNorm, shape, dtype, parameters if affine else {}, affine=affine, groups=groups)
    compare(alone, torch.nn.GroupNorm(groups, shape[-1], affine=affine), x, dy, first=True)


def batch_norm(shape: tuple[int, ...], **options: Any) -> Any:
    return (torch.nn.BatchNorm2d if len(shape) == 3 else torch.nn.BatchNorm1d)(shape[-1], **options)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm(shape: tuple[int, ...], dtype: str, affine: bool) -> None:
    x, dy, parameters = arrays(shape, dtype)
    alone = LayerAlone(BatchNorm, shape, dtype, parameters if affine else {}, affine=affine)
    compare(alone, batch_norm(shape, affine=affine), x, dy, first=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_frozen_batch_norm_is_one_that_is_evaluated(shape: tuple[int, ...], dtype: str) -> None:
    x, dy, parameters = arrays(shape, dtype)
    rng = np.random.default_rng(1)
    parameters |= {"running_mean": rng.normal(size=shape[-1]), "running_var": rng.uniform(0.5, 4, shape[-1])}
    alone, module = LayerAlone(BatchNorm, shape, dtype, parameters), batch_norm(shape).eval().to(getattr(torch, dtype))
    module.load_state_dict({name: torch.tensor(value) for name, value in alone.parameters.items()}, strict=False)
    theirs = channels_first(x).requires_grad_()
    out = module(theirs)
    out.backward(channels_first(dy))
    y, dx, _, _ = alone.pass_over(x, dy, trained=False)
    for mine, other in ((y, out), (dx, theirs.grad), (alone.predict(x), out)):
        expected = np.moveaxis(other.detach().numpy(), 1, -1)
        np.testing.assert_allclose(mine, expected, rtol=0, atol=TOLERANCE[dtype] * np.abs(expected).max())


@pytest.mark.parametrize("momentum", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_running_moments_of_ten_batches(shape: tuple[int, ...], dtype: str, momentum: float) -> None:
    """Of what each batch leaves, by the rule of averaged tensors."""
    alone, module = LayerAlone(BatchNorm, shape, dtype, momentum=momentum), batch_norm(shape, momentum=momentum)
    module = module.to(getattr(torch, dtype))
    for step in range(10):
        x, dy, _ = arrays(shape, dtype, step)
        module(channels_first(x))
        _, _, gradients, _ = alone.pass_over(x, dy)
        for name, each in alone.layer.parameters.items():
            if each.averaged:
                alone.parameters[name] -= each.rate * gradients[name]
    for name in ("running_mean", "running_var"):
        np.testing.assert_allclose(alone.parameters[name], module.get_buffer(name), rtol=TOLERANCE[dtype] * 10)


def test_ten_steps_of_a_network() -> None:
    """All three kinds and dense layers: losses, parameters and running moments of ten SGD steps; then predictions."""
    rate = 0.1  # also the momentum, so that one rule moves all
    made = builders.config(
        {"batch_norm": {"momentum": rate}}, builders.relu(16), {"layer_norm": {}}, {"dense": 8}, {"group_norm": 2},
        {"activation": "tanh"}, {"batch_norm": {"momentum": rate}}, 3, training={"dtype": "float64"},
    )  # fmt: skip
    ours, nn = builders.model(made, 6), torch.nn
    theirs = nn.Sequential(
        nn.BatchNorm1d(6), nn.Linear(6, 16), nn.ReLU(), nn.LayerNorm(16), nn.Linear(16, 8), nn.GroupNorm(2, 8),
        nn.Tanh(), nn.BatchNorm1d(8), nn.Linear(8, 3),
    ).double()  # fmt: skip
    parameters, gradient, loss_sums = ours.layout.zeros(), ours.layout.zeros(), np.zeros(2)
    ours.initialize(parameters, seed=1)
    ours.bind(parameters, gradient)
    ours.reserve(20)
    named = [(name, each) for name, each in theirs.state_dict().items() if not name.endswith("num_batches_tracked")]
    state = [each for _, each in sorted(named, key=lambda item: "running" in item[0])]  # averages are the last of ours
    views = list(ours.layout.views(parameters).values())
    with torch.no_grad():
        for mine, other in zip(views, state, strict=True):
            other.copy_(torch.tensor(mine))
    optimizer = torch.optim.SGD(theirs.parameters(), lr=rate)
    rng = np.random.default_rng(3)
    for _ in range(10):
        x, targets = 5 + 3 * rng.normal(size=(20, 6)), rng.integers(0, 3, 20).astype(np.int32)
        loss_sums[:] = 0
        ours.kernels.program(ours.record(x, targets, 20, loss_sums, seed=0)).run(0)
        parameters -= rate * gradient
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(targets).long())
        loss.backward()
        optimizer.step()
        assert loss_sums[0] / 20 == pytest.approx(loss.item(), rel=1e-10)
    for mine, other in zip(views, state, strict=True):
        np.testing.assert_allclose(mine, other.numpy(), rtol=1e-8, atol=1e-10)

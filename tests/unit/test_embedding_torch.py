"""Embeddings beside PyTorch's: values, gradients, and ten steps of descent."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from onotrain import _kernels
from onotrain.config.optimizer import UPDATE_RULES
from onotrain.nn import ParameterLayout
from onotrain.optim import Optimizer
from stack import Stack

if find_spec("torch") is not None:
    import torch
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed"),
]

TOLERANCE = {"float32": 1e-5, "float64": 1e-6}
COUNTS = {1: 7, 3: 30}


def beside(dtype: str) -> tuple[Stack, list[Any], Any]:
    """Return a stack, PyTorch's embeddings with the same tables, and the samples as a tensor."""
    options = {"columns": {str(feature): count for feature, count in COUNTS.items()}, "width": 5}
    stack, rng = Stack([{"embedding": options}], (4,), 40, dtype), np.random.default_rng(2)
    for feature, count in COUNTS.items():
        stack.values[0][:, feature] = rng.integers(0, count, 40)
    layers = [torch.nn.Embedding.from_pretrained(torch.tensor(t), freeze=False) for t in stack.parameters[0].values()]
    return stack, layers, torch.tensor(stack.values[0])


def output(layers: list[Any], x: Any) -> Any:
    return torch.cat([*(layer(x[:, c].long()) for layer, c in zip(layers, COUNTS, strict=True)), x[:, [0, 2]]], dim=1)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_torch_gives_the_same_values_and_gradients(dtype: str) -> None:
    stack, layers, x = beside(dtype)
    y = output(layers, x)
    np.testing.assert_array_equal(stack.forward(), y.detach().numpy())
    dy = np.random.default_rng(3).standard_normal(y.shape).astype(dtype)
    y.backward(torch.tensor(dy))
    stack.backward(dy)
    for layer, mine in zip(layers, stack.dparameters[0].values(), strict=True):
        np.testing.assert_allclose(mine, layer.weight.grad.numpy(), rtol=0, atol=10 * TOLERANCE[dtype])


def test_ten_steps_of_descent_are_those_of_torch() -> None:
    stack, layers, x = beside("float64")
    optimizer = torch.optim.SGD([layer.weight for layer in layers], lr=3.0)
    target = np.random.default_rng(1).uniform(-1, 1, stack.values[-1].shape)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = ((output(layers, x) - torch.tensor(target)) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        error = stack.forward() - target
        assert float((error**2).mean()) == pytest.approx(losses[-1], rel=1e-9)
        stack.backward(2 * error / error.size)
        for table, dtable in zip(stack.parameters[0].values(), stack.dparameters[0].values(), strict=True):
            table -= 3.0 * dtable
    assert losses[-1] < 0.95 * losses[0], "steps that go nowhere would prove nothing"
    for layer, table in zip(layers, stack.parameters[0].values(), strict=True):
        np.testing.assert_allclose(table, layer.weight.detach().numpy(), rtol=0, atol=1e-9)


def torch_steps(name: str, table: np.ndarray, gradients: list[np.ndarray], rate: float) -> np.ndarray:
    """Return a table after steps with gradients of some rows, which PyTorch gets as sparse tensors."""
    parameter = torch.nn.Parameter(torch.tensor(table))
    kinds: dict[str, Any] = {"adam": torch.optim.SparseAdam, "sgd": torch.optim.SGD, "adagrad": torch.optim.Adagrad}
    options: dict[str, Any] = {"eps": 1e-8} if name != "sgd" else {}
    optimizer = kinds[name]([parameter], lr=rate, **options)
    for gradient in gradients:
        rows = np.flatnonzero(gradient.any(axis=1))
        parameter.grad = torch.sparse_coo_tensor(
            torch.tensor(rows[None]), torch.tensor(gradient[rows]), gradient.shape, check_invariants=True
        ).coalesce()
        optimizer.step()
    return parameter.detach().numpy()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.filterwarnings("ignore:.*[Ss]parse")
@pytest.mark.parametrize("name", ["sgd", "adam", "adagrad"])
def test_ten_updates_of_some_rows_are_those_of_sparse_optimizers(name: str, dtype: str) -> None:
    """Momenta of rows without a gradient do not decay; steps are counted for all rows alike, as in SparseAdam."""
    rng = np.random.default_rng(6)
    layout = ParameterLayout([("embedding_0/a", (30, 5)), ("embedding_0/b", (7, 3))], dtype, rows=["embedding_0/a"])
    table, gradients = rng.standard_normal((30, 5)).astype(dtype), []
    for _ in range(10):
        gradients.append((rng.standard_normal((30, 5)) * (rng.random((30, 1)) < 0.3)).astype(dtype))
    rule = UPDATE_RULES[name].model_validate({"name": name, **({} if name == "sgd" else {"eps": 1e-8})})
    optimizer = Optimizer(rule, None, _kernels.load(dtype))
    flat, gradient = layout.zeros(), layout.zeros()
    layout.views(flat)["embedding_0/a"][...] = table
    state = [layout.zeros() for _ in optimizer.state_names]
    shard = optimizer.shard(layout.tensors, slice(0, layout.size), flat, state)
    for number, each in enumerate(gradients, start=1):
        layout.views(gradient)["embedding_0/a"][...] = each
        optimizer.update(shard, gradient[np.newaxis].copy(), 0.1, number, lambda values: None)
    np.testing.assert_allclose(
        layout.views(flat)["embedding_0/a"], torch_steps(name, table, gradients, 0.1), rtol=0, atol=TOLERANCE[dtype]
    )

"""Losses of regressions beside PyTorch's of the same names: values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from builders import config
from onotrain import _kernels
from onotrain.nn.losses import build

if find_spec("torch") is not None:
    import torch
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed"),
]

ROWS, TARGETS = 7, 3
QUANTILES = [0.05, 0.5, 0.9]


def log_cosh(z: Any, t: Any) -> Any:
    return torch.log(torch.cosh(z - t))


def quantile(z: Any, t: Any) -> Any:
    error, q = t[:, :, None] - z.reshape(ROWS, TARGETS, -1), torch.tensor(QUANTILES, dtype=z.dtype)
    return torch.maximum(q * error, (q - 1) * error).sum(dim=2)


def poisson(z: Any, t: Any) -> Any:
    return torch.nn.PoissonNLLLoss(log_input=True, full=False, reduction="none")(z, t)


def gaussian_nll(z: Any, t: Any) -> Any:
    variance = 1e-2 + torch.exp(z[:, 1::2])
    return torch.nn.GaussianNLLLoss(eps=0, reduction="none")(z[:, ::2], t, variance)


#: By name: options, outputs for each target, and the loss of each target by PyTorch.
LOSSES: dict[str, tuple[dict[str, Any], int, Callable[[Any, Any], Any]]] = {
    "log_cosh": ({}, 1, log_cosh),
    "quantile": ({"quantiles": QUANTILES}, len(QUANTILES), quantile),
    "poisson": ({}, 1, poisson),
    "gaussian_nll": ({"min_variance": 1e-2}, 2, gaussian_nll),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_torch_has_the_same_loss_and_gradient(name: str, weighted: bool, dtype: str) -> None:
    options, count, theirs = LOSSES[name]
    rng = np.random.default_rng(4)
    logits = (2 * rng.normal(size=(ROWS, TARGETS * count))).astype(dtype)
    targets = (rng.poisson(3.0, (ROWS, TARGETS)) if name == "poisson" else rng.normal(size=(ROWS, TARGETS))).astype(
        dtype
    )
    rows = rng.uniform(0, 2, ROWS).astype(dtype) if weighted else None
    outputs = np.array([0.5, 0.0, 2.0], dtype) if weighted else None
    known = rng.random(targets.shape) < (0.7 if weighted else 2.0)

    z = torch.tensor(logits, requires_grad=True)
    factor = torch.tensor((1 if rows is None else rows[:, None] * outputs) * known)
    total = (theirs(z, torch.tensor(targets)) * factor).sum()
    (total / ROWS).backward()

    made = config(TARGETS * count, loss={"name": name, **options}, training={"dtype": dtype})
    loss = build(made.loss, made.model.outputs, _kernels.load(dtype))
    got, sums = np.empty_like(logits), np.zeros(2)
    loss(logits, np.where(known, targets, np.nan).astype(dtype), 1 / ROWS, got, sums, rows, outputs)
    tolerance = 1e-6 if dtype == "float64" else 1e-5
    assert sums[0] == pytest.approx(total.item(), rel=tolerance)
    np.testing.assert_allclose(got, z.grad.numpy(), rtol=tolerance, atol=tolerance / 10)

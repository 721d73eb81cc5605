"""Update rules beside PyTorch's optimisers of the same names."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from builders import OPTIMIZERS, update_rule
from onotrain import _kernels
from onotrain.config.optimizer import UpdateRule
from onotrain.optim import Optimizer, Shard

if find_spec("torch") is not None:
    import torch
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed"),
]

#: By name: PyTorch's optimiser, without learning rate and weight decay.  PyTorch has no LAMB and no Lion.
MAKE: dict[str, Callable[..., Any]] = {
    "sgd": lambda o, p, **all_have: torch.optim.SGD(p, momentum=o.momentum, nesterov=o.nesterov, **all_have),
    "adam": lambda o, p, **all_have: torch.optim.Adam(p, betas=o.betas, eps=o.eps, **all_have),
    "adamw": lambda o, p, **all_have: torch.optim.AdamW(p, betas=o.betas, eps=o.eps, **all_have),
    "rmsprop": lambda o, p, **all_have: torch.optim.RMSprop(
        p, alpha=o.alpha, eps=o.eps, momentum=o.momentum, **all_have
    ),
    "adagrad": lambda o, p, **all_have: torch.optim.Adagrad(p, eps=o.eps, **all_have),
    "nadam": lambda o, p, **all_have: torch.optim.NAdam(
        p, betas=o.betas, eps=o.eps, momentum_decay=o.momentum_decay, decoupled_weight_decay=o.decoupled, **all_have
    ),
}


def compare(rule: UpdateRule, steps: int) -> None:
    """Make steps of a rule and of PyTorch's, with the same gradients and defaults but for the decay."""
    rng = np.random.default_rng(3)
    param = rng.standard_normal(50)
    tensor = torch.nn.Parameter(torch.tensor(param))
    other = MAKE[rule.name](rule, [tensor], lr=rule.learning_rate, weight_decay=rule.weight_decay)
    optimizer = Optimizer(rule, None, _kernels.load("float64"))
    state = [np.zeros(50) for _ in optimizer.state_names]
    shard = Shard.of([], slice(0, 50), param, state)
    for number in range(1, steps + 1):
        gradient = rng.standard_normal((1, 50))
        tensor.grad = torch.tensor(gradient[0])
        other.step()
        optimizer.update(shard, gradient, rule.learning_rate, number, lambda values: None)
    np.testing.assert_allclose(param, tensor.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if OPTIMIZERS[name]["name"] in MAKE])
def test_torch_makes_the_same_steps(name: str) -> None:
    """With weight decay, at a rate at which 20 steps go far."""
    rule = update_rule(name, weight_decay=0.1, learning_rate=0.03)
    compare(rule, 20)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.9), (0.999, 0.999)])
@pytest.mark.parametrize("momentum_decay", [0.0, 4e-3, 1.0])
@pytest.mark.parametrize("decoupled", [False, True])
def test_momenta_of_nadam_are_those_of_torch(
    betas: tuple[float, float], momentum_decay: float, decoupled: bool
) -> None:
    """PyTorch multiplies them up step by step, in float32."""
    options = {"betas": betas, "momentum_decay": momentum_decay, "decoupled": decoupled, "weight_decay": 0.1}
    compare(update_rule("nadam", **options), 500)

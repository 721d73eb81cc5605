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
from onotrain.nn import ParameterLayout
from onotrain.optim import Optimizer

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
    """Make steps of a rule and of PyTorch's, with the same gradients and defaults but for the decay.

    Decay is meant for weights; without `decay_norm_and_bias` the biases are another group of PyTorch's.
    """
    rng = np.random.default_rng(3)
    names, biases = ["a/weight", "a/bias", "b/weight", "c/bias", "c/scale"], ["a/bias", "c/bias", "c/scale"]
    layout = ParameterLayout([(name, (10,)) for name in names], "float64", no_decay=biases)
    param, gradient = layout.zeros(), layout.zeros()
    for view in layout.views(param).values():
        view[:] = rng.standard_normal(10)
    tensors = {name: torch.nn.Parameter(torch.tensor(view)) for name, view in layout.views(param).items()}
    kept = [] if rule.decay_norm_and_bias else biases
    groups = [
        {"params": [tensor for name, tensor in tensors.items() if name not in kept]},
        {"params": [tensors[name] for name in kept], "weight_decay": 0.0},
    ]
    other = MAKE[rule.name](rule, groups, lr=rule.learning_rate, weight_decay=rule.weight_decay)
    optimizer = Optimizer(rule, None, _kernels.load("float64"))
    shard = optimizer.shard(
        layout.tensors, slice(0, layout.size), param, [layout.zeros() for _ in optimizer.state_names]
    )
    for number in range(1, steps + 1):
        for name, view in layout.views(gradient).items():
            view[:] = rng.standard_normal(10)
            tensors[name].grad = torch.tensor(view)
        other.step()
        optimizer.update(shard, gradient[None].copy(), rule.learning_rate, number, lambda values: None)
    for name, view in layout.views(param).items():
        np.testing.assert_allclose(view, tensors[name].detach().numpy(), rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("of_all", [True, False])
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if OPTIMIZERS[name]["name"] in MAKE])
def test_torch_makes_the_same_steps(name: str, of_all: bool) -> None:
    """With weight decay, of all parameters and of weights alone, at a rate at which 20 steps go far."""
    compare(update_rule(name, weight_decay=0.1, decay_norm_and_bias=of_all, learning_rate=0.03), 20)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.9), (0.999, 0.999)])
@pytest.mark.parametrize("momentum_decay", [0.0, 4e-3, 1.0])
@pytest.mark.parametrize("decoupled", [False, True])
def test_momenta_of_nadam_are_those_of_torch(
    betas: tuple[float, float], momentum_decay: float, decoupled: bool
) -> None:
    """PyTorch multiplies them up step by step, in float32."""
    options = {"betas": betas, "momentum_decay": momentum_decay, "decoupled": decoupled, "weight_decay": 0.1}
    compare(update_rule("nadam", **options), 500)

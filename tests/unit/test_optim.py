"""Learning-rate schedules, the judge of improvements, and the update rules on shards."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import builders
from builders import OPTIMIZERS, filled, update_rule
from onotrain.nn import ParameterLayout
from onotrain.optim import Improvement, Optimizer, Schedule, Shard

EPOCHS, STEPS = 12, 10


def schedule(spec: Any, batch_size: int = 64) -> Schedule:
    """Return the schedule of a configuration with base rate 0.1."""
    made = builders.config(data={"validation": 0.2}, schedule=spec, training={"epochs": EPOCHS})
    return Schedule(made.schedule, 0.1, batch_size, EPOCHS, STEPS)


def rates(spec: Any) -> list[float]:
    """Return the rate at the first step of each epoch."""
    made = schedule(spec)
    return [made.rate(epoch, epoch * STEPS) for epoch in range(EPOCHS)]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("constant", lambda e: 0.1),
        ({"name": "step", "every_epochs": 3, "factor": 0.5}, lambda e: 0.1 * 0.5 ** (e // 3)),
        ({"name": "multi_step", "milestones": [2, 7], "factor": 0.1}, lambda e: 0.1 * 0.1 ** ((e >= 2) + (e >= 7))),
        ({"name": "exponential", "factor": 0.9}, lambda e: 0.1 * 0.9**e),
        ({"name": "cosine", "min_factor": 0.1}, lambda e: 0.1 * (0.1 + 0.45 * (1 + math.cos(math.pi * e / EPOCHS)))),
    ],
)
def test_rates_by_epoch(spec: Any, expected: Any) -> None:
    """Closed forms, epochs counted from 0."""
    assert rates(spec) == pytest.approx([expected(epoch) for epoch in range(EPOCHS)], rel=1e-12)


def test_warm_up_rises_with_every_step_in_front_of_any_schedule() -> None:
    """From the start factor to the schedule's own rate, in the steps asked for."""
    made = schedule({"name": "step", "every_epochs": 1, "factor": 0.5, "warmup_steps": 4, "warmup_start": 0.2})
    assert [made.rate(0, step) for step in range(5)] == pytest.approx([0.04, 0.06, 0.08, 0.1, 0.1], rel=1e-12)
    by_epochs = schedule({"name": "constant", "warmup_epochs": 2})
    assert [by_epochs.rate(step // STEPS, step) for step in (0, 9, 19, 20)] == pytest.approx([0.005, 0.05, 0.1, 0.1])


def test_linear_scaling_rule() -> None:
    """The rate is proportional to the batch (Goyal et al. 2017)."""
    assert schedule({"name": "constant", "base_batch_size": 16}, batch_size=64).rate(0, 0) == pytest.approx(0.4)


def test_plateau_reduces_after_its_patience_and_survives_a_checkpoint() -> None:
    """Two epochs of patience: the third without improvement reduces; state goes through JSON-able data."""
    spec = {"name": "plateau", "patience": 2, "factor": 0.1, "min_delta": 0.01}
    made = schedule(spec)
    seen = []
    for value in (1.0, 0.9, 0.895, 0.9, 0.9, 0.5, float("nan"), 0.6, 0.6):
        made.observe(value)
        seen.append(round(made.rate(0, 0), 6))
        resumed = schedule(spec)
        resumed.restore(made.state())
        made = resumed
    assert seen == [0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01, 0.001]


@pytest.mark.parametrize(("mode", "sign"), [("min", 1), ("max", -1)])
def test_improvement(mode: str, sign: int) -> None:
    """Counts stale epochs; a change below min_delta and NaN are none."""
    judge = Improvement(mode, 0.1)
    verdicts = [judge.update(sign * value) for value in (1.0, 0.95, 0.8, float("nan"), 0.8, 0.5)]
    assert verdicts == [True, False, True, False, False, True]
    assert judge.best == sign * 0.5 and judge.stale_epochs == 0


def test_a_first_value_of_nan_is_no_best() -> None:
    """Otherwise nothing would ever be better."""
    judge = Improvement("min", 0.0)
    assert not judge.update(float("nan"))
    assert judge.update(3.0)


@pytest.mark.parametrize("clip", [None, 0.3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_number_of_shards_makes_the_same_update(name: str, clip: float | None) -> None:
    """Cutting the flat vector through tensors changes nothing, norms over tensors and clipping included."""
    training = {"clip_norm": clip, "dtype": "float64"}
    optimizer = builders.optimizer(builders.config(optimizer=OPTIMIZERS[name], training=training))
    layout = ParameterLayout([("a", (7, 9)), ("b", (3,)), ("c", (20, 5))], "float64")
    results = []
    for count in (1, 2, 3, 5):
        flat, gradient = filled(layout, 0), layout.zeros()
        state = {key: layout.zeros() for key in optimizer.state_names}
        parts = [layout.shard(i, count) for i in range(count)]
        shards = [
            optimizer.shard(layout.tensors, part, flat[part], [vector[part] for vector in state.values()])
            for part in parts
        ]
        for number in range(1, 4):
            gradient[:] = filled(layout, number)
            _update_together(optimizer, shards, [gradient[layout.shard(i, count)][None] for i in range(count)], number)
        results.append(flat)
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=1e-12, atol=1e-14)


def _update_together(optimizer: Optimizer, shards: list[Shard], gradients: list[np.ndarray], number: int) -> None:
    """Update all shards: one pass collects each shard's term of a sum, the next hands out the sum."""
    sums: list[np.ndarray] = []
    while True:
        before = [
            (shard.parameters.copy(), [vector.copy() for vector in shard.state], gradient.copy())
            for shard, gradient in zip(shards, gradients, strict=True)
        ]
        sums_of_shards = [_Sums(sums) for _ in shards]
        for shard, gradient, total in zip(shards, gradients, sums_of_shards, strict=True):
            optimizer.update(shard, gradient, 0.1, number, total)
        if sums_of_shards[0].term is None:
            return
        sums.append(np.sum([total.term for total in sums_of_shards], axis=0))
        for shard, gradient, (parameters, state, first) in zip(shards, gradients, before, strict=True):
            shard.parameters[:], gradient[:] = parameters, first
            for vector, values in zip(shard.state, state, strict=True):
                vector[:] = values


class _Sums:
    """Hands out the sums that are known, and keeps the shard's term of the first that is not."""

    def __init__(self, known: list[np.ndarray]) -> None:
        self._known = iter(known)
        self.term: np.ndarray | None = None

    def __call__(self, values: np.ndarray) -> None:
        total = next(self._known, None)
        if total is not None:
            values[...] = total
        elif self.term is None:
            self.term = values.copy()


@pytest.mark.parametrize("beta1", [0.0, 0.9, 0.999])
@pytest.mark.parametrize("momentum_decay", [0.0, 1e-12, 4e-3, 1.0])
def test_the_products_of_nadams_momenta_need_no_memory(beta1: float, momentum_decay: float) -> None:
    """Of any update, as multiplied up from the first."""
    rule = update_rule("nadam", betas=(beta1, 0.999), momentum_decay=momentum_decay)
    momenta = [beta1 * (1 - 0.5 * 0.96 ** (number * momentum_decay)) for number in range(1, 2002)]
    product = 1.0
    for number, (now, following) in enumerate(pairwise(momenta), start=1):
        product *= now
        expected = 0.01 * (1 - now) / (1 - product), 0.01 * following / (1 - product * following)
        assert rule.scalars(0.01, number)[:2] == pytest.approx(expected, rel=1e-12)

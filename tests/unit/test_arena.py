"""The memory of a node's ranks for a synchronous step, as far as one process can tell."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import builders
from onotrain.nn import ParameterLayout
from onotrain.strategies import Context, StepStatistics
from onotrain.strategies.allreduce import arena
from onotrain.strategies.telemetry import Clock


class no_barrier:  # noqa: N801 - in place of a function
    def __init__(self, world: Any, state: np.ndarray) -> None:
        self.waited = np.zeros(1)

    def __call__(self) -> None:
        pass


def test_ranks_without_a_shard_do_not_change_the_order_of_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes of 7 and of 9 ranks cut the vector into 7 shards: both must scale the gradient by the very same bits."""

    def zeros(node: Any, fields: Any) -> dict[str, np.ndarray]:
        return {name: np.zeros(shape, dtype) for name, (shape, dtype) in fields.items()}

    monkeypatch.setattr(arena, "allocate", zeros)
    monkeypatch.setattr(arena, "Barrier", no_barrier)
    made, layout, rng = builders.config(), ParameterLayout(builders.SHAPES, "float64"), np.random.default_rng(0)
    for _ in range(50):
        squares, found = rng.random(7), set()
        for ranks in (7, 9):
            world: Any = SimpleNamespace(node=SimpleNamespace(rank=6, size=ranks), shards=7, peers=None)
            node = arena.Arena(Context.of(made, world, layout, builders.optimizer(made)), Clock(), {})
            node.arrays["totals"][1, :7, 0] = squares
            value, statistics = squares[6:].copy(), StepStatistics()
            node.total(value)
            node.arrays["statistics"]["gradient_squares"][1, :7] = squares
            node.end(1, squares[6], statistics)
            found.add((float(value[0]), statistics.gradient_squares))
        assert len(found) == 1
        assert found.pop() == pytest.approx((squares.sum(), squares.sum()))

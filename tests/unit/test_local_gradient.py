"""A rank's gradient where its slices of batches keep changing: what is remembered of them is bounded."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from itertools import count
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import builders
from onotrain._kernels.recording import PythonCall
from onotrain.config import Config
from onotrain.data.batches import Batch
from onotrain.errors import DataError
from onotrain.nn import Model
from onotrain.strategies import BatchShape, StepStatistics
from onotrain.strategies.injection import Injection
from onotrain.strategies.telemetry import Telemetry
from onotrain.training.local_gradient import LocalGradient

#: More numbers of rows than are remembered, and more than may be.
ROWS, BOUND = 150, 64
CONFIG = builders.config(
    builders.relu(6), 3, loss="mse", training={"batch_size": ROWS, "dtype": "float64", "gradient_accumulation": 2}
)
RNG = np.random.default_rng(5)
FEATURES, TARGETS = RNG.normal(size=(ROWS, 4)), RNG.normal(size=(ROWS, 3))


class Network:
    """A network with its vectors."""

    def __init__(self, config: Config = CONFIG) -> None:
        self.model = builders.model(config, 4)
        self.parameters, self.gradient = self.model.layout.zeros(), self.model.layout.zeros()
        self.model.initialize(self.parameters, 1)
        self.model.bind(self.parameters, self.gradient)

    def expected(self, begin: int, end: int, samples: int) -> np.ndarray:
        """Return the gradient of some rows as memory that was made for them has it."""
        self.model.reserve(end - begin)
        x, targets = FEATURES[begin:end].copy(), TARGETS[begin:end].copy()
        calls = self.model.record(x, targets, samples, np.zeros(2), seed=0, begin=begin)
        self.model.kernels.program(calls).run(0)
        return self.gradient


def in_use(seen: list[weakref.ref[np.ndarray]]) -> list[bool]:
    gc.collect()
    return [reference() is not None for reference in seen]


def slices() -> Iterator[tuple[int, int]]:
    """Yield more slices than are remembered, and the first ones again."""
    sizes = [*range(1, ROWS + 1), 1, 2, 3]
    yield from ((ROWS - size, ROWS) for size in sizes)


#: A job of this process alone.
ALONE: Any = SimpleNamespace(comm=SimpleNamespace(rank=0, size=1), node=SimpleNamespace(size=1))


def strategy_of(network: Network, now: Callable[[], float] = perf_counter, **batches: Any) -> Any:
    """Return what a strategy has, with some of its slices' methods."""

    def bind(model: Model, shape: BatchShape) -> None:
        model.reserve(shape.rows)
        model.bind(network.parameters, network.gradient)

    whole = {"capacity": lambda samples: samples, "averaged": lambda samples: samples, "repartitions": 0}
    return SimpleNamespace(
        batches=SimpleNamespace(**(whole | batches)), telemetry=Telemetry(now), gradient_ready=None, bind=bind
    )  # fmt: skip


def test_a_rank_forgets_slices() -> None:
    """And measures with the clock of its strategy."""
    network, fresh = Network(), Network()
    seen: list[weakref.ref[np.ndarray]] = []
    observed: list[tuple[int, float]] = []
    own = Batch(0, 0)

    def fill(part: Batch, x: np.ndarray, targets: np.ndarray) -> None:
        x[:], targets[:] = FEATURES[part.begin : part.end], TARGETS[part.begin : part.end]

    def recorded(samples: int, part: Batch, x: np.ndarray, targets: np.ndarray, weights: None) -> list[Any]:
        seen.extend([weakref.ref(x), weakref.ref(targets)])
        return [PythonCall(fill, part, x, targets)]

    ticks = map(float, count())
    strategy = strategy_of(
        network, lambda: next(ticks), local=lambda batch: own,
        observe=lambda rows, seconds: observed.append((rows, seconds)),
    )  # fmt: skip
    feed: Any = SimpleNamespace(samples=ROWS, record=recorded, weighted=False, output_weights=None)
    statistics = StepStatistics()
    gradient = LocalGradient(CONFIG, ALONE, network.model, strategy, feed, Injection(), statistics)
    gradient.allocate()
    for step, (begin, end) in enumerate(slices()):
        own = Batch(begin, end)
        strategy.batches.repartitions = step
        statistics.clear()
        gradient(Batch(0, ROWS), step)
        np.testing.assert_allclose(network.gradient, fresh.expected(begin, end, ROWS), rtol=1e-12, atol=1e-15)
        assert statistics.samples == end - begin and observed[-1] == (end - begin, 1.0)
    found = in_use(seen)
    assert not any(found[:4]) and 0 < sum(found) <= 4 * BOUND


def test_a_slice_that_has_become_too_small_to_normalise_over_is_refused() -> None:
    """As a balance of the load may make it, where ranks train by themselves."""
    config = builders.config(3, {"batch_norm": {}}, 3, loss="mse", training={"batch_size": 8, "dtype": "float64"})
    network, rows = Network(config), 2
    strategy = strategy_of(
        network, local=lambda batch: Batch(0, rows), averaged=lambda samples: max(1, rows),
        observe=lambda rows, seconds: None,
    )  # fmt: skip
    feed: Any = SimpleNamespace(samples=8, record=lambda *arguments: [], weighted=False, output_weights=None)
    gradient = LocalGradient(config, ALONE, network.model, strategy, feed, Injection(), StepStatistics())
    gradient.allocate()
    gradient(Batch(0, 8), 0)
    rows, strategy.batches.repartitions = 1, 1
    with pytest.raises(DataError, match="need 2 samples or more in each: 8 samples with batch_size 8 leave 1 "):
        gradient(Batch(0, 8), 1)
    rows, strategy.batches.repartitions = 0, 2  # no batch at all
    gradient(Batch(0, 8), 2)

"""A parameter server whose workers' slices follow their throughput."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders import mapping, records, relu
from feeding import watch
from onotrain.data.batches import Batch
from onotrain.parallel.world import World
from onotrain.strategies.balance import BALANCED_STEPS, LocalSlices, apportion
from onotrain.training import train

pytestmark = [pytest.mark.mpi(min_size=2)]

SAMPLES, BATCH, STEPS = 1797, 50, 36


def config(balance: str, strategy: dict[str, Any], training: dict[str, Any] | None = None, **more: Any) -> Any:
    """Return a configuration of 36 steps an epoch."""
    return mapping(
        relu(32),
        {"dropout": 0.2},
        10,
        optimizer={"name": "adam", "learning_rate": 0.003},
        strategy={"name": "parameter_server", **strategy},
        training={"epochs": 2, "batch_size": BATCH, "load_balance": balance, **(training or {})},
        **more,
    )


def with_speeds(monkeypatch: pytest.MonkeyPatch, servers: int) -> None:
    """Let worker ``w`` seem to compute ``1000 / (1 + w)`` samples in a second."""
    observe = LocalSlices.observe

    def as_if(self: LocalSlices, rows: int, seconds: float) -> None:
        observe(self, rows, rows * (1 + self.world.rank - servers) / 1000.0)

    monkeypatch.setattr(LocalSlices, "observe", as_if)


def fair(workers: int) -> list[int]:
    """Return the rows of a full batch of workers of such speeds."""
    return apportion(BATCH, [round(2**32 / (1 + worker)) for worker in range(workers)])


class Watched:
    """What a rank computes, and after how many batches it synchronises with the others."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.positions: list[tuple[int, int]] = []
        self.rows: list[int] = []
        self.averaged: list[tuple[int, int]] = []
        self.synchronized: list[int] = []
        averaged, exchange = LocalSlices.averaged, LocalSlices.exchange

        def fetched(epoch: int, part: Batch, x: Any, targets: Any) -> None:
            self.positions += [(epoch, position) for position in range(part.begin, part.end)]
            self.rows.append(len(part))

        def noted(slices: LocalSlices, samples: int) -> int:
            self.averaged.append((len(slices.local(Batch(0, samples))), averaged(slices, samples)))
            return self.averaged[-1][1]

        def exchanged(slices: LocalSlices) -> None:
            self.synchronized.append(len(self.rows))
            exchange(slices)

        watch(monkeypatch, fetched)
        monkeypatch.setattr(LocalSlices, "averaged", noted)
        monkeypatch.setattr(LocalSlices, "exchange", exchanged)


@pytest.mark.parametrize(
    "options",
    [{"staleness": 0}, {"staleness": 2}, {"staleness": "unbounded"}, {"staleness": 2, "overlap": True}],
    ids=str,
)
def test_each_sample_is_seen_once_an_epoch(
    world: World, place: Path, servers: int, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """By slices that are even until the first synchronisation point, and fair then; a push is the mean of its rows."""
    with_speeds(monkeypatch, servers)
    watched = Watched(monkeypatch)
    summary = train(config("throughput", {**options, "servers": servers}), world.comm, output=place / "run").summary
    seen = Counter(position for each in world.comm.allgather(watched.positions) for position in each)
    assert seen == Counter({(epoch, position): 1 for epoch in range(2) for position in range(SAMPLES)})
    workers, worker = world.size - servers, world.rank - servers
    # At distances of 10 and 20 steps, and at the ends of the epochs.
    assert watched.synchronized == [10, 30, 36, 72]
    if worker >= 0:
        even = len(Batch(0, BATCH).slice(worker, workers))
        assert watched.rows[:10] == [even] * 10
        full = [rows for number, rows in enumerate(watched.rows, 1) if number % STEPS]
        assert full[10:] == [fair(workers)[worker]] * (len(full) - 10)
    else:
        assert set(watched.rows) == {0}
    if options["staleness"] == 0:
        assert {value for _, value in watched.averaged} == {BATCH, SAMPLES % BATCH}
    else:
        assert all(value == max(1, rows) for rows, value in watched.averaged)
    for record in records(place / "run"):
        assert record["rows"] == fair(workers)
        bound = options["staleness"]
        assert bound == "unbounded" or max(record["worker_leads"]) <= bound + 1
        assert record["staleness"]["gradients"] == workers * STEPS
    assert summary["steps"] == 2 * STEPS and summary["train_loss"] < 1.5


def test_synchronous_training_is_the_same(
    world: World, place: Path, servers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To rounding: the sum over the rows has another order."""
    with_speeds(monkeypatch, servers)
    losses = []
    for balance in ("none", "throughput"):
        made = config(balance, {"servers": servers}, {"dtype": "float64", "gradient_accumulation": 3})
        train(made, world.comm, output=place / balance)
        losses.append([record["train_loss"] for record in records(place / balance)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-9)
    assert "rows" not in records(place / "none")[-1]
    assert records(place / "throughput")[-1]["rows"] == fair(world.size - servers)


@pytest.mark.parametrize("staleness", [0, 3])
def test_a_resumed_run_goes_on_with_its_cut(
    world: World, place: Path, servers: int, monkeypatch: pytest.MonkeyPatch, staleness: int
) -> None:
    """From the first step on, before anything is measured anew."""
    strategy = {"servers": servers, "staleness": staleness}
    with monkeypatch.context() as patch:
        with_speeds(patch, servers)
        train(config("throughput", strategy, {"epochs": 1}), world.comm, output=place / "run")
    watched = Watched(monkeypatch)
    few = config("throughput", strategy, {"max_steps": STEPS + BALANCED_STEPS - 1})
    train(few, world.comm, output=place / "run", resume=True)
    worker = world.rank - servers
    mine = fair(world.size - servers)[worker] if worker >= 0 else 0
    assert watched.rows == [mine] * (BALANCED_STEPS - 1)


def test_a_slow_worker_gets_less(world: World, place: Path) -> None:
    """With what is measured: one that is to take eight times as long has less than its even share in the end."""
    workers = world.size - 1
    if workers == 1:
        pytest.skip("Test requires 3 MPI processes")
    slow = {"slow_ranks": [{"rank": world.size - 1, "factor": 8.0}]}
    made = config("throughput", {"staleness": "unbounded"}, {"batch_size": 240, "epochs": 8}, simulate=slow)
    train(made, world.comm, output=place / "run")
    rows = records(place / "run")[-1]["rows"]
    assert len(rows) == workers and sum(rows) == 240 and rows[-1] < 240 // workers

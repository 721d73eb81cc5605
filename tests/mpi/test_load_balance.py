"""Slices that follow the ranks' throughput, and slowness to order, in whole trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders import mapping, records, relu
from onotrain.errors import ConfigError, UsageError
from onotrain.optim import Optimizer, RecordedUpdate
from onotrain.parallel.world import World
from onotrain.strategies import injection
from onotrain.strategies.balance import BALANCED_STEPS, LocalSlices, apportion
from onotrain.training import train

pytestmark = pytest.mark.mpi
USUAL_RANKS = (2, 4)

STRATEGIES: dict[str, Any] = {
    "activations": {"name": "allreduce"},
    "gradients": {"name": "allreduce", "share": "gradients"},
    "flat": {"name": "flat"},
}


def config(balance: str = "none", training: dict[str, Any] | None = None, **sections: Any) -> dict[str, Any]:
    """Return a configuration of 12 steps an epoch."""
    training = {"epochs": 3, "batch_size": 120, "load_balance": balance} | (training or {})
    adam = {"name": "adam", "learning_rate": 0.01}
    data = {"validation": 0.2}
    return mapping(relu(32), {"dropout": 0.2}, 10, data=data, optimizer=adam, training=training, **sections)


def with_speeds(monkeypatch: pytest.MonkeyPatch, speeds: list[float]) -> None:
    """Let each rank seem to compute a number of samples in a second."""
    observe = LocalSlices.observe

    def as_if(self: LocalSlices, rows: int, seconds: float) -> None:
        observe(self, rows, rows / speeds[self.world.rank])

    monkeypatch.setattr(LocalSlices, "observe", as_if)


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_training_is_the_same(
    world: World, place: Path, monkeypatch: pytest.MonkeyPatch, strategy: str, accumulation: int
) -> None:
    """Whoever computes which rows; to the bit where the sum over the rows has one order for any slices."""
    speeds = [1000.0 / (1 + rank) for rank in range(world.size)]
    with_speeds(monkeypatch, speeds)
    summaries = []
    for balance in ("none", "throughput"):
        made = config(
            balance,
            {"dtype": "float64", "gradient_accumulation": accumulation},
            strategy=STRATEGIES[strategy],
        )
        summaries.append(train(made, world.comm, output=place / balance).summary)
    assert summaries[1]["train_loss"] == pytest.approx(summaries[0]["train_loss"], rel=1e-9)
    if strategy == "activations" and accumulation == 1:
        assert summaries[0]["parameters_sha256"] == summaries[1]["parameters_sha256"]
    even, balanced = ([record.get("rows") for record in records(place / name)] for name in ("none", "throughput"))
    assert even == [None] * 3
    fair = apportion(120, [round(speed / speeds[0] * 2**32) for speed in speeds])
    assert balanced == [fair] * 3 and sum(fair) == 120
    assert world.size == 1 or fair[0] > fair[-1]


def test_a_resumed_run_goes_on_with_its_cut(world: World, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In fewer steps than it takes to measure it anew; what can be computed by fewer ranks too begins evenly."""
    with_speeds(monkeypatch, [1000.0 / (1 + rank) for rank in range(world.size)])
    train(config("throughput", {"epochs": 1}), world.comm, output=place / "run")
    cut = records(place / "run")[-1]["rows"]
    monkeypatch.undo()
    few = config("throughput", {"epochs": 2, "max_steps": 12 + BALANCED_STEPS - 1})
    seen = []
    local = LocalSlices.local

    def remember(self: LocalSlices, batch: Any) -> Any:
        if len(batch) == 120:  # not an epoch's last batch, whose size is checked beforehand
            seen.append(len(local(self, batch)))
        return local(self, batch)

    monkeypatch.setattr(LocalSlices, "local", remember)
    train(few, world.comm, output=place / "run", resume=True)
    assert set(seen) == {cut[world.rank]}


def test_a_slow_rank_updates_less_too(world: World, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it computes the gradient of its part of the parameters for all rows; a resumed run begins with that."""
    with_speeds(monkeypatch, [1000.0 / (1 + rank) for rank in range(world.size)])
    updated: list[int] = []
    record = Optimizer.record

    def remember(self: Optimizer, updates: Any, steps: int) -> RecordedUpdate | None:
        updated.append(sum(len(shard.parameters) for _, shard in updates))
        return record(self, updates, steps)

    monkeypatch.setattr(Optimizer, "record", remember)
    train(config("throughput", {"epochs": 1}), world.comm, output=place / "run")
    sizes = world.comm.allgather(updated[-1])
    fair = apportion(sum(sizes), [2520 // (1 + rank) for rank in range(world.size)])
    assert np.abs(np.array(sizes) - fair).max() <= 80  # a row of the first layer, and gaps between tensors
    train(config("throughput", {"epochs": 2, "max_steps": 13}), world.comm, output=place / "run", resume=True)
    assert updated[-1] == sizes[world.rank]


def test_a_slow_rank_gets_less(world: World, place: Path) -> None:
    """With what is measured: a rank that is to take eight times as long has less than its even share in the end."""
    if world.size == 1:
        pytest.skip("Test requires 2 MPI processes")
    slow = {"slow_ranks": [{"rank": world.size - 1, "factor": 8.0}]}
    train(
        config("throughput", {"batch_size": 240, "epochs": 8}, simulate=slow, strategy="flat"),
        world.comm,
        output=place / "run",
    )
    rows = records(place / "run")[-1]["rows"]
    assert sum(rows) == 240 and rows[-1] < 240 // world.size


def test_ranks_that_train_alone_are_not_balanced(world: World, place: Path) -> None:
    """The reason is said where the configuration is read."""
    with pytest.raises(ConfigError, match=r"load_balance: needs .* or parameter_server \(got local_sgd\)"):
        train(config("throughput", strategy="local_sgd"), world.comm, output=place / "run")


@pytest.mark.parametrize("strategy", ["activations", "flat"])
def test_slow_ranks_show_and_change_nothing(
    world: World, place: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    """What they sleep is a multiple of what they compute, and counts as computing; not a bit of the result differs."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        real(seconds)

    real = injection.sleep
    monkeypatch.setattr(injection, "sleep", sleep)
    last = world.size - 1
    summaries = []
    for name, simulate in (("fast", None), ("slow", {"slow_ranks": [{"rank": last, "factor": 3.0}]})):
        made = config(strategy=STRATEGIES[strategy], simulate=simulate, training={"epochs": 2})
        summaries.append(train(made, world.comm, output=place / name).summary)
        # Twice in a step where the gradient of the weights is computed apart from that of the activations.
        stages = 2 if strategy == "activations" else 1
        assert len(slept) == (24 * stages if name == "slow" and world.rank == last else 0)
    assert summaries[0]["parameters_sha256"] == summaries[1]["parameters_sha256"]
    total = world.comm.bcast(sum(slept), root=last)
    # Two thirds of its time in the gradient, which is all it computes but for the update of `flat`.
    assert summaries[1]["ranks_seconds"]["compute"][last] >= 1.5 * total > 0.0


def test_jitter_changes_nothing_either(world: World, place: Path) -> None:
    """All ranks, every step."""
    made = [
        train(config(simulate=simulate), world.comm, output=place / name).summary["parameters_sha256"]
        for name, simulate in (("fast", None), ("uneven", {"jitter": 0.5}))
    ]
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("strategy", "messages"),
    [
        ({"name": "flat"}, 24),
        ({"name": "local_sgd", "period": 5}, 6),
        ({"name": "allreduce"}, 0),
        ({"name": "parameter_server"}, 22),
    ],
)
def test_a_slow_network_delays_each_exchange(
    world: World, place: Path, monkeypatch: pytest.MonkeyPatch, strategy: dict[str, Any], messages: int
) -> None:
    """Local SGD has fewer; ranks that share memory have none; no worker waits for a reply before it synchronises."""
    if strategy["name"] == "parameter_server":
        messages *= world.rank > 0
        if world.size == 1:
            pytest.skip("Test requires 2 MPI processes")
    slept: list[float] = []
    monkeypatch.setattr(injection, "sleep", slept.append)
    made = config(strategy=strategy, simulate={"delay_ms": 2000.0}, training={"epochs": 2})
    train(made, world.comm, output=place / "run")
    assert len(slept) == messages
    assert all(1.0 < seconds <= 2.0 for seconds in slept)


def test_a_slow_rank_that_does_not_exist(world: World, place: Path) -> None:
    """Nobody would notice that nothing is slow."""
    simulate = {"slow_ranks": [{"rank": world.size, "factor": 2.0}]}
    with pytest.raises(UsageError, match=f"there is no rank {world.size}, the job has {world.size}"):
        train(config(simulate=simulate), world.comm, output=place / "run")

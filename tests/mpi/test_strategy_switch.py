"""Switching between all-reduce and a parameter server within a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import builders
from builders import changed, filled, mapping, prepare, records, relu
from onotrain.config import Config
from onotrain.data.batches import Batch
from onotrain.nn import Model
from onotrain.parallel.world import World
from onotrain.strategies import StrategySwitch
from onotrain.strategies.parameter_server.replica import ServedReplica
from onotrain.training import train

pytestmark = [pytest.mark.mpi(min_size=2)]

BATCH = 60


def config(optimizer: Any = None, training: dict[str, Any] | None = None, **strategy: Any) -> dict[str, Any]:
    """Return a configuration of 24 steps an epoch."""
    return mapping(
        relu(24),
        {"dropout": 0.1},
        10,
        data={"validation": 0.2},
        optimizer=optimizer or {"name": "adam", "learning_rate": 3e-3},
        training={"epochs": 4, "batch_size": BATCH, **(training or {})},
        strategy={"name": "strategy_switch", **strategy},
    )


def make(world: World, optimizer: dict[str, Any], **strategy: Any) -> tuple[StrategySwitch, Model]:
    """Return a strategy, ready to train a model whose parameters and state are random."""
    made = Config.from_mapping(config(optimizer, **strategy))
    model = builders.model(made, 64)
    run = builders.strategy(made, world, model.layout)
    assert isinstance(run, StrategySwitch)
    prepare(run, BATCH, model)
    if world.rank == 0:
        for number, vector in enumerate((run.replica.parameters, *run.replica.optimizer_state.values())):
            vector[:] = np.abs(filled(model.layout, number))
    run.replica.broadcast()
    return run, model


def record(epoch: int, train_loss: float, **values: Any) -> dict[str, Any]:
    return {"epoch": epoch, "train_loss": train_loss, **values}


@pytest.mark.parametrize(
    "optimizer",
    [{"name": "sgd"}, {"name": "sgd", "momentum": 0.9}, {"name": "adam"}, {"name": "lamb"}],
    ids=["sgd", "momentum", "adam", "lamb"],
)
@pytest.mark.parametrize("servers", [1, 2])
def test_no_bit_changes_in_either_direction(world: World, optimizer: dict[str, Any], servers: int) -> None:
    """Parameters on all ranks and the optimiser's state on rank 0, there and back."""
    if world.size <= servers:
        pytest.skip("Test requires 3 MPI processes")
    server = {"name": "parameter_server", "servers": servers, "staleness": 0 if servers > 1 else "unbounded"}
    run, model = make(world, optimizer, at_epoch=1, server=server, switch_back={"patience": 1})
    before = (
        run.replica.parameters.copy(),
        {name: vector.copy() for name, vector in run.replica.optimizer_state.items()},
    )
    phases = []
    for number, loss in ((1, 1.0), (2, 1.0), (3, 2.0)):
        ended = record(number, 1.0, validation_loss=loss)
        if run.end_epoch(ended):
            prepare(run, BATCH, model)
        phases.append(ended["phase"])
        np.testing.assert_array_equal(run.replica.parameters, before[0])
        if world.rank == 0:
            assert run.replica.optimizer_state.keys() == before[1].keys()
            for name, vector in run.replica.optimizer_state.items():
                np.testing.assert_array_equal(vector, before[1][name])
    assert phases == ["synchronous", "server", "server"] and ended["switch"]["to"] == "synchronous"
    run.close()
    world.barrier()


def test_every_row_of_a_batch_is_some_ranks_in_both_phases(world: World) -> None:
    run, _ = make(world, {"name": "sgd"}, at_epoch=1)
    for switched in (False, True):
        parts = world.comm.allgather(run.batches.local(Batch(0, 60)))
        rows = sorted(row for part in parts for row in range(part.begin, part.end))
        assert rows == list(range(60))
        assert isinstance(run.replica, ServedReplica) == switched
        run.end_epoch(record(1, 1.0))
    run.close()
    world.barrier()


@pytest.mark.parametrize("staleness", [0, 2, "unbounded"])
def test_a_feed_may_rely_on_what_holds_in_both_phases(world: World, staleness: int | str) -> None:
    """Samples that are read together need a server that is synchronous too, which comes only later."""
    run, _ = make(world, {"name": "sgd"}, at_epoch=1, server={"staleness": staleness})
    assert run.batches.bulk_synchronous == (staleness == 0)
    run.close()
    world.barrier()


def test_the_rule_fires_at_the_epoch_computed_by_hand(world: World) -> None:
    """Window 3, threshold 0.1: (|0.5 - 1| / 1 + |0.48 - 0.5| / 0.5) / 2 = 0.27; then (0.04 + 0.0208) / 2 = 0.03."""
    run, _ = make(world, {"name": "adam"}, window=3, threshold=0.1)
    seen = []
    for number, loss in enumerate([1.0, 0.5, 0.48, 0.47, 0.47], start=1):
        ended = record(number, loss)
        run.end_epoch(ended)
        seen.append(ended["switch"])
    assert [event["to"] for event in seen] == [None, None, None, "server", None]
    assert seen[2]["s"] == pytest.approx(0.27)
    assert seen[3]["s"] == pytest.approx((0.02 / 0.5 + 0.01 / 0.48) / 2)
    assert seen[3]["reason"] == "the loss is stable"
    assert seen[4]["s_before"] == seen[3]["s"]
    assert seen[4]["s_after"] == seen[4]["s"] == pytest.approx((0.01 / 0.48) / 2)
    assert all("s_before" not in event for event in seen[:4])
    run.close()
    world.barrier()


NOT_FINITE = ["1 of the last 2 losses are not finite", *["1 of the last 3 losses are not finite"] * 2]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (0.0, [None, None, *["the loss rose from 0, or out of all proportion, within the last 3 epochs"] * 2]),
        (float("nan"), [None, *NOT_FINITE]),
        (float("inf"), [None, *NOT_FINITE]),
    ],
)
def test_a_loss_of_which_nothing_can_be_said_is_reported(world: World, bad: float, words: list[str | None]) -> None:
    """In every epoch whose window has it, and in no other."""
    run, _ = make(world, {"name": "sgd"}, window=3, threshold=0.5)
    for number, (loss, expected) in enumerate(zip([1.0, bad, 1.0, 1.0], words, strict=True), start=1):
        ended = record(number, loss)
        assert not run.end_epoch(ended)
        problem = ended["switch"]["problem"]
        assert problem is None if expected is None else problem.startswith(expected), (number, problem)
    ended = record(5, 1.0)
    assert run.end_epoch(ended)
    assert ended["switch"]["problem"] is None
    run.close()
    world.barrier()


@pytest.mark.parametrize("staleness", [0, 2, "unbounded"])
def test_a_run_switches_and_learns(world: World, place: Path, staleness: int | str) -> None:
    """The event is in metrics.jsonl, epochs are trained once, and the loss goes on falling."""
    server = {"name": "parameter_server", "staleness": staleness}
    train(config(at_epoch=2, server=server), world.comm, output=place / "run")
    if world.rank == 0:
        found = records(place / "run")
        assert [r["epoch"] for r in found] == [1, 2, 3, 4]
        assert [r["switch"]["to"] for r in found] == [None, "server", None, None]
        assert [r["phase"] for r in found] == ["synchronous", "synchronous", "server", "server"]
        losses = [r["validation_loss"] for r in found]
        assert losses == sorted(losses, reverse=True)
        assert found[-1]["validation_accuracy"] > 0.7
    world.barrier()


def test_a_run_goes_on_where_it_stopped(world: World, place: Path) -> None:
    """Stopped before, at and after the switch, with the synchronous server: as if it had not been."""
    server = {"name": "parameter_server", "staleness": 0}
    whole = config(at_epoch=2, server=server)
    expected = train(whole, world.comm, output=place / "whole")
    for steps in (20, 48, 60):
        train(changed(whole, training={"max_steps": steps}), world.comm, output=place / f"run-{steps}")
        result = train(whole, world.comm, output=place / f"run-{steps}", resume=True)
        assert result.summary["parameters_sha256"] == expected.summary["parameters_sha256"]
    world.barrier()

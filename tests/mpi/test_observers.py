"""Observers that end a run: by asking for it, and by failing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import onotrain
from builders import config, records, refused, relu
from every_strategy import STRATEGIES
from onotrain.config import Config
from onotrain.errors import ObserverError
from onotrain.parallel.world import World
from onotrain.training import train
from onotrain.training.observers import StepEnd

RANKS = (1, 3)


class Pruner(onotrain.Observer):
    """Stops after an epoch or a step."""

    def __init__(self, *, epoch: int = 0, step: int = 0) -> None:
        self.epoch, self.step = epoch, step

    def stepped(self, step: StepEnd) -> None:
        if 0 < self.step <= step.step:
            raise onotrain.Stop("enough steps")

    def epoch_ended(self, record: Mapping[str, Any]) -> None:
        if record["epoch"] == self.epoch:
            raise onotrain.Stop("no hope")


class Broken(onotrain.Observer):
    """Fails somewhere."""

    def __init__(self, where: str) -> None:
        self.where = where

    def started(self, start: Any) -> None:
        self._perhaps("started")

    def stepped(self, step: StepEnd) -> None:
        self._perhaps("stepped")

    def epoch_ended(self, record: Mapping[str, Any]) -> None:
        self._perhaps("epoch_ended")

    def ended(self, summary: Mapping[str, Any]) -> None:
        self._perhaps("ended")

    def _perhaps(self, where: str) -> None:
        if self.where == where:
            raise ZeroDivisionError("one by zero")


class Counter(onotrain.Observer):
    """Counts epochs."""

    def __init__(self) -> None:
        self.epochs = 0

    def epoch_ended(self, record: Mapping[str, Any]) -> None:
        self.epochs += 1


def digits(**sections: Any) -> Config:
    """Return a training of four epochs of 15 steps."""
    training = {"epochs": 4, "batch_size": 96}
    return config(relu(8), 10, data={"validation": 0.2}, **{"training": training, **sections})


def strategy_for(world: World, name: str) -> dict[str, Any]:
    """Return the options of a strategy, or skip the test."""
    options = STRATEGIES[name]
    if world.size <= (options.get("servers", 1) if options["name"] in ("parameter_server", "strategy_switch") else 0):
        pytest.skip("Test requires 3 MPI processes")
    return options


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_run_is_ended_after_an_epoch_and_goes_on(world: World, place: Path, strategy: str) -> None:
    made, counter = digits(strategy=strategy_for(world, strategy)), Counter()
    ended = train(made, world.comm, output=place / "run", observers=[Pruner(epoch=2), counter])
    assert (ended.summary["stopped_by"], ended.summary["epochs"]) == ("no hope", 2)
    assert not ended.summary["finished"]
    assert counter.epochs == (2 if world.rank == 0 else 0)  # the others are told, too
    assert len(records(place / "run")) == 2
    whole = train(made, world.comm, output=place / "run", resume=True)
    assert whole.summary["finished"] and "stopped_by" not in whole.summary
    if strategy == "allreduce":
        expected = train(made, world.comm, output=place / "whole").summary
        assert whole.summary["parameters_sha256"] == expected["parameters_sha256"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_run_is_ended_within_an_epoch(world: World, place: Path, strategy: str) -> None:
    made = digits(strategy=strategy_for(world, strategy))
    ended = train(made, world.comm, output=place / "run", observers=[Pruner(step=4)])
    assert ended.summary["stopped_by"] == "enough steps"
    steps = world.comm.allgather(ended.summary["steps"])
    assert len(set(steps)) == 1 and 5 <= steps[0] <= 15
    if strategy in ("allreduce", "flat"):
        assert steps[0] == 5
    whole = train(made, world.comm, output=place / "run", resume=True)
    assert whole.summary["finished"] and whole.summary["steps"] == 60


def test_a_stop_at_the_end_is_none(world: World, place: Path) -> None:
    ended = train(digits(), world.comm, output=place / "run", observers=[Pruner(epoch=4)])
    assert ended.summary["finished"] and "stopped_by" not in ended.summary


@pytest.mark.parametrize("where", ["started", "stepped", "epoch_ended", "ended"])
def test_a_failing_observer_ends_the_run_on_all_ranks(world: World, place: Path, where: str) -> None:
    error = refused(
        world, ObserverError, f"observer Broken failed in {where}: ZeroDivisionError: one by zero", digits(),
        world.comm, output=place / "run", observers=[Broken(where)],
    )  # fmt: skip
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ZeroDivisionError):
        cause = cause.__cause__
    assert (cause is not None) == (world.rank == 0)

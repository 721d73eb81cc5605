"""Steps that are made several at a time: nothing that a run leaves shows it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders import mapping, records
from onotrain.errors import NumericsError, StoppedOnRequest
from onotrain.parallel.stop_signals import StopRequest
from onotrain.parallel.world import World
from onotrain.training import train
from onotrain.training.observers import Observer, StepEnd, Stop
from onotrain.training.replay import Replay

#: What decides how a step of ranks that share memory ends.
UPDATES: dict[str, dict[str, Any]] = {
    "activations": {},
    "gradients": {"strategy": {"name": "allreduce", "share": "gradients"}},
    "clipped": {"training": {"clip_norm": 0.05}},
    "micro-batches": {"training": {"gradient_accumulation": 3}},
    "norms of tensors": {"optimizer": {"name": "lamb", "learning_rate": 0.01}},
    "frozen": {"model": {"freeze": ["dense_0"]}},
}


class EachStep(Observer):
    """Makes a run take its steps one by one."""

    def __init__(self) -> None:
        self.steps: list[StepEnd] = []

    def stepped(self, step: StepEnd) -> None:
        self.steps.append(step)


class SomeSteps(EachStep):
    each_step = False


def config(**sections: Any) -> dict[str, Any]:
    training = {"epochs": 2, "batch_size": 100, **sections.pop("training", {})}
    layers = [{"dense": {"units": 20, "activation": "relu"}}, {"dropout": 0.1}, {"dense": 10}]
    return mapping(*layers, training=training, **sections)


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of steps of each replay of this rank."""
    made: list[int] = []
    run = Replay.run

    def counted(self: Replay, *arguments: Any) -> np.ndarray:
        found = run(self, *arguments)
        made.append(len(found))
        return found

    monkeypatch.setattr(Replay, "run", counted)
    return made


@pytest.mark.parametrize("update", UPDATES)
def test_the_same_bits_as_step_by_step(world: World, place: Path, replays: list[int], update: str) -> None:
    options = UPDATES[update]
    many = train(config(**options), world.comm, output=place / "many").summary
    longest, replays[:] = max(replays, default=0), []
    watching = EachStep()
    one = train(config(**options), world.comm, output=place / "one", observers=[watching]).summary
    assert many["parameters_sha256"] == one["parameters_sha256"]
    for name in ("train_loss", "train_accuracy"):
        assert [record[name] for record in records(place / "many")] == [r[name] for r in records(place / "one")]
    if update == "norms of tensors":  # is Python's
        assert longest == 0 and not replays
    else:
        assert longest > 3 and set(replays) == {1}
    if world.rank == 0:
        assert [step.step for step in watching.steps] == list(range(1, one["steps"] + 1))


@pytest.mark.parametrize("lost", [1, 3, 9])
def test_a_replay_may_end_a_little_before_the_most_steps(
    world: World, place: Path, replays: list[int], monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    most, of = 16, Replay._of

    class Late:
        """A program whose time is over shortly before it has made the most steps, however busy the machine is."""

        def __init__(self, program: Any) -> None:
            self.program = program

        def run(self, step: int, position: int, steps: int, samples: int, seconds: float) -> int:
            return self.program.run(step, position, steps - lost if steps == most else steps, samples, math.inf)

    def late(self: Replay, samples: int) -> Any:
        recorded, program = of(self, samples)
        return recorded, Late(program)

    monkeypatch.setattr("onotrain.training.replay.MOST_STEPS", most)
    monkeypatch.setattr(Replay, "_of", late)
    train(config(training={"batch_size": 20}), world.comm, output=place)
    assert most - lost in replays and max(replays) < most


def test_who_need_not_see_each_step_sees_all_of_them(world: World, place: Path, replays: list[int]) -> None:
    each, some = EachStep(), SomeSteps()
    train(config(), world.comm, output=place / "some", observers=[some])
    longest = max(replays)
    train(config(), world.comm, output=place / "each", observers=[each])
    if world.rank == 0:
        assert longest > 3 and len(some.steps) < len(each.steps)
        for of in (lambda step: step.samples, lambda step: step.samples * step.loss):
            assert sum(map(of, some.steps)) == pytest.approx(sum(map(of, each.steps)))
        assert some.steps[-1].step == each.steps[-1].step


def test_an_observer_ends_a_run_after_the_step_that_it_saw(world: World, place: Path) -> None:
    class Fifth(EachStep):
        def stepped(self, step: StepEnd) -> None:
            if step.step == 5:
                raise Stop("enough")

    summary = train(config(), world.comm, output=place / "run", observers=[Fifth()]).summary
    assert summary["stopped_by"] == "enough" and summary["steps"] in (5, 6)


@pytest.mark.parametrize("rate", [1e30])
def test_a_divergence_is_seen_at_its_step(world: World, place: Path, rate: float, replays: list[int]) -> None:
    """And no step after it is made."""
    made = config(optimizer={"name": "sgd", "learning_rate": rate}, training={"epochs": 20})
    messages = []
    for observers in ([], [EachStep()]):
        with pytest.raises(NumericsError) as caught:
            train(made, world.comm, output=place / f"run-{len(messages)}", observers=observers)
        messages.append(caught.value.message)
    assert messages[0] == messages[1]


@pytest.mark.parametrize("limits", [{"max_steps": 17}, {"max_steps": 30}])
def test_a_replay_ends_where_something_is_due(world: World, place: Path, limits: dict[str, int]) -> None:
    """A limit of steps, a checkpoint by steps, and the short last batch of an epoch."""
    made = config(training=limits, checkpoint={"every_steps": 7})
    summary = train(made, world.comm, output=place / "run").summary
    assert summary["steps"] == limits["max_steps"]
    whole = train(config(training={"epochs": 3}), world.comm, output=place / "whole").summary
    rest = config(training={"epochs": 3}, checkpoint={"every_steps": 7})
    resumed = train(rest, world.comm, output=place / "run", resume=True).summary
    assert resumed["parameters_sha256"] == whole["parameters_sha256"]


def test_a_request_to_stop_within_a_replay(world: World, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one rank alone: all ranks stop after the same step, and the run goes on as if it had not been stopped."""
    run, seen = Replay.run, []

    def asked(self: Replay, *arguments: Any) -> np.ndarray:
        seen.append(1)
        if len(seen) == 3 and world.rank == world.size - 1:
            self._statistics.ask_to_stop()
            listening[0].signal = "SIGUSR1"
        return run(self, *arguments)

    listening: list[StopRequest] = []
    create = StopRequest.__init__

    def created(self: StopRequest) -> None:
        create(self)
        listening.append(self)

    monkeypatch.setattr(StopRequest, "__init__", created)
    with monkeypatch.context() as patch:
        patch.setattr(Replay, "run", asked)
        with pytest.raises(StoppedOnRequest) as caught:
            train(config(), world.comm, output=place / "run")
    assert len(set(world.comm.allgather(caught.value.message))) == 1
    whole = train(config(), world.comm, output=place / "whole").summary
    resumed = train(config(), world.comm, output=place / "run", resume=True).summary
    assert resumed["parameters_sha256"] == whole["parameters_sha256"]
    if world.rank == 0:
        assert json.loads((place / "run" / "summary.json").read_text())["finished"]

"""A run that is asked by files to save or to stop, and what it says of itself meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from builders import config, refused, relu
from onotrain.config import Config
from onotrain.errors import NumericsError, StoppedOnRequest
from onotrain.parallel.world import World
from onotrain.runs import live
from onotrain.runs.live import Request
from onotrain.runs.run_directory import RunDirectory
from onotrain.training import heartbeat, train
from onotrain.training.observers import Observer, StepEnd

RANKS = (1, 3)
#: Those whose state rank 0 has within an epoch, and those that have it at its end.
STRATEGIES: dict[str, dict[str, Any]] = {
    "allreduce": {"name": "allreduce"},
    "local_sgd": {"name": "local_sgd", "period": 7},
    "servers": {"name": "parameter_server", "servers": 2, "staleness": 0},
}
BATCH = 100
EPOCH_STEPS = 18


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.01)


class Asks(Observer):
    """Asks for something at a step, and makes no other one before that is heard."""

    def __init__(self, run: Path, request: Request, step: int) -> None:
        self._run, self._request, self._step = run, request, step
        self.heard_at: int | None = None

    def stepped(self, step: StepEnd) -> None:
        if step.step >= self._step and self.heard_at is None:
            live.ask(self._run, self._request)
            while live.asked(self._run, self._request):
                time.sleep(0.001)
            time.sleep(0.01)  # what is taken away is then done
            self.heard_at = step.step


def made(name: str) -> Config:
    training = {"epochs": 2, "batch_size": BATCH}
    return config(relu(8), 10, training=training, checkpoint={"every_epochs": 1000}, strategy=STRATEGIES[name])


def events(run: Path) -> list[dict[str, Any]]:
    return RunDirectory.open(run).events.rows()


def test_requests_change_no_bit(world: World, place: Path) -> None:
    """Of a run that is asked to save, and of one that is asked to stop and is resumed."""
    for name in STRATEGIES:
        if name == "servers" and world.size == 1:
            continue
        whole = train(made(name), world.comm, output=place / f"{name}-whole").summary
        for request in Request:
            run = place / f"{name}-{request}"
            asks = Asks(run, request, 5)
            observers = [asks] if world.rank == 0 else []
            if request is Request.STOP:
                refused(world, StoppedOnRequest, "on request", made(name), world.comm, output=run, observers=observers)
                if world.rank == 0:
                    live.ask(run, request)  # nobody is there to hear it
                world.barrier()
            found = train(made(name), world.comm, output=run, resume=request is Request.STOP, observers=observers)
            assert found.summary["parameters_sha256"] == whole["parameters_sha256"], run
            if world.rank == 0:
                check_events(run, asks, within=name != "servers")
            world.barrier()


def check_events(run: Path, asks: Asks, *, within: bool) -> None:
    """Check what has happened; `within`: the run has saved when it was asked, not at the end of the epoch."""
    found = events(run)
    kinds, saved = [event["event"] for event in found], [event["step"] for event in found if event["event"] == "saved"]
    assert asks.heard_at is not None and asks.heard_at <= saved[0] and kinds[-1] == "ended"
    if "stopped" in kinds:
        assert kinds == ["started", "asked", "saved", "stopped", "resumed", "saved", "ended"]
        assert found[3]["exit_code"] == 75 and saved[0] < EPOCH_STEPS
    else:
        assert kinds == ["started", "asked", "saved", "saved", "ended"]
        assert saved[0] < EPOCH_STEPS if within else saved[0] == EPOCH_STEPS
    assert RunDirectory.open(run).checkpoint("latest").warnings == []


def test_an_error_is_an_event(world: World, place: Path) -> None:
    diverging = config(relu(8), 10, optimizer={"name": "sgd", "learning_rate": 1e30})
    refused(world, NumericsError, "diverged", diverging, world.comm, output=place / "run")
    if world.rank == 0:
        last = events(place / "run")[-1]
        assert (last["event"], last["exit_code"]) == ("failed", 5) and "diverged" in last["message"]


class Reads(Observer):
    """Reads where the run stands while it stands still."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self.found: Mapping[str, Any] = {}

    def stepped(self, step: StepEnd) -> None:
        end = time.monotonic() + 30.0
        while not self.found and step.step == 3 and time.monotonic() < end:
            progress = live.read_progress(self._run) or {}
            self.found = progress if progress.get("step") == 3 else {}


def test_where_a_run_stands(world: World, place: Path) -> None:
    reads = Reads(place / "run")
    train(made("allreduce"), world.comm, output=place / "run", observers=[reads] if world.rank == 0 else [])
    if world.rank == 0:
        found, end = reads.found, json.loads((place / "run" / "progress.json").read_text())
        assert (found["epoch"], found["epochs"], found["phase"]) == (1, 2, "training")
        assert found["position"] == 3 * BATCH and found["train_loss"] > 0 and found["seconds_left"] > 0
        assert found["ranks"]["rank"] == list(range(world.size)) and found["ranks"]["step"][0] == 3
        assert (end["step"], end["phase"], end["seconds_left"]) == (2 * EPOCH_STEPS, "ending", 0.0)


def test_what_cannot_be_written_ends_no_run(world: World, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no permission, say, for these two files alone."""
    if world.rank == 0:
        monkeypatch.setattr(live, "PROGRESS_NAME", "missing/progress.json")
        monkeypatch.setattr(live, "EVENT_LOG_NAME", "missing/events.jsonl")
    assert train(made("allreduce"), world.comm, output=place / "run").summary["finished"]

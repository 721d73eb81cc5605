"""Whole trainings with a parameter server: against allreduce, stopped and resumed, diverged, with too few samples."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders import at_start, changed, mapping, refused, relu, write_digits
from onotrain.errors import NumericsError, StoppedOnRequest, UsageError
from onotrain.parallel.world import World
from onotrain.training import train
from onotrain.training.components import Components
from onotrain.training.observers import Observer, StepEnd

pytestmark = [pytest.mark.mpi(min_size=2)]
USUAL_RANKS = (2, 4)

CONFIG = mapping(
    relu(12),
    {"dropout": 0.1},
    10,
    data={"validation": 0.2},
    optimizer={"name": "adam", "learning_rate": 3e-3},
    training={"epochs": 3, "batch_size": 60},
    checkpoint={"every_steps": 7},
)


class Losses(Observer):
    """Keeps the losses of all steps."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def stepped(self, step: StepEnd) -> None:
        self.losses.append(step.loss)


def trained(
    world: World, output: Path, training: dict[str, Any], data: dict[str, Any] | None = None, **strategy: Any
) -> tuple[dict[str, Any], list[float]]:
    """Train on the digits; return the summary and the losses of the steps, the same on all ranks."""
    losses = Losses()
    configuration = changed(CONFIG, training=training, data=data or {}, strategy=strategy)
    resume = output.exists()
    world.barrier()
    result = train(configuration, world.comm, output=output, resume=resume, observers=[losses])
    return dict(result.summary), world.comm.bcast(losses.losses, root=0)


def shared_segments() -> set[tuple[str, int]]:
    """Return the node's shared memory that this process has: descriptors, and which file each is."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        path = f"/proc/self/fd/{name}"
        if os.path.lexists(path) and "memfd:onotrain" in os.readlink(path):
            found.add((name, os.stat(path).st_ino))
    return found


@pytest.mark.parametrize(
    "strategy",
    [
        {"name": "parameter_server"},
        {"name": "parameter_server", "push_every": 4},
        {"name": "strategy_switch", "at_epoch": 1},
        {"name": "allreduce"},
    ],
    ids=str,
)
def test_a_run_gives_back_its_memory_without_the_collector(world: World, place: Path, strategy: dict[str, Any]) -> None:
    """What refers to itself would stay until Python looks for cycles, a node's shared memory with it."""
    gc.collect()
    gc.disable()
    try:
        before = shared_segments()
        trained(world, place / "run", {"epochs": 2}, **strategy)
        assert shared_segments() <= before
    finally:
        gc.enable()


@pytest.mark.parametrize("staleness", [0, 1, "unbounded"])
def test_a_worker_without_samples_pushes_nothing_that_counts(world: World, place: Path, staleness: int | str) -> None:
    """Batches of 3 samples, 1 at the epoch's end, for up to 4 workers; each counts in the loss that is reported."""
    strategy = {"name": "parameter_server", "staleness": staleness}
    write_digits(world, place / "digits.h5", samples=301)
    data = {"train": str(place / "digits.h5"), "validation": None}
    summary, losses = trained(world, place / "run", {"batch_size": 3, "epochs": 1}, data, **strategy)
    assert summary["steps"] == len(losses) == 101
    assert summary["train_loss"] == pytest.approx((3 * sum(losses[:-1]) + losses[-1]) / 301)
    assert np.mean(losses[-25:]) < np.mean(losses[:25])


@pytest.mark.parametrize("later", [False, True])
def test_too_few_ranks_are_refused_on_all(world: World, place: Path, later: bool) -> None:
    """Before anything is made, even if servers are to come later; all ranks are still in step."""
    strategy: dict[str, Any] = {"name": "parameter_server", "servers": world.size}
    if later:
        strategy = {"name": "strategy_switch", "server": strategy}
    match = rf"needs {world.size + 1} ranks or more \(got {world.size}\)"
    refused(world, UsageError, match, changed(CONFIG, strategy=strategy), world.comm, output=place / "run")


def test_synchronous_training_is_that_of_allreduce(world: World, place: Path, servers: int) -> None:
    """Losses of all steps, and validation; accumulated gradients change nothing."""
    ends = []
    for number, (strategy, micro_batches) in enumerate(
        [
            ({"name": "allreduce", "share": "gradients"}, 1),
            ({"name": "parameter_server", "servers": servers}, 1),
            ({"name": "parameter_server", "servers": servers}, 3),
        ]
    ):
        ends.append(trained(world, place / str(number), {"gradient_accumulation": micro_batches}, **strategy))
    for summary, losses in ends[1:]:
        np.testing.assert_allclose(losses, ends[0][1], rtol=1e-3)
        assert len(losses) == summary["steps"] == 72
        assert summary["validation_loss"] == pytest.approx(ends[0][0]["validation_loss"], rel=1e-3)


@pytest.mark.parametrize("staleness", [0, 2, "unbounded"])
def test_a_run_goes_on_from_its_checkpoint(world: World, place: Path, servers: int, staleness: int | str) -> None:
    """After 31 of 72 steps; synchronous training has the same bits as without a break."""
    strategy = {"name": "parameter_server", "servers": servers, "staleness": staleness}
    stopped, losses = trained(world, place / "run", {"max_steps": 31}, **strategy)
    assert stopped["steps"] == len(losses) == 31 and not stopped["finished"]
    gone_on, more = trained(world, place / "run", {}, **strategy)
    assert gone_on["steps"] == 72 and len(more) == 41 and gone_on["finished"]
    assert gone_on["train_loss"] < 0.5 * losses[0]
    if staleness == 0:
        whole, all_losses = trained(world, place / "whole", {}, **strategy)
        assert losses + more == all_losses
        assert gone_on["parameters_sha256"] == whole["parameters_sha256"]


@pytest.mark.parametrize("staleness", [0, 1])
def test_divergence_is_everyones(world: World, place: Path, servers: int, staleness: int) -> None:
    """Exit code 5 on all ranks, and no checkpoint of it."""
    made = changed(
        CONFIG,
        data={"validation": None, "normalize": {"mean": 0.0, "std": 1e-6}},
        strategy={"name": "parameter_server", "servers": servers, "staleness": staleness},
        optimizer={"name": "sgd", "learning_rate": 1e30},
    )
    refused(world, NumericsError, "diverged at step", made, world.comm, output=place / "run")


@pytest.mark.parametrize("staleness", [0, 1])
def test_streamed_samples_need_synchronous_steps(world: World, place: Path, staleness: int) -> None:
    """A worker that is ahead would let blocks be read over those that another still needs."""
    write_digits(world, place / "digits.h5")
    data = {"train": str(place / "digits.h5"), "validation": None, "stream": True}
    made = changed(CONFIG, data=data, strategy={"name": "parameter_server", "staleness": staleness})
    if staleness == 0:
        assert train(made, world.comm, output=place / "run").summary["finished"]
    else:
        refused(world, UsageError, "streamed samples need", made, world.comm, output=place / "run")


def test_a_request_to_stop_saves_and_goes_on(
    world: World, place: Path, servers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one worker, in the middle of an epoch."""
    strategy = {"name": "parameter_server", "servers": servers, "staleness": 2}

    def ask(components: Components) -> None:
        if world.rank == world.size - 1:
            components.stop.signal = "SIGUSR1"

    with monkeypatch.context() as patch:
        at_start(patch, ask)
        with pytest.raises(StoppedOnRequest) as caught:
            trained(world, place / "run", {}, **strategy)
        assert len(set(world.comm.allgather(caught.value.message))) == 1
    summary, _ = trained(world, place / "run", {}, **strategy)
    assert summary["finished"] and summary["steps"] == 72

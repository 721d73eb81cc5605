"""Records within an epoch: ``metrics.every_steps``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builders import mapping, relu
from onotrain.parallel.world import World
from onotrain.runs.run_directory import RunDirectory
from onotrain.training import train

pytestmark = pytest.mark.mpi

#: 1,437 samples of the digits: 45 steps an epoch, the last one of fewer samples.
SAMPLES, BATCH, STEPS = 1438, 32, 45


def config(every: int | None, strategy: Any = "allreduce", **training: Any) -> dict[str, Any]:
    sections = {"training": {"epochs": 2, "batch_size": BATCH, **training}, "metrics": {"every_steps": every}}
    return mapping(relu(8), 10, data={"train": "digits", "validation": 0.2}, strategy=strategy, **sections)


def rows(run: Path) -> list[dict[str, Any]]:
    return RunDirectory.open(run).step_records()


@pytest.mark.parametrize("strategy", ["allreduce", "flat", "local_sgd"])
def test_all_samples_of_an_epoch_are_in_its_records(world: World, place: Path, strategy: str) -> None:
    """The means of the records are those of the epoch, where the last record comes with its last step."""
    result = train(config(5, strategy), world.comm, output=place / "run")
    if world.rank == 0:
        found, epochs = rows(place / "run"), RunDirectory.open(place / "run").records()
        assert [row["step"] for row in found][-1] == 2 * STEPS
        assert sum(row["samples"] for row in found) == 2 * SAMPLES
        if strategy == "allreduce":
            assert [row["step"] for row in found] == list(range(5, 2 * STEPS + 1, 5))
        for epoch in epochs:
            mine = [row for row in found if row["epoch"] == epoch["epoch"]]
            mean = sum(row["train_loss"] * row["samples"] for row in mine) / SAMPLES
            assert mean == pytest.approx(epoch["train_loss"], rel=1e-12)
            right = sum(row["train_accuracy"] * row["samples"] for row in mine) / SAMPLES
            assert right == pytest.approx(epoch["train_accuracy"], rel=1e-12)
        for earlier, later in zip(found, found[1:], strict=False):
            assert later["train_seconds"] > earlier["train_seconds"]
            assert later["wall_seconds"] > earlier["wall_seconds"]
        assert found[-1]["wall_seconds"] < result.summary["wall_seconds"]
    world.barrier()


def test_records_change_nothing(world: World, place: Path) -> None:
    digests = {
        train(config(every), world.comm, output=place / str(every)).summary["parameters_sha256"] for every in (None, 7)
    }
    assert len(digests) == 1
    assert world.rank > 0 or not (place / "None" / "steps.jsonl").exists()


def test_a_resumed_run_has_the_records_of_one_that_was_not_stopped(world: World, place: Path) -> None:
    train(config(4, max_steps=50), world.comm, output=place / "run")
    if world.rank == 0:  # of steps that are made again, after a kill
        with open(place / "run" / "steps.jsonl", "a") as file:
            file.write(json.dumps({**rows(place / "run")[-1], "step": 52}) + '\n{"torn')
    world.barrier()
    train(config(4), world.comm, output=place / "run", resume=True)
    train(config(4), world.comm, output=place / "whole")
    if world.rank == 0:
        names = ("epoch", "step", "learning_rate")
        found, expected = rows(place / "run"), rows(place / "whole")
        assert [[row[name] for name in names] for row in found] == [[row[name] for name in names] for row in expected]
        losses = [row["train_loss"] for row in expected if row["step"] != 52]
        assert [row["train_loss"] for row in found if row["step"] != 52] == pytest.approx(losses, rel=1e-12)
    world.barrier()

"""A second run into the directory of another one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builders import config, records, refused, relu
from onotrain.config import Config
from onotrain.errors import UsageError
from onotrain.parallel.world import World
from onotrain.runs.lock import RunLock
from onotrain.runs.run_directory import RunDirectory
from onotrain.training import train

RANKS = (1, 3)


def digits(epochs: int = 1, units: int = 8, origin: Path | None = None) -> Config:
    """Return a small training."""
    model = {} if origin is None else {"from": str(origin)}
    return config(relu(units), 10, training={"epochs": epochs, "batch_size": 300}, model=model)


def test_what_to_do_is_said(world: World, place: Path) -> None:
    train(digits(), world.comm, output=place / "run")
    error = refused(world, UsageError, "holds a finished run already", digits(), world.comm, output=place / "run")
    for word in ("--resume", "--overwrite", "--output", "overwrite=True"):
        assert word in str(error.hint)


def test_a_run_is_replaced_and_other_files_stay(world: World, place: Path) -> None:
    train(digits(3), world.comm, output=place / "run")
    if world.rank == 0:
        (place / "run" / "predictions.csv").write_text("mine")
    world.barrier()
    again = train(digits(1, units=6), world.comm, output=place / "run", overwrite=True)
    assert len(records(place / "run")) == 1 and again.summary["epochs"] == 1
    run = RunDirectory.open(place / "run")
    assert [path.name for path in run.store().paths()] == ["step-000000006.h5"]
    assert run.checkpoint().checkpoint.metadata["parameters_sha256"] == again.summary["parameters_sha256"]
    assert json.loads((place / "run" / "summary.json").read_text())["epochs"] == 1
    assert (place / "run" / "predictions.csv").read_text() == "mine"


def test_where_nothing_is_nothing_is_replaced(world: World, place: Path) -> None:
    train(digits(), world.comm, output=place / "new", overwrite=True)
    if world.rank == 0:
        (place / "other").mkdir()
        (place / "other" / "thesis.tex").write_text("mine")
    world.barrier()
    refused(world, UsageError, "not a run", digits(), world.comm, output=place / "other", overwrite=True)
    assert (place / "other" / "thesis.tex").read_text() == "mine"


def test_what_is_in_use_or_begun_with_is_not_replaced(world: World, place: Path) -> None:
    train(digits(), world.comm, output=place / "run")
    for origin in (place / "run", place / "run" / "checkpoints" / "step-000000006.h5"):
        made = digits(origin=origin)
        refused(world, UsageError, "begins with its parameters", made, world.comm, output=place / "run", overwrite=True)
    held = RunLock(place / "run") if world.rank == 0 else None
    world.barrier()
    refused(world, UsageError, "in use by", digits(), world.comm, output=place / "run", overwrite=True)
    if held is not None:
        held.release()
    assert RunDirectory.open(place / "run").summary() is not None


def test_not_both(world: World, place: Path) -> None:
    with pytest.raises(UsageError, match="either resumed or overwritten"):
        train(digits(), world.comm, output=place / "run", resume=True, overwrite=True)

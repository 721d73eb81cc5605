"""Trainings and predictions that stream several HDF5 or Parquet files, against the same ones in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import builders
from builders import mapping, refused, relu
from feeding import batches, fill
from many_files import COLUMNS, ROWS, write_hdf5, write_parquet
from onotrain import _kernels
from onotrain.data import streams
from onotrain.data.dataset import DataSpec
from onotrain.data.hdf5_stream import Hdf5Stream
from onotrain.data.normalization import Normalization
from onotrain.data.sources import load_dataset
from onotrain.data.stream_feed import StreamFeed
from onotrain.errors import DataError
from onotrain.inference.evaluation import evaluate
from onotrain.inference.job import predict_file
from onotrain.parallel.shared_memory import allocate
from onotrain.parallel.world import World
from onotrain.training import train

pytestmark = pytest.mark.mpi
RANKS = (1, 2, 4)
USUAL_RANKS = (1, 4)

CONFIG = mapping(
    relu(6), 1, loss="mse", optimizer={"name": "adam", "learning_rate": 0.01},
    training={"epochs": 3, "batch_size": 32},
)  # fmt: skip


@pytest.fixture
def files(world: World, place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven files of each kind, whose blocks are small, in a directory that all ranks know."""
    monkeypatch.setattr(streams, "BLOCK_BYTES", 500)
    if world.rank == 0:
        write_hdf5(place, names=True, weights=True)
        write_parquet(place, holes=True)
    world.barrier()
    return place


def config(place: Path, kind: str, **data: Any) -> dict[str, Any]:
    """Return a regression on the files."""
    of_kind: dict[str, Any] = (
        {"features": "x", "targets": "y", "normalize": "standard"}
        if kind == "h5"
        else {"columns": COLUMNS, "targets": "price", "missing_targets": "drop"}
    )
    section = {"train": str(place / f"part-*.{kind}"), "normalize_targets": "standard", "weights": "w"}
    return builders.changed(CONFIG, data=section | of_kind | data)


@pytest.mark.parametrize("kind", ["h5", "parquet"])
@pytest.mark.parametrize("parts", [{"validation": 0.2, "test": 0.1}, {"validation": "part-3"}])
def test_the_run_is_that_of_memory_where_a_window_holds_all(
    world: World, files: Path, kind: str, parts: dict[str, Any]
) -> None:
    """To the bit: the same preparation, parts, weights, order of the samples, losses, predictions."""
    if isinstance(parts["validation"], str):
        parts = {"validation": str(files / f"{parts['validation']}.{kind}")}
    summaries, lines = [], []
    for stream in (False, True):
        net = files / f"run-{stream}"
        train(config(files, kind, stream=stream, **parts), world.comm, output=net)
        if world.rank == 0:
            summary = json.loads((net / "summary.json").read_text())
            summaries.append({key: value for key, value in summary.items() if "loss" in key or "sha256" in key})
        for streamed in (False, True):
            found = evaluate(net, DataSpec(str(files / f"part-[0-4].{kind}")), stream=streamed)
            output = files / f"{stream}-{streamed}.csv"
            predict_file(net, DataSpec(str(files / f"part-*.{kind}")), output, stream=streamed)
            if world.rank == 0:
                lines.append((str(found.metrics if found else None), output.read_text()))
    if world.rank == 0:
        assert summaries[0] == summaries[1]
        assert all(line == lines[0] for line in lines[1:])
        assert len(lines[0][1].splitlines()) == 1 + ROWS
        assert lines[0][1].startswith("name," if kind == "parquet" else "")


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("batch_size", [10, 60])
def test_every_sample_once_an_epoch(
    world: World, files: Path, batch_size: int, split: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From windows of a few blocks, which are files, parts of files, and runs of small files."""
    monkeypatch.setattr("onotrain.data.stream_feed._MIB", 600)
    spec = DataSpec(str(files / "part-*.h5"), features="x", targets="y")
    whole = load_dataset(spec).features
    index = np.flatnonzero(np.arange(ROWS) % 5) if split else None
    feed = StreamFeed(
        world.node, lambda fields: allocate(world.node, fields), Hdf5Stream(spec), np.arange(ROWS, dtype=np.int32),
        index, 1, batch_size, Normalization.none(), 7, _kernels.load("float64"),
    )  # fmt: skip
    assert feed.windows > 1
    for epoch in range(3):
        seen: list[int] = []
        for batch in batches(feed.samples, batch_size):
            part = batch.slice(world.rank, world.size)
            x, y = np.empty((len(part), 3)), np.empty(len(part), np.int32)
            fill(feed, epoch, batch, part, x, y)
            np.testing.assert_array_equal(x, whole[y])
            for rows in world.comm.allgather(y.tolist()):
                seen += rows
        assert sorted(seen) == (list(range(ROWS)) if index is None else index.tolist())
        assert seen != sorted(seen)
    feed.close()


@pytest.mark.parametrize("kind", ["h5", "parquet"])
def test_small_windows_train_on_any_number_of_ranks(
    world: World, files: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onotrain.data.stream_feed._MIB", 2000)
    result = train(config(files, kind, stream=True, window_mib=1, validation=0.2), world.comm, output=files / "run")
    assert result.summary["finished"]
    assert np.isfinite(result.summary["validation_loss"])


@pytest.mark.parametrize(("kind", "damage"), [("h5", "nan"), ("h5", "cut"), ("parquet", "bytes"), ("parquet", "cut")])
def test_a_file_in_the_middle_that_is_damaged(world: World, files: Path, kind: str, damage: str) -> None:
    """All ranks say the same, with the name of the file."""
    path = files / f"part-3.{kind}"
    if world.rank == 0:
        content = path.read_bytes()
        if damage == "nan":
            with h5py.File(path, "r+") as file:
                file["x"][57, 1] = np.nan
        elif damage == "cut":
            path.write_bytes(content[:-900])
        else:
            path.write_bytes(content[:4] + b"\xff" * 900 + content[904:])
    world.barrier()
    run = config(files, kind, stream=True)
    error = refused(world, DataError, f"part-3.{kind}", run, world.comm, output=files / "run")
    assert error.exit_code == 3

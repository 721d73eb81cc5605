"""Whole trainings on all ranks of one job, in which something happens to some of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import builders
from builders import at_start, mapping, refused, relu, two_nodes, watch_sends, write_digits
from onotrain import memory
from onotrain.data import streaming, streams
from onotrain.errors import (
    ConfigError,
    DataError,
    NumericsError,
    PlatformError,
    ResourceError,
    UsageError,
)
from onotrain.nn import Model
from onotrain.parallel.world import World
from onotrain.runs.metadata import ModelMetadata
from onotrain.training import Result, job, run_data, train

pytestmark = pytest.mark.mpi
RANKS = (2, 3)

CONFIG = mapping(
    relu(8),
    10,
    data={"validation": 0.2},
    optimizer={"name": "sgd", "learning_rate": 0.1},
    training={"epochs": 2, "batch_size": 300},
)


def changed(**sections: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration with keys of its sections replaced."""
    return builders.changed(CONFIG, **sections)


@pytest.fixture
def nodes(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Have the last third of the ranks, as far as training knows, on a node of their own."""

    def connect(comm: Any) -> World:
        return two_nodes(world.comm.Dup())

    monkeypatch.setattr(World, "connect", connect)
    return connect(None)


def test_a_network_that_one_rank_cannot_make(world: World, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one with a loss of another package: no other rank waits for that one."""
    make = ModelMetadata.model

    def model(self: ModelMetadata, *arguments: Any) -> Model:
        if world.rank == world.size - 1:
            raise UsageError("no such loss here")
        return make(self, *arguments)

    monkeypatch.setattr(ModelMetadata, "model", model)
    refused(world, UsageError, "no such loss here", CONFIG, world.comm, output=place / "run")


def test_activations_that_do_not_fit_are_refused_before_they_are_made(
    world: World, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is given on credit: without the check the system kills a rank without a word in the first step."""
    rows = -(-300 // world.size)
    # Samples, outputs and slopes of both layers, and the gradient by the logits, which that by the hidden units follows
    # in the place of the logits; in whole cache lines.
    both = sum(-(-rows * width * 4 // 64) * 64 for width in (64, 8, 8, 10, 10, 10)) * world.node.size
    monkeypatch.setattr(memory, "available_bytes", lambda: both - 1)
    refused(world, ResourceError, f"activations of {rows} samples", CONFIG, world.comm, output=place / "small")
    monkeypatch.setattr(memory, "available_bytes", lambda: both)
    assert train(CONFIG, world.comm, output=place / "enough").summary["finished"]


def test_one_rank_without_memory_for_its_activations(
    world: World, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others do not begin to train without it."""

    def use(self: Model, *arguments: Any) -> None:
        raise MemoryError("no page left")

    if world.rank == world.size - 1:
        monkeypatch.setattr(Model, "use", use)
    message = f"rank {world.size - 1} ran out of memory: no page left"
    refused(world, ResourceError, message, CONFIG, world.comm, output=place / "run")


@pytest.mark.parametrize("validation", [0.2, None])
def test_a_last_step_that_ruins_the_network_is_a_failure(world: World, place: Path, validation: float | None) -> None:
    """No further step would notice: exit code 5, and no checkpoint of it."""
    config = changed(
        data={"validation": validation, "normalize": {"mean": 0.0, "std": 1e-6}},
        optimizer={"learning_rate": 1e38},
        training={"epochs": 1, "batch_size": 1797},
    )
    refused(world, NumericsError, "training diverged", config, world.comm, output=place / "run")
    assert not list((place / "run" / "checkpoints").glob("*.h5"))
    assert not (place / "run" / "summary.json").exists()


def test_stopped_before_anything_was_best(world: World, place: Path) -> None:
    """There is nothing to restore; samples of the epoch in progress count."""
    config = changed(training={"max_steps": 2, "early_stopping": {"metric": "validation_loss", "patience": 2}})
    summary = train(config, world.comm, output=place / "run").summary
    assert not summary["restored_best"] and summary["best"] is None and summary["steps"] == 2
    assert summary["samples_per_second"] == pytest.approx(600 / summary["train_seconds"])


def test_a_damaged_record_is_found_on_resume(world: World, place: Path) -> None:
    """Rank 0 alone reads it; all know."""
    run = place / "run"
    train(changed(training={"epochs": 1}), world.comm, output=run)
    world.barrier()
    if world.rank == 0:
        (run / "metrics.jsonl").write_text("[]\n")
    world.barrier()
    refused(world, DataError, "metrics.jsonl:1: not a JSON object", CONFIG, world.comm, output=run, resume=True)


def test_an_error_keeps_its_class(world: World, place: Path) -> None:
    """What one rank raises alone and what all raise after agreeing can be caught alike."""
    refused(world, ConfigError, "epochs", changed(training={"epochs": 0}), world.comm, output=place / "run")


def test_the_communicators_of_a_run_are_given_back(world: World, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MPI has some thousands of them, and a search over settings trains often in one job."""
    made: list[World] = []
    connect = World.connect.__func__  # type: ignore[attr-defined]

    def remember(cls: type[World], *arguments: Any) -> World:
        made.append(connect(cls, *arguments))
        return made[-1]

    monkeypatch.setattr(World, "connect", classmethod(remember))
    train(CONFIG, world.comm, output=place / "done")
    refused(world, ConfigError, "epochs", changed(training={"epochs": 0}), world.comm, output=place / "refused")
    assert len(made) == 2
    for one in made:
        assert not one.comm and not one.node


def test_a_part_of_the_ranks_trains(world: World, place: Path) -> None:
    """Each half of the ranks trains by itself, at the same time, with the result that it would have alone."""
    half = world.comm.Split(world.rank % 2, key=-world.rank)
    result: Result = train(CONFIG, half, output=place / f"half-{world.rank % 2}")
    assert result.summary["ranks"] == half.size
    losses = world.comm.allgather(json.dumps(result.summary["validation_loss"]))
    assert np.ptp([float(loss) for loss in losses]) < 1e-5
    half.Free()


def test_a_node_with_less_memory_decides_for_all_whether_to_stream(
    nodes: World, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the nodes would take their samples in different orders, and meet in different collectives."""
    write_digits(nodes, place / "digits.h5")
    left = 1000 if nodes.node_index else 1 << 40
    for module in (streaming, run_data):
        monkeypatch.setattr(module, "available_bytes", lambda: left)
    made: list[str] = []
    at_start(monkeypatch, lambda components: made.append(type(components.feed).__name__))
    config = changed(data={"train": str(place / "digits.h5")})
    assert train(config, output=place / "run").summary["finished"]
    assert made == ["StreamFeed"]


@pytest.mark.parametrize("optimizer", [{"name": "adam"}, {"name": "lamb", "learning_rate": 0.01}])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_training_sends_layers_while_it_computes(
    nodes: World, place: Path, accumulation: int, optimizer: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a bit is different, with clipping and in pieces of a batch; only the last piece's gradients are sent."""
    sends = watch_sends(monkeypatch)
    layers = [30, {"activation": "relu"}, 20, {"dropout": 0.2}, 10]
    training = {"batch_size": 150, "gradient_accumulation": accumulation, "clip_norm": 0.3}
    config = builders.changed(CONFIG, *layers, training=training, optimizer=optimizer)
    summaries = []
    for bucket_mib, buckets in ((0.0, 1), (1e-6, 3)):
        made = train({**config, "strategy": {"bucket_mib": bucket_mib}}, output=place / f"run-{bucket_mib}")
        summaries.append(made.summary)
        # All but the first layer's bucket are under way when the backward pass has ended.
        all_sends = buckets + (nodes.node.rank == 0)
        assert sends == [(buckets - 1, all_sends) if nodes.peers is not None else (0, 0)] * 20
        sends.clear()
    assert summaries[0]["steps"] == 20
    assert summaries[0]["parameters_sha256"] == summaries[1]["parameters_sha256"]
    assert not any(summaries[0]["ranks_seconds"]["hidden"])


def test_nodes_with_different_files(nodes: World, place: Path) -> None:
    """A stale copy on the disk of one node: nobody waits for steps that others will not make."""
    for index in range(2):
        write_digits(nodes, place / f"{index}.h5", samples=600 + index)
        (place / f"node-{index}").mkdir(exist_ok=True)
    here = place / f"node-{nodes.node_index}" / "digits.h5"
    if nodes.node.rank == 0:
        here.symlink_to(place / f"{nodes.node_index}.h5")
    nodes.barrier()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here.parent)
        config = changed(data={"train": "digits.h5"})
        refused(nodes, DataError, "do not read the same data", config, output=place / "run")


def test_another_version_on_one_rank(world: World, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It might compute something else."""
    if world.rank == world.size - 1:
        monkeypatch.setattr(job, "__version__", "0.0.1")
    if world.size > 1:
        refused(world, PlatformError, "0.0.1", CONFIG, world.comm, output=place / "run")


@pytest.mark.parametrize(
    ("change", "match"),
    [("number", "values or order of the samples"), ("order", "values or order of the samples"), ("classes", "targets")],
)
def test_data_that_changed_are_found_on_resume(world: World, place: Path, change: str, match: str) -> None:
    """Another number or order of samples, or other classes: the run cannot go on with them."""
    path = place / "digits.h5"
    write_digits(world, path)
    config = changed(data={"train": str(path), "validation": None}, training={"max_steps": 1})
    train(config, world.comm, output=place / "run")
    write_digits(world, path, 601 if change == "number" else 600)
    if world.rank == 0:
        with h5py.File(path, "a") as file:
            if change == "classes":
                file.attrs["class_names"] = [f"n{digit}" for digit in range(10)]
            elif change == "order":
                file["x"][...], file["y"][...] = file["x"][:][::-1], file["y"][:][::-1]
    world.barrier()
    again = changed(data={"train": str(path), "validation": None})
    refused(world, DataError, match, again, world.comm, output=place / "run", resume=True)


def test_another_order_of_the_samples_within_an_epoch_is_refused(
    world: World, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of an epoch some samples would be seen twice; between two epochs windows may change."""
    monkeypatch.setattr(streams, "BLOCK_BYTES", 50 * 64)
    path = place / "digits.h5"
    write_digits(world, path)
    streamed = {"train": str(path), "validation": None, "stream": True, "window_mib": 1}
    batch = {"batch_size": 50}
    monkeypatch.setattr("onotrain.data.stream_feed._MIB", 100 * 64)
    train(changed(data=streamed, training={**batch, "max_steps": 3}), world.comm, output=place / "run")
    in_memory = changed(data={**streamed, "stream": False}, training=batch)
    refused(world, UsageError, "windows", in_memory, world.comm, output=place / "run", resume=True)
    one = changed(data=streamed, training={**batch, "max_steps": 12})
    train(one, world.comm, output=place / "run", resume=True)
    assert train(in_memory, world.comm, output=place / "run", resume=True).summary["finished"]

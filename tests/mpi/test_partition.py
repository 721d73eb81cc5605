"""Whole trainings in which each rank has samples of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders import mapping, refused
from feeding import watch
from onotrain.data.batches import Batch
from onotrain.errors import UsageError
from onotrain.parallel.world import World
from onotrain.training import Result, run_data, train

pytestmark = pytest.mark.mpi

#: Samples of the file, classes, and samples of an epoch: what is not held back.
SAMPLES, CLASSES, TRAINED = 700, 5, 560
SERVER = {"name": "parameter_server", "staleness": 0}
FEDERATED = {"name": "local_sgd", "period": 3, "proximal": 0.1}


@pytest.fixture
def place(world: World, tmp_path: Path) -> Path:
    """Return a directory that is the same on all ranks, with samples whose first feature is their number."""
    place = world.comm.bcast(tmp_path, root=0)
    if world.rank == 0:
        rng = np.random.default_rng(0)
        features = rng.normal(size=(SAMPLES, 6)).astype(np.float32)
        features[:, 0] = np.arange(SAMPLES)
        np.savez(place / "samples.npz", x=features, y=rng.integers(0, CLASSES, SAMPLES))
    world.barrier()
    return place


def config(place: Path, partition: Any, strategy: Any = FEDERATED, **training: Any) -> dict[str, Any]:
    """Return a configuration of 6 steps an epoch, the last of which is short."""
    return mapping(
        {"dense": {"units": 8, "activation": "tanh"}},
        CLASSES,
        data={"train": str(place / "samples.npz"), "validation": 0.2, "partition": partition},
        optimizer={"name": "sgd", "learning_rate": 1e-4, "momentum": 0.9},
        training={"epochs": 2, "batch_size": 101, "gradient_accumulation": 2, **training},
        strategy=strategy,
    )


def watched(world: World, monkeypatch: pytest.MonkeyPatch, *arguments: Any, **options: Any) -> tuple[Result, list[Any]]:
    """Train; return also the samples and labels that each rank got, by epoch."""
    got: dict[int, list[np.ndarray]] = {}

    def remember(epoch: int, part: Batch, x: np.ndarray, targets: np.ndarray) -> None:
        got.setdefault(epoch, []).append(np.stack([x[:, 0].astype(int), targets]))

    with monkeypatch.context() as patch:
        watch(patch, remember)
        result = train(*arguments, world.comm, **options)
    mine = {epoch: np.concatenate(chunks, axis=1) for epoch, chunks in got.items()}
    return result, world.comm.allgather(mine)


@pytest.mark.parametrize("strategy", [FEDERATED, "allreduce", SERVER], ids=["local_sgd", "allreduce", "server"])
@pytest.mark.parametrize("partition", ["by_rank", {"name": "by_label", "alpha": 0.1}], ids=["rank", "label"])
def test_each_rank_sees_its_own_samples_once_an_epoch(
    world: World, place: Path, monkeypatch: pytest.MonkeyPatch, partition: Any, strategy: Any
) -> None:
    """The same in all epochs, in another order, all of them together; a server sees none."""
    if strategy == SERVER and world.size == 1:
        pytest.skip("Test requires 2 MPI processes")
    result, ranks = watched(world, monkeypatch, config(place, partition, strategy), output=place / "run")
    for mine in ranks:
        assert sorted(mine[0][0]) == sorted(mine[1][0])
        assert mine[0].shape[1] == 0 or mine[0][0].tolist() != mine[1][0].tolist()
    everyone = np.concatenate([mine[0][0] for mine in ranks])
    assert len(everyone) == len(set(everyone.tolist())) == TRAINED
    workers = ranks[1:] if strategy == SERVER else ranks
    summary = result.summary["partition"]
    assert summary["samples"] == [mine[0].shape[1] for mine in workers]
    if partition != "by_rank":
        assert summary["label_counts"] == [np.bincount(mine[0][1], minlength=CLASSES).tolist() for mine in workers]


def test_a_run_is_a_function_of_its_configuration(world: World, place: Path) -> None:
    """The same bits again, and after a stop in the middle of an epoch; others if other ranks have the samples."""
    made = config(place, "by_label")
    digests = [train(made, world.comm, output=place / f"{n}").summary["parameters_sha256"] for n in range(2)]
    train(config(place, "by_label", max_steps=9), world.comm, output=place / "stopped")
    resumed = train(made, world.comm, output=place / "stopped", resume=True)
    assert resumed.summary["finished"]
    assert {*digests, resumed.summary["parameters_sha256"]} == {digests[0]}
    other = train(config(place, "by_rank"), world.comm, output=place / "other").summary["parameters_sha256"]
    assert (other == digests[0]) == (world.size == 1)


def test_other_ranks_that_compute_within_an_epoch_are_refused(world: World, place: Path) -> None:
    """Some samples would be seen twice; between two epochs the samples are dealt anew."""
    if world.size == 1:
        pytest.skip("Test requires 2 MPI processes")
    train(config(place, "by_rank", max_steps=3), world.comm, output=place / "run")
    fewer = config(place, "by_rank", SERVER)
    match = f"epoch 1 began with its samples partitioned among {world.size} ranks, which are {world.size - 1} now"
    assert refused(world, UsageError, match, fewer, world.comm, output=place / "run", resume=True).hint
    train(config(place, "by_rank", max_steps=6), world.comm, output=place / "run", resume=True)
    assert train(fewer, world.comm, output=place / "run", resume=True).summary["finished"]


def test_samples_that_turn_out_to_be_streamed_are_refused(
    world: World, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the node's memory has decided so."""
    if world.rank == 0:
        import h5py

        with np.load(place / "samples.npz") as samples, h5py.File(place / "samples.h5", "w") as file:
            file["x"], file["y"] = samples["x"], samples["y"]
    world.barrier()
    made = config(place, "by_rank")
    made["data"] |= {"train": str(place / "samples.h5")}
    monkeypatch.setattr(run_data, "available_bytes", lambda: 1)
    match = "samples.h5: is streamed, .*partition by_rank"
    assert refused(world, UsageError, match, made, world.comm, output=place / "run").hint

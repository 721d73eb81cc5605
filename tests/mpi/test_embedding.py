"""Embeddings on any number of ranks; run with any."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import builders
from builders import OPTIMIZERS
from every_strategy import STRATEGIES
from onotrain.parallel.world import World
from onotrain.runs.run_directory import RunDirectory, find_checkpoint
from onotrain.strategies import Context, SharedActivations
from onotrain.training import train

pytestmark = pytest.mark.mpi
RANKS = (1, 2, 3)
USUAL_RANKS = (2,)

SAMPLES, CATEGORIES = 240, 40
LAYERS = [{"embedding": {"columns": {"0": CATEGORIES, "2": 5}, "width": 3}}, builders.relu(12), 1]


def config(folder: Path, layers: Sequence[Any] = LAYERS, *, epochs: int = 3, **sections: Any) -> Any:
    """Return a configuration with data of which two features are codes, some of them rare."""
    return builders.config(
        *layers, loss="mse", data={"train": str(folder / "data.h5"), "validation": 0.2},
        training={"epochs": epochs, "batch_size": 24, **sections.pop("training", {})}, **sections,
    )  # fmt: skip


@pytest.fixture
def folder(world: World, tmp_path: Path) -> Path:
    shared = Path(world.comm.bcast(str(tmp_path)))
    if world.rank == 0:
        rng = np.random.default_rng(4)
        x = rng.normal(size=(SAMPLES, 4))
        x[:, 0] = np.minimum(rng.geometric(0.1, SAMPLES) - 1, CATEGORIES - 1)
        x[:, 2] = rng.integers(0, 5, SAMPLES)
        with h5py.File(shared / "data.h5", "w") as file:
            file["x"], file["y"] = x, np.sin(x[:, 0]) + x[:, 1] + x[:, 2] / 3
    world.barrier()
    return shared


@pytest.mark.parametrize("optimizer", ["adam", "sgd-momentum"])
def test_not_a_bit_depends_on_the_number_of_ranks(world: World, folder: Path, optimizer: str) -> None:
    """What all ranks train together on shared activations, and what each trains alone."""
    made = config(folder, optimizer=OPTIMIZERS[optimizer])
    together = train(made, world.comm, output=folder / "together").summary["parameters_sha256"]
    summary = RunDirectory.open(builders.train_alone(world, made, folder)).summary()
    alone = summary and summary["parameters_sha256"]
    assert world.comm.allgather(alone) == [together] * world.size


@pytest.mark.parametrize(
    ("strategy", "codec"),
    [
        (name, codec)
        for name, options in STRATEGIES.items()
        for codec in ("none", "int8")
        if codec == "none" or options["name"] in ("flat", "local_sgd")  # others send nothing on one node
    ],
)
def test_every_strategy_learns(world: World, folder: Path, strategy: str, codec: str) -> None:
    made = config(
        folder, epochs=12, strategy=STRATEGIES[strategy], communication={"codec": codec},
        optimizer={"name": "adam", "learning_rate": 0.02},
    )  # fmt: skip
    skip_without_ranks(world, made)
    losses = [each["train_loss"] for each in builders.records(train(made, world.comm, output=folder / "run").output)]
    assert losses[-1] < 0.5 * losses[0]


LARGE = 120_000


@pytest.mark.parametrize("optimizer", ["adam", "sgd-momentum"])
def test_large_tables_share_what_occurs(world: World, folder: Path, optimizer: str) -> None:
    """Their gradients are never written; the rest is that of shared gradients."""
    layers = [{"embedding": {"columns": {"0": LARGE, "2": 5}, "width": 3}}, builders.relu(12), 1]
    ends = []
    for name, strategy in {
        "activations": "allreduce",
        "gradients": {"name": "allreduce", "share": "gradients"},
    }.items():
        made = config(folder, layers, epochs=2, optimizer=OPTIMIZERS[optimizer], strategy=strategy)
        train(made, world.comm, output=folder / name)
        ends.append(find_checkpoint(folder / name, "latest").checkpoint.arrays)
    assert ends[0].keys() == ends[1].keys()
    for name, array in ends[0].items():
        np.testing.assert_allclose(array, ends[1][name], rtol=1e-4, atol=1e-5, err_msg=name)
    table, begun = ends[0]["parameters/embedding_0/feature_0"], builders.model(made, 4)
    flat = begun.layout.zeros()
    begun.initialize(flat, made.training.seed)
    first = begun.layout.views(flat)["embedding_0/feature_0"]
    assert 5 < np.flatnonzero((table != first).any(axis=1)).size <= CATEGORIES


def test_activations_are_shared(world: World, folder: Path) -> None:
    layers = [{"embedding": {"columns": {"0": LARGE, "2": 5}, "width": 16}}, builders.relu(12), 1]
    made = config(folder, layers)
    model = builders.model(made, 4)
    context = Context.of(made, world, model.layout, builders.optimizer(made))
    assert SharedActivations.possible(context) and not model.plan.in_blocks


def skip_without_ranks(world: World, made: Any) -> None:
    """Skip strategies and codecs that need more ranks than there are."""
    if world.size < max(made.strategy.fewest_ranks, 1 + (made.communication.codec.name != "none")):
        pytest.skip("Test requires 2 MPI processes or more")


def vectors(made: Any, output: Path | None) -> np.ndarray:
    """Return the vectors of the first feature: of a run, or before it."""
    model = builders.model(made, 4)
    if output is None:
        flat = model.layout.zeros()
        model.initialize(flat, made.training.seed)
        return model.layout.views(flat)["embedding_0/feature_0"]
    return find_checkpoint(output, "latest").checkpoint.arrays["parameters/embedding_0/feature_0"]


def occurring(folder: Path, made: Any) -> np.ndarray:
    """Return which categories of the first feature are among the samples."""
    with h5py.File(folder / "data.h5") as file:
        return np.isin(np.arange(CATEGORIES), file["x"][:, 0])


@pytest.mark.parametrize(
    ("strategy", "optimizer"),
    [
        (strategy, optimizer)
        for strategy in STRATEGIES
        for optimizer in ("adam", "lamb")
        if (strategy, optimizer) != ("two asynchronous servers", "lamb")  # which needs norms of whole tensors
    ],
)
def test_vectors_of_categories_that_do_not_occur_stay(
    world: World, folder: Path, strategy: str, optimizer: str
) -> None:
    """To the bit: neither decay nor momenta move them."""
    made = config(folder, epochs=1, strategy=STRATEGIES[strategy], optimizer=OPTIMIZERS[optimizer])
    skip_without_ranks(world, made)
    train(made, world.comm, output=folder / "run")
    before, after, occur = vectors(made, None), vectors(made, folder / "run"), occurring(folder, made)
    assert 5 < occur.sum() < CATEGORIES - 5
    np.testing.assert_array_equal(after[~occur], before[~occur])
    assert np.mean(after[occur] != before[occur]) > 0.7, "some are among the validation samples alone"


@pytest.mark.parametrize(
    "codec", ["fp16", "bf16", "int8", {"name": "topk", "fraction": 0.1}, {"name": "powersgd", "rank": 2}]
)
@pytest.mark.parametrize("strategy", ["allreduce", "flat", "server", "diloco"])
def test_codecs_leave_them_alone(world: World, folder: Path, strategy: str, codec: Any) -> None:
    made = config(
        folder, epochs=1, strategy=STRATEGIES[strategy], optimizer=OPTIMIZERS["adam"], communication={"codec": codec},
        simulate={"ranks_per_node": 1},
    )  # fmt: skip
    skip_without_ranks(world, made)
    train(made, world.comm, output=folder / "run")
    before, after, occur = vectors(made, None), vectors(made, folder / "run"), occurring(folder, made)
    np.testing.assert_array_equal(after[~occur], before[~occur])


def test_frozen_vectors_stay(world: World, folder: Path) -> None:
    made = config(folder)
    train(made, world.comm, output=folder / "first")
    begun = {**made.to_mapping()["model"], "from": str(folder / "first"), "freeze": ["embedding_0"]}
    train(config(folder, model=begun), world.comm, output=folder / "second")
    one, other = (find_checkpoint(folder / name, "latest").checkpoint.arrays for name in ("first", "second"))
    for name in ("embedding_0/feature_0", "embedding_0/feature_2", "dense_0/weight"):
        same = np.array_equal(one[f"parameters/{name}"], other[f"parameters/{name}"])
        assert same == name.startswith("embedding")

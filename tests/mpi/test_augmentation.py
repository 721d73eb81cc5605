"""Networks with images, augmentation and pooling, on any number of ranks; run with any."""

from __future__ import annotations

from pathlib import Path

import pytest

import builders
from onotrain.parallel.world import World
from onotrain.runs.run_directory import RunDirectory
from onotrain.training import train

pytestmark = pytest.mark.mpi

LAYERS = [
    {"reshape": [1, 8, 8]}, {"random_shift": 1}, {"random_flip": {"vertical": True}}, {"max_pool2d": 2},
    {"dense": {"units": 36, "activation": "tanh"}}, {"reshape": [4, 3, 3]},
    {"random_crop": {"padding": 1, "fill": "edge"}}, {"avg_pool2d": {"size": 2, "stride": 1}}, {"dense": 10},
]  # fmt: skip


def test_not_a_bit_depends_on_the_number_of_ranks(world: World, tmp_path: Path) -> None:
    """What all ranks train together on shared activations, and what each trains alone."""
    made = builders.config(*LAYERS, training={"epochs": 2, "batch_size": 48})
    folder = Path(world.comm.bcast(str(tmp_path)))
    together = train(made, world.comm, output=folder / "together").summary["parameters_sha256"]
    summary = RunDirectory.open(builders.train_alone(world, made, folder)).summary()
    alone = summary and summary["parameters_sha256"]
    assert world.comm.allgather(alone) == [together] * world.size

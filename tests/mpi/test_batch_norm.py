"""Batch normalisation over the global batch, on whatever ranks its rows are; run with any number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import builders
from onotrain.config import Config
from onotrain.errors import DataError
from onotrain.parallel.world import World
from onotrain.runs.run_directory import find_checkpoint
from onotrain.training import train

pytestmark = pytest.mark.mpi

#: With this rule and rate, running moments move as trained parameters do.
RATE = {"name": "sgd", "learning_rate": 0.1}


def digits(dtype: str = "float64", **sections: Any) -> Config:
    """Return a configuration with all kinds of normalisation, and a last batch that is short."""
    layers = [
        {"batch_norm": {}}, {"dense": 24}, {"batch_norm": {}}, {"activation": "relu"}, {"layer_norm": {}},
        {"dense": 16}, {"group_norm": 4}, 10,
    ]  # fmt: skip
    training = {"epochs": 2, "batch_size": 100, "dtype": dtype}
    return builders.config(*layers, **{"optimizer": RATE, "training": training, **sections})


def tensors(run: Path) -> dict[str, np.ndarray]:
    arrays = find_checkpoint(run, "latest").checkpoint.arrays
    return {name: array for name, array in arrays.items() if name.startswith("parameters/")}


STRATEGIES: dict[str, Any] = {
    "activations": "allreduce",
    "gradients": {"name": "allreduce", "share": "gradients"},
    "flat": "flat",
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_any_number_of_ranks_trains_as_one(world: World, place: Path, strategy: str) -> None:
    """Parameters and running moments, to rounding; of shared activations every bit, and in float32."""
    dtype = "float32" if strategy == "activations" else "float64"
    made = digits(dtype, strategy=STRATEGIES[strategy])
    train(made, world.comm, output=place / "together")
    together, alone = tensors(place / "together"), tensors(builders.train_alone(world, made, place))
    assert np.abs(together["parameters/batch_norm_1/running_var"] - 1).max() > 1e-2
    for name, value in alone.items():
        if strategy == "activations":
            assert value.tobytes() == together[name].tobytes(), name
        else:
            np.testing.assert_allclose(together[name], value, rtol=1e-9, atol=1e-11, err_msg=name)
    world.barrier()


def test_ranks_that_train_by_themselves_have_batches_of_their_own(world: World, place: Path) -> None:
    """Their slices; a slice of one sample is refused on all ranks."""
    local = {"name": "local_sgd", "period": 2}
    train(digits(strategy=local), world.comm, output=place / "local")
    assert all(np.isfinite(value).all() for value in tensors(place / "local").values())
    small = digits(strategy=local, training={"epochs": 1, "batch_size": world.size})
    match = f"with batch_size {world.size} leave 1 to normalise over"
    builders.refused(world, DataError, match, small, world.comm, output=place / "small")

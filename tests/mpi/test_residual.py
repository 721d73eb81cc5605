"""Residual blocks on several ranks: the parameters of one rank, whatever ranks share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from builders import BLOCKS, config, in_every_way, train_alone, write_digits
from onotrain.parallel.world import World
from onotrain.runs.run_directory import find_checkpoint
from onotrain.training import train


def parameters(run: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a run."""
    arrays = find_checkpoint(run, "latest").checkpoint.arrays
    return {name: array for name, array in arrays.items() if name.startswith("parameters/")}


@in_every_way
def test_any_number_of_ranks_trains_the_same(world: World, place: Path, sections: dict[str, Any]) -> None:
    """Masks of dropout in blocks, sums of gradients, and gradients of projections."""
    write_digits(world, place / "digits.h5")
    data = {"train": str(place / "digits.h5"), "features": "x", "targets": "y", **sections.get("data", {})}
    training = {"batch_size": 90, "dtype": "float64", **sections.get("training", {})}
    made = config(*BLOCKS, **{**sections, "data": data, "training": training})
    train(made, world.comm, output=place / "together")
    alone = parameters(train_alone(world, made, place))
    found = parameters(place / "together")
    assert found.keys() == alone.keys() and len(found) == 2 * 5 + 2
    for name, array in found.items():
        np.testing.assert_allclose(array, alone[name], rtol=1e-9, atol=1e-11, err_msg=name)

"""Images on several ranks: the parameters are those of one rank and of flat samples, in every bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onotrain.parallel.world import World
from onotrain.training import fit

pytestmark = pytest.mark.mpi

LAYERS = [{"activation": "tanh"}, {"dropout": 0.1}, {"dense": {"units": 7, "activation": "relu"}}, {"dense": 3}]


def test_ranks_that_share_activations_see_images(world: World) -> None:
    """Elementwise layers and a dense one behind them read all three axes."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(61, 3, 4, 5)), np.arange(61) % 3
    config: dict[str, Any] = {
        "model": {"layers": LAYERS},
        "loss": "cross_entropy",
        "optimizer": "sgd",
        "training": {"epochs": 2, "batch_size": 12, "dtype": "float64"},
    }
    images = fit(x, y, config, comm=world.comm).summary
    own = world.comm.Split(world.rank)
    alone = fit(x.reshape(61, 60), y, config, comm=own).summary
    own.Free()
    assert images["ranks"] == world.size
    assert images["parameters_sha256"] == alone["parameters_sha256"]


def test_images_are_arranged_on_every_rank(world: World) -> None:
    """As data.shape says, which rank 0 has read."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(40, 60)), np.arange(40) % 3
    config = {
        "data": {"shape": [3, 4, 5]},
        "model": {"layers": [{"dense": 3}]},
        "loss": "cross_entropy",
        "training": {"epochs": 1, "batch_size": 10},
    }
    predictor = fit(x, y, config, comm=world.comm).predictor
    shapes = world.comm.allgather((predictor.model.shape, predictor.metadata.feature_shape))
    assert set(shapes) == {((3, 4, 5), (3, 4, 5))}

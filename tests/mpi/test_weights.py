"""Weights of samples and classes on any number of ranks: the run of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import builders
from onotrain import load
from onotrain.errors import UsageError
from onotrain.nn.losses import Loss
from onotrain.parallel.world import World
from onotrain.training import train

pytestmark = pytest.mark.mpi
RANKS = (1, 3)

METRICS = ["loss", "accuracy", "f1", "f1[3]", "roc_auc", "average_precision", "calibration_error", "mcc", "log_loss"]


def config(source: Path, **sections: Any) -> dict[str, Any]:
    """Return a training on digits of which some count for more than others."""
    loss = {"name": "cross_entropy", "class_weights": {"3": 20.0, "8": 0.0}}
    training = {"epochs": 2, "batch_size": 50, "dtype": "float64", "metrics": METRICS}
    data = {"train": str(source), "validation": 0.3, **sections.pop("data", {})}
    return builders.mapping(10, data=data, loss=loss, training={**training, **sections.pop("training", {})}, **sections)


def trained(world: World, output: Path, made: Any) -> np.ndarray:
    """Return the parameters after a training on all ranks, on every rank.  *Collective*."""
    train(made, world.comm, output=output)
    world.barrier()
    return load(output).parameters


@pytest.fixture
def alone(world: World, place: Path) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Return parameters and records of one process."""
    builders.write_digits(world, place / "digits.h5")
    output = builders.train_alone(world, config(place / "digits.h5"), place)
    return load(output).parameters, builders.records(output)


@builders.in_every_way
def test_a_run_is_that_of_one_process(world: World, place: Path, alone: Any, sections: dict[str, Any]) -> None:
    parameters, records = alone
    got = trained(world, place / "all", config(place / "digits.h5", **sections))
    np.testing.assert_allclose(got, parameters, rtol=1e-9, atol=1e-12)
    for record, expected in zip(builders.records(place / "all"), records, strict=True):
        for name in ["train_loss", *(f"validation_{metric}" for metric in METRICS)]:
            assert record[name] == pytest.approx(expected[name], rel=1e-9), name


def test_the_weights_count(world: World, place: Path, alone: Any) -> None:
    plain = config(place / "digits.h5") | {"loss": "cross_entropy"}
    assert abs(trained(world, place / "plain", plain) - alone[0]).max() > 1e-4


def test_a_loss_without_weights_is_refused_on_all_ranks(
    world: World, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builders.write_digits(world, place / "digits.h5")
    monkeypatch.setattr(Loss, "weighs_rows", False)
    builders.refused(
        world, UsageError, "takes no weights of samples", config(place / "digits.h5"), world.comm, output=place / "run"
    )

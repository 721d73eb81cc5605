"""Targets that are missing and weights of outputs, on any number of ranks and with any strategy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import builders
from onotrain import load
from onotrain.data import DataSpec, load_dataset
from onotrain.data.for_network import encode
from onotrain.data.samples import ArraySamples
from onotrain.errors import DataError, UsageError
from onotrain.evaluation.evaluator import Evaluator, origin_of
from onotrain.evaluation.metrics import make_metrics
from onotrain.nn.losses import Loss
from onotrain.parallel.world import World
from onotrain.training import train

pytestmark = pytest.mark.mpi
RANKS = (1, 3)

METRICS = ["loss", "mae", "rmse", "r2", "r2[1]", "weighted_r2", "weighted_loss"]
LABELS = ["loss", "accuracy", "f1", "roc_auc", "log_loss", "calibration_error"]


def write(world: World, path: Path) -> Path:
    """Write 700 samples of three targets, of which most are not measured.  *Collective*."""
    if world.rank == 0:
        rng = np.random.default_rng(2)
        x = rng.normal(size=(700, 6)).astype("f4")
        y = np.tanh(x[:, :3]) * [1.0, 50.0, 0.1] + [0.0, 1000.0, 0.0]
        missing = rng.random(y.shape) < [0.2, 0.7, 0.9]
        with h5py.File(path, "w") as file:
            file["x"], file["y"], file["w"] = x, np.where(missing, np.nan, y), rng.uniform(0, 2, 700)
            file["labels"] = np.where(missing, np.nan, y > [0.0, 1000.0, 0.0])
    world.barrier()
    return path


def config(source: Path, labels: bool = False, **sections: Any) -> dict[str, Any]:
    training = {"epochs": 2, "batch_size": 60, "dtype": "float64", "metrics": LABELS if labels else METRICS}
    data = {"train": str(source), "validation": 0.3, "missing_targets": "mask", **sections.pop("data", {})}
    data |= {"targets": "labels"} if labels else {"targets": "y", "weights": "w", "normalize_targets": "standard"}
    loss = {"name": "binary_cross_entropy" if labels else "huber", "output_weights": [1, 4, 1]}
    hidden = {"dense": {"units": 5, "activation": "tanh"}}
    training |= sections.pop("training", {})
    return builders.mapping(hidden, 3, data=data, loss=loss, training=training, **sections)


@pytest.mark.parametrize("labels", [False, True])
@builders.in_every_way
def test_a_run_is_that_of_one_process(world: World, place: Path, labels: bool, sections: dict[str, Any]) -> None:
    source = write(world, place / "a.h5")
    made = config(source, labels, **sections)
    one = builders.train_alone(world, made, place)
    train(made, world.comm, output=place / "all")
    world.barrier()
    np.testing.assert_allclose(load(place / "all").parameters, load(one).parameters, rtol=1e-9, atol=1e-12)
    for record, expected in zip(builders.records(place / "all"), builders.records(one), strict=True):
        for name in ["train_loss", *(f"validation_{metric}" for metric in (LABELS if labels else METRICS))]:
            assert np.isfinite(record[name]) and record[name] == pytest.approx(expected[name], rel=1e-8), name


@pytest.mark.parametrize(
    ("loss", "outputs"),
    [({"name": "quantile", "quantiles": [0.2, 0.6]}, 6), ({"name": "gaussian_nll"}, 6), ({"name": "log_cosh"}, 3)],
    ids=lambda value: value["name"] if isinstance(value, dict) else None,
)
def test_several_outputs_for_each_target(world: World, place: Path, loss: dict[str, Any], outputs: int) -> None:
    """The run is that of one process, and its metrics are too; weights are those of the three targets."""
    metrics = [*METRICS, *(["pinball", "coverage", "weighted_pinball[2]"] if loss["name"] == "quantile" else [])]
    made = config(write(world, place / "a.h5"), training={"metrics": metrics})
    made |= {"loss": {**loss, "output_weights": [1, 4, 1]}}
    made["model"]["layers"][-1] = {"dense": outputs}
    one = builders.train_alone(world, made, place)
    train(made, world.comm, output=place / "all")
    world.barrier()
    np.testing.assert_allclose(load(place / "all").parameters, load(one).parameters, rtol=1e-9, atol=1e-12)
    for record, expected in zip(builders.records(place / "all"), builders.records(one), strict=True):
        for name in ["train_loss", *(f"validation_{metric}" for metric in metrics)]:
            assert np.isfinite(record[name]) and record[name] == pytest.approx(expected[name], rel=1e-8), name


def test_metrics_have_the_same_bits(world: World, place: Path) -> None:
    """Of one network, for this number of ranks and for one process."""
    source = write(world, place / "a.h5")
    network = load(builders.train_alone(world, config(source), place))
    dataset = load_dataset(DataSpec(str(source), targets="y", weights="w"))
    metadata = network.metadata
    samples = ArraySamples(dataset.features, encode(metadata.codec, dataset, "float64"), weights=dataset.weights)
    measures = make_metrics(METRICS, network.model.loss, origin_of(samples, metadata.codec.in_units), weighted=True)
    evaluator = Evaluator(
        network.model, samples, metadata.normalization, measures, network.kernels,
        scaling=metadata.codec.scaling, output_weights=np.array([0.5, 2.0, 0.5]),
    )  # fmt: skip
    found = evaluator(None)
    assert np.isfinite(list(found.values())).all()
    assert evaluator(world.comm) == found


@pytest.mark.parametrize(
    "strategy",
    [
        "local_sgd",
        pytest.param("parameter_server", marks=pytest.mark.mpi(min_size=2)),
        pytest.param({"name": "strategy_switch"}, marks=pytest.mark.mpi(min_size=2)),
    ],
    ids=str,
)
def test_other_strategies_learn_too(world: World, place: Path, strategy: Any) -> None:
    source = write(world, place / "a.h5")
    made = config(source, strategy=strategy, training={"epochs": 8}, optimizer={"name": "adam", "learning_rate": 0.02})
    train(made, world.comm, output=place / "run")
    world.barrier()
    records = builders.records(place / "run")
    assert records[-1]["validation_loss"] < 0.8 * records[0]["validation_loss"]


def test_what_is_refused_is_refused_on_all_ranks(world: World, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(world, place / "a.h5")
    wrong = config(source, data={"missing_targets": "error"})
    builders.refused(world, DataError, "the target is nan", wrong, world.comm, output=place / "error")
    monkeypatch.setattr(Loss, "weighs_outputs", False)
    text = "takes no weights of outputs"
    builders.refused(world, UsageError, text, config(source), world.comm, output=place / "run")

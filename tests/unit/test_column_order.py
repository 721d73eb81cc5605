"""Arrays whose columns have names: in another file they may stand in another order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import builders
import onotrain
from onotrain import train
from onotrain.data import DataSpec
from onotrain.inference.evaluation import evaluate
from onotrain.inference.job import predict_file

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = X @ RNG.normal(size=(3, 2))
FEATURES, TARGETS = ("a", "b", "c"), ("u", "v")


def write(path: Path, features: tuple[str, ...] = FEATURES, targets: tuple[str, ...] = TARGETS) -> str:
    """Write the same samples with their columns in any order."""
    x, y = X[:, [FEATURES.index(name) for name in features]], Y[:, [TARGETS.index(name) for name in targets]]
    if path.suffix == ".csv":
        np.savetxt(path, np.c_[x, y], "%.17g", ",", header=",".join([*features, *targets]), comments="")
        return str(path)
    with h5py.File(path, "w") as file:
        file["x"], file["y"] = x, y
        file.attrs["feature_names"], file.attrs["target_names"] = list(features), list(targets)
    return str(path)


def trained(folder: Path, source: str, **data: Any) -> Path:
    made = builders.mapping(2, loss="mse", data={"train": source, "targets": None, **data})
    return train(made, output=folder / "run").output


@pytest.mark.parametrize(("suffix", "stream"), [("h5", False), ("h5", True), ("csv", False)])
def test_columns_are_those_of_the_same_names(tmp_path: Path, suffix: str, stream: bool) -> None:
    """Of features and of targets, of a network of arrays or of a table."""
    more = {"targets": list(TARGETS)} if suffix == "csv" else {}
    run = trained(tmp_path, write(tmp_path / f"train.{suffix}"), **more)
    expected = onotrain.load(run).predict(X)
    spec = DataSpec(write(tmp_path / "other.h5", ("c", "a", "b"), ("v", "u")))
    predict_file(run, spec, tmp_path / "p.npy", stream=stream)
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), expected)
    found = evaluate(run, spec, stream=stream)
    np.testing.assert_allclose(found.per_output.mae, abs(expected - Y).mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("stream", [False, True])
def test_validation_in_another_order_is_the_same(tmp_path: Path, stream: bool) -> None:
    source = write(tmp_path / "train.h5")
    other = write(tmp_path / "other.h5", ("c", "a", "b"), ("v", "u"))
    losses = []
    for number, validation in enumerate((source, other)):
        made = trained(tmp_path / str(number), source, validation=validation, stream=stream)
        losses.append(builders.records(made)[-1]["validation_loss"])
    assert losses[0] == losses[1]


def test_files_of_a_stream_have_the_order_of_the_network(tmp_path: Path) -> None:
    """Also where they are in different ones among themselves."""
    run = trained(tmp_path, write(tmp_path / "train.h5"))
    for number, features in enumerate([("b", "c", "a"), ("c", "b", "a"), FEATURES]):
        write(tmp_path / f"part-{number}.h5", features)
    predict_file(run, DataSpec(str(tmp_path / "part-*.h5")), tmp_path / "p.npy", stream=True)
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), np.tile(onotrain.load(run).predict(X), (3, 1)))

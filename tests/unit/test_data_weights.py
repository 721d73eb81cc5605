"""``data.weights``: a column or an array says how much each sample counts, in every format."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import builders
import onotrain
from onotrain import train
from onotrain.config import Config
from onotrain.data import DataSpec
from onotrain.data.prepare import prepare
from onotrain.errors import DataError
from onotrain.inference.evaluation import evaluate
from onotrain.inference.job import predict_file

RNG = np.random.default_rng(5)
X, Y, W = RNG.normal(size=(40, 3)), RNG.normal(size=40), RNG.uniform(0.5, 4.0, 40)


def write(path: Path) -> Path:
    if path.suffix == ".csv":
        np.savetxt(path, np.c_[W, X, Y], "%.17g", ",", header="w,a,b,c,y", comments="")
    elif path.suffix == ".npz":
        np.savez(path, x=X, y=Y, w=W)
    else:
        with h5py.File(path, "w") as file:
            file["x"], file["y"], file["w"] = X, Y, W
    return path


def section(path: Path, **changes: object) -> object:
    data = {"train": str(path), "weights": "w", **changes}
    mapping = {
        "data": data, "model": {"layers": [{"dense": 1}]}, "loss": "mse", "optimizer": "adam",
        "training": {"epochs": 1, "batch_size": 8},
    }  # fmt: skip
    return Config.from_mapping(mapping).data


@pytest.mark.parametrize("name", ["a.csv", "a.npz", "a.h5"])
def test_weights_are_read_and_are_no_feature(tmp_path: Path, name: str) -> None:
    prepared = prepare(section(write(tmp_path / name)), "regression", 1, "float64", 10**9)
    np.testing.assert_allclose(prepared.arrays["weights"], W / W.mean(), rtol=1e-12)
    assert prepared.arrays["features"].shape == (40, 3)


@pytest.mark.parametrize("name", ["a.csv", "a.npz", "a.h5"])
def test_the_mean_is_that_of_the_training_part(tmp_path: Path, name: str) -> None:
    arrays = prepare(section(write(tmp_path / name), validation=0.25), "regression", 1, "float64", 10**9).arrays
    assert arrays["weights"][arrays["train_index"]].mean() == pytest.approx(1.0)
    np.testing.assert_allclose(arrays["validation_weights"], W[arrays["validation_index"]])


@pytest.mark.parametrize("name", ["a.csv", "a.npz", "a.h5"])
def test_a_name_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"'ww' \(data\.weights\)") as caught:
        prepare(section(write(tmp_path / name), weights="ww"), "regression", 1, "float64", 10**9)
    assert caught.value.hint == "did you mean 'w'?"


def test_a_negative_weight_has_its_place(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], "-1" + lines[3][lines[3].index(",") :], *lines[4:]]))
    with pytest.raises(DataError, match=r"a\.csv:4:\d: .*weight is -1"):
        prepare(section(path), "regression", 1, "float64", 10**9)


COLUMNS = {"a": X[:, 0], "b": X[:, 1], "w": W, "y": Y}


def write_columns(path: Path, **columns: np.ndarray) -> str:
    if path.suffix == ".csv":
        np.savetxt(path, np.stack([*columns.values()], axis=1), "%.17g", ",", header=",".join(columns), comments="")
    elif path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    else:
        with h5py.File(path, "w") as file:
            for name, values in columns.items():
                file[name] = values
    return str(path)


def trained(folder: Path, train_on: str, **data: object) -> Path:
    made = builders.mapping(1, loss="mse", data={"train": train_on, "weights": "w", **data})
    return train(made, output=folder / "run").output


@pytest.mark.parametrize("suffix", ["csv", "parquet", "nc"])
@pytest.mark.parametrize("of_training", ["csv", "parquet", "nc"])
def test_evaluation_weighs_by_the_column_of_the_training(tmp_path: Path, of_training: str, suffix: str) -> None:
    """Also in a table of another format, and in a second file of the same one."""
    run = trained(tmp_path, write_columns(tmp_path / f"train.{of_training}", **COLUMNS))
    path = write_columns(tmp_path / f"other.{suffix}", **COLUMNS)
    found = evaluate(run, DataSpec(path)).metrics
    error = onotrain.load(run).predict({"a": X[:, 0], "b": X[:, 1]})[:, 0] - Y
    assert found["weighted_mae"] == pytest.approx(np.average(abs(error), weights=W), rel=1e-5)
    assert found["mae"] == pytest.approx(abs(error).mean(), rel=1e-5)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npz", "h5"])
@pytest.mark.parametrize("lost", ["a value", "the column"])
def test_predictions_need_no_weights(tmp_path: Path, suffix: str, lost: str) -> None:
    without = {name: values for name, values in COLUMNS.items() if name not in ("w", "y")}
    weights = {"w": np.where(np.arange(40) == 3, np.nan, W)} if lost == "a value" else {}
    if suffix in ("csv", "parquet"):
        run = trained(tmp_path, write_columns(tmp_path / f"train.{suffix}", **COLUMNS))
        path = write_columns(tmp_path / f"other.{suffix}", **without, **weights)
        expected = onotrain.load(run).predict(without)
    else:
        run = trained(tmp_path, str(write(tmp_path / f"train.{suffix}")))
        with h5py.File(path := str(tmp_path / "other.h5"), "w") as file:
            for name, values in {"x": X, **weights}.items():
                file[name] = values
        expected = onotrain.load(run).predict(X)
    predict_file(run, DataSpec(path), tmp_path / "p.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), expected)


def test_arrays_of_netcdf_have_the_names_of_the_training(tmp_path: Path) -> None:
    """In a validation file, and in one that is evaluated, beside arrays that would be taken by default."""
    for name, sign in (("train.nc", 1), ("held-out.nc", -1)):
        with h5py.File(tmp_path / name, "w") as file:
            file["x"], file["y"], file["u"], file["v"], file["w"] = X[:, :2], Y + 1, sign * X, sign * Y, W
    names = {"features": "u", "targets": "v", "validation": str(tmp_path / "held-out.nc")}
    run = trained(tmp_path, str(tmp_path / "train.nc"), **names)
    error = onotrain.load(run).predict(-X)[:, 0] + Y
    found = evaluate(run, DataSpec(str(tmp_path / "held-out.nc"))).metrics
    assert found["mae"] == pytest.approx(abs(error).mean(), rel=1e-5)
    assert found["loss"] == pytest.approx(builders.records(run)[-1]["validation_loss"], rel=1e-5)

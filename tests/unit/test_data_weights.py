"""``data.weights``: a column or an array says how much each sample counts, in every format."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from onotrain.config import Config
from onotrain.data.prepare import prepare
from onotrain.errors import DataError

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

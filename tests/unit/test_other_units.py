"""A file that says another unit than the training file does is not taken for one of the same unit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import builders
import onotrain
import tables
from onotrain import train
from onotrain.data import DataSpec
from onotrain.errors import DataError
from onotrain.inference.evaluation import evaluate
from onotrain.inference.job import predict_file

T = np.random.default_rng(0).normal(290, 5, 40)


def write(path: Path, feature: str | None = "K", target: str | None = "m") -> str:
    """Write one data set for each variable."""
    with h5py.File(path, "w") as file:
        for name, values, unit in (("temp", T, feature), ("depth", T**2, None), ("y", 2 * T, target)):
            file[name] = values
            if unit is not None:
                file[name].attrs["units"] = unit
    return str(path)


def trained(folder: Path, **data: Any) -> Path:
    made = builders.mapping(1, loss="mse", data={"train": write(folder / "train.h5"), **data})
    return train(made, output=folder / "run").output


def test_other_units_of_features_and_targets_are_refused(tmp_path: Path) -> None:
    run = trained(tmp_path)
    celsius, feet = write(tmp_path / "c.h5", "degC"), write(tmp_path / "f.h5", "K", "ft")
    for path, message in ((celsius, "column 'temp' is in degC, but in K"), (feet, "target 'y' is in ft, but in m")):
        with pytest.raises(DataError, match=f"{message} in the training data"):
            evaluate(run, DataSpec(path))
        with pytest.raises(DataError, match=message):
            tables.prepared(str(tmp_path / "train.h5"), validation=path)
    with pytest.raises(DataError, match="degC"):
        predict_file(run, DataSpec(celsius), tmp_path / "p.npy")
    predict_file(run, DataSpec(feet), tmp_path / "p.npy")  # has no use for targets


def test_units_that_a_file_does_not_say_are_those_of_the_training(tmp_path: Path) -> None:
    run = trained(tmp_path)
    assert evaluate(run, DataSpec(write(tmp_path / "b.h5", None, None))).output_units == ("m",)
    assert onotrain.load(run).metadata.preparation.units == {"temp": "K"}


def test_who_names_the_units_of_targets_is_believed(tmp_path: Path) -> None:
    run = trained(tmp_path, units="metres")
    assert evaluate(run, DataSpec(str(tmp_path / "train.h5"))).output_units == ("metres",)

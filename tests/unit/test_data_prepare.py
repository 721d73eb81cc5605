"""Training and validation data put together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from builders import config
from onotrain.data.prepare import prepare
from onotrain.errors import DataError


def section(folder: Path, **data: object) -> object:
    """Return a ``data`` section whose training file is train.csv."""
    return config(2, data={"train": str(folder / "train.csv"), **data}).data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.csv").write_text("a,b,c,label\n1,2,3,x\n4,5,6,y\n7,8,9,x\n")
    return tmp_path


def test_validation_columns_are_those_of_the_same_names(folder: Path) -> None:
    """In any order, and whatever other columns there are."""
    (folder / "held-out.csv").write_text("label,c,extra,b,a\nx,3,77,2,1\ny,6,77,5,4\n")
    made = section(folder, validation=str(folder / "held-out.csv"))
    arrays = prepare(made, "multiclass", 2, "float32", 10**9).arrays
    np.testing.assert_array_equal(arrays["validation_features"], [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(arrays["validation_targets"], [0, 1])


def test_validation_columns_without_names_are_not_guessed(folder: Path) -> None:
    (folder / "held-out.csv").write_text("1,2,3,x\n4,5,6,y\n")
    with pytest.raises(DataError, match="held-out.csv: 4 of the columns that the network needs are missing: a, b, c"):
        prepare(section(folder, validation=str(folder / "held-out.csv")), "multiclass", 2, "float32", 10**9)


def test_a_missing_validation_column_is_named(folder: Path) -> None:
    (folder / "held-out.csv").write_text("label,c,a\nx,3,1\n")
    with pytest.raises(DataError, match="1 of the columns that the network needs is missing: b") as caught:
        prepare(section(folder, validation=str(folder / "held-out.csv")), "multiclass", 2, "float32", 10**9)
    assert caught.value.hint == "the network was trained on a, b, c and the target label"


@pytest.mark.parametrize("suffix", ["csv", "npz"])
def test_a_part_that_is_the_training_file_is_noted(folder: Path, suffix: str) -> None:
    """Whatever the file is called: its samples count."""
    path = folder / f"train.{suffix}"
    if suffix == "npz":
        np.savez(path, x=np.arange(6.0).reshape(3, 2), y=np.array([0, 1, 0]))
    (folder / f"copy.{suffix}").write_bytes(path.read_bytes())
    made = section(folder, train=str(path), test=str(folder / f"copy.{suffix}"))
    notes = prepare(made, "multiclass", 2, "float32", 10**9).notes
    assert "the test samples are those that are trained on; their metrics say nothing new" in notes

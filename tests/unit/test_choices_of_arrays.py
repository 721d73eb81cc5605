"""Which arrays of a file are taken is said, and those that are called validation and test are used as such."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from commands import initialised
from onotrain.cli.program import run
from onotrain.config.data import NamedArrays
from onotrain.text import figure

X = np.random.default_rng(3).normal(size=(90, 4))
Y = X @ [1.0, 2.0, -1.0, 0.5]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def save(path: str, **arrays: np.ndarray) -> None:
    if path.endswith(".npz"):
        np.savez(path, **arrays)
        return
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values


@pytest.mark.parametrize(
    ("path", "names", "word"),
    [
        ("t.npz", ("x_{}", "y_{}"), "val"),
        ("t.npz", ("X_{}", "Y_{}"), "dev"),
        ("t.h5", ("{}_x", "{}_y"), "validation"),
        ("t.h5", ("{}/Inputs", "{}/Outputs"), "valid"),
    ],
)
def test_parts_in_one_file(path: str, names: tuple[str, str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = {
        name.format(part): values
        for part, rows in (("train", X[:50]), (word, X[50:70]), ("test", X[70:]))
        for name, values in zip(names, (rows, rows @ [1.0, 2.0, -1.0, 0.5]), strict=True)
    }
    save(path, **arrays, extra=np.zeros(3))
    config = initialised(path, "--force")
    x, y = names
    assert config.data.validation == NamedArrays(features=x.format(word), targets=y.format(word))
    assert config.data.test == NamedArrays(features=x.format("test"), targets=y.format("test"))
    out = said(capsys)
    assert f"arrays: features {x.format('train')}; targets {y.format('train')}" in out
    assert f"validation: features {x.format(word)}; targets {y.format(word)}" in out
    assert "not used: extra" in out
    assert f"validation: {x.format(word)} and {y.format(word)} network" in out  # validate
    assert run(["data", "info", path]) == 0
    assert "not used: extra" in said(capsys)
    assert run(["train", "c.yaml", "--output", "r", "--set", "training.epochs=1", "--progress", "none"]) == 0
    out = said(capsys)
    assert "50 samples to train on, 20 to validate on, 20 to test on" in out
    assert f"test loss {figure(json.loads(Path('r/summary.json').read_text())['test_loss'])}" in out


def test_a_test_part_alone_stays_for_the_end() -> None:
    save("t.npz", x_train=X[:70], y_train=Y[:70], x_test=X[70:], y_test=Y[70:])
    config = initialised("t.npz")
    assert config.data.validation == 0.2
    assert config.data.test == NamedArrays(features="x_test", targets="y_test")


def test_other_arrays_are_no_parts(capsys: pytest.CaptureFixture[str]) -> None:
    save("t.npz", X=X, y=Y, strain=X, latest=Y)
    assert initialised("t.npz").data.test is None
    assert "arrays: features X; targets y note: not used: strain, latest" in said(capsys)
    # What is named is no choice.
    assert initialised("t.npz", "--features", "strain", "--targets", "latest").data.features == "strain"
    assert "arrays: features" not in said(capsys)


def test_the_files_of_matlab(capsys: pytest.CaptureFixture[str]) -> None:
    with h5py.File("t.h5", "w") as file:
        for name, values in (("X", X), ("Y", Y[:, np.newaxis])):
            file[name] = values.T
            file[name].attrs["MATLAB_class"] = np.bytes_("double")
    assert run(["data", "info", "t.h5"]) == 0
    assert "the last axis of X (4, 90) counts the samples, as in the files of MATLAB" in said(capsys)

"""The precision of products in configurations, in Python and on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import builders
import networks
import onotrain
from onotrain.bench.subject import subject_of
from onotrain.cli.program import run
from onotrain.errors import ConfigError, UsageError
from onotrain.inference.export import tensors
from onotrain.parallel.world import World


@pytest.fixture(autouse=True)
def reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use what multiplies in bfloat16 on any CPU."""
    monkeypatch.setenv("ONOTRAIN_KERNELS", "reference")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network, one of float64, and data."""
    monkeypatch.chdir(tmp_path)
    networks.save(tmp_path / "net.h5", networks.example("multiclass"))
    networks.save(tmp_path / "wide.h5", networks.example("multiclass", dtype="float64"))
    x = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(30) % 3)
    return tmp_path


def test_the_default_is_full_and_stays_so():
    made = builders.config()
    assert made.training.precision == "full"
    assert builders.config(training={"precision": "bf16"}).to_mapping()["training"]["precision"] == "bf16"


def test_bf16_needs_float32():
    with pytest.raises(ConfigError, match=r"bf16 needs dtype float32 \(got bf16, dtype is float64\)"):
        builders.config(training={"precision": "bf16", "dtype": "float64"})


def test_load_takes_a_precision(folder):
    x = np.load("data.npz")["x"]
    full, rounded = onotrain.load("net.h5"), onotrain.load("net.h5", precision="bf16")
    assert (full.kernels.precision, rounded.kernels.precision) == ("full", "bf16")
    assert 0 < np.abs(full.predict(x) - rounded.predict(x)).max() < 0.05
    for name, tensor in tensors(full).items():
        np.testing.assert_array_equal(tensors(rounded)[name], tensor)
    with pytest.raises(UsageError, match="got a network of float64, expected float32"):
        onotrain.load("wide.h5", precision="bf16")


def test_predict_says_in_what_it_computed(folder, capsys):
    assert run(["predict", "net.h5", "data.npz", "-o", "full.npy"]) == 0
    assert "bf16" not in capsys.readouterr().out
    assert run(["predict", "net.h5", "data.npz", "-o", "bf16.npy", "--precision", "bf16"]) == 0
    assert "matrix products computed in bf16" in capsys.readouterr().out.splitlines()
    expected = onotrain.load("net.h5", precision="bf16").predict(np.load("data.npz")["x"])
    np.testing.assert_array_equal(np.load("bf16.npy"), expected)
    assert (np.load("full.npy") != expected).any()


def test_predict_refuses_float64(folder, capsys):
    assert run(["predict", "wide.h5", "data.npz", "-o", "y.npy", "--precision", "bf16"]) == 2
    said = capsys.readouterr().err
    assert "precision bf16: got a network of float64" in said and "hint: " in said and "Traceback" not in said
    assert not Path("y.npy").exists()


def test_a_cpu_that_cannot_is_an_error_of_the_environment(folder, capsys, monkeypatch):
    monkeypatch.setenv("ONOTRAIN_KERNELS", "baseline")
    assert run(["predict", "net.h5", "data.npz", "-o", "y.npy", "--precision", "bf16"]) == 7
    said = capsys.readouterr().err
    assert "AVX-512 BF16" in said and "hint: " in said and "Traceback" not in said


def test_evaluate_says_in_what_it_computed(folder, capsys):
    assert run(["evaluate", "net.h5", "data.npz", "--json"]) == 0
    assert "notes" not in json.loads(capsys.readouterr().out)
    assert run(["evaluate", "net.h5", "data.npz", "--json", "--precision", "bf16"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == ["matrix products are computed in bf16"]


def test_what_is_measured_has_the_precision_of_its_configuration():
    with World.connect() as world:
        for precision in ("full", "bf16"):
            subject = subject_of(world, None, [f"training.precision={precision}"], None)
            assert subject.kernels.precision == subject.describe()["precision"] == precision

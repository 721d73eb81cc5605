"""Whole trainings of every task, as a user starts them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

import onotrain as package
from builders import mapping
from launch import mpirun, onotrain
from onotrain.runs.run_directory import RunDirectory

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("ONOTRAIN_DATA_DIR", ROOT.parent / "shared" / "data"))


def train(directory: Path, config: dict[str, Any], *arguments: str, ranks: int = 2) -> tuple[Path, dict[str, Any]]:
    """Train; return the run directory and its summary."""
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    done = onotrain("train", path, "--output", directory / "run", *arguments, ranks=ranks, cwd=directory, timeout=100)
    assert done.returncode == 0, done.stderr
    return directory / "run", json.loads((directory / "run" / "summary.json").read_text())


def dense(units: int, activation: str = "tanh") -> dict[str, Any]:
    """Return a layer."""
    return {"dense": {"units": units, "activation": activation}}


@pytest.mark.long
def test_mnist_reaches_its_accuracy(tmp_path: Path) -> None:
    """The network of configs/mnist-mlp.yaml, five epochs on two ranks, at least 0.980 on the test images."""
    if not (DATA / "mnist").is_dir():
        pytest.skip("MNIST is not in $ONOTRAIN_DATA_DIR: onotrain data fetch mnist")
    done = onotrain(
        "train", ROOT / "configs/mnist-mlp.yaml", "--output", tmp_path / "run",
        ranks=2, timeout=300, env={"ONOTRAIN_DATA_DIR": str(DATA)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["validation_accuracy"] >= 0.980
    assert summary["steps"] == 5 * 938 and summary["ranks"] == 2 and summary["strategy"] == "allreduce"


def test_regression_with_several_outputs_from_hdf5(tmp_path: Path) -> None:
    """Simulation data: three outputs, a validation file, early stopping on R2, a plateau schedule."""
    rng = np.random.default_rng(0)
    for name, rows in (("train.h5", 1500), ("held-out.h5", 300)):
        x = rng.uniform(-2, 2, (rows, 4)).astype(np.float32)
        y = np.stack([np.sin(x[:, 0]), x[:, 1] * x[:, 2], x[:, 3] ** 2], axis=1) + 5.0
        with h5py.File(tmp_path / name, "w") as file:
            file["x"], file["y"] = x, y.astype(np.float32)
    stopping = {"metric": "validation_r2", "patience": 8}
    config = mapping(
        dense(48, "gelu"),
        dense(48, "gelu"),
        3,
        data={"train": "train.h5", "validation": "held-out.h5", "normalize": "standard"},
        loss="mse",
        optimizer={"name": "adamw", "learning_rate": 5e-3},
        schedule={"name": "plateau", "patience": 3, "factor": 0.5, "warmup_steps": 20},
        training={"epochs": 60, "batch_size": 32, "clip_norm": 10.0, "early_stopping": stopping},
    )
    run, summary = train(tmp_path, config)
    assert summary["validation_r2"] > 0.98 and summary["best"]["metric"] == "validation_r2"
    assert summary["best"]["value"] == summary["validation_r2"] and summary["restored_best"]
    rows = RunDirectory.open(run).records()
    assert max(row["validation_r2"] for row in rows) == summary["best"]["value"]
    assert "train_accuracy" not in rows[0]
    # What predicts is the best network, not the last.
    held_out = h5py.File(tmp_path / "held-out.h5")
    x, y = held_out["x"][:], held_out["y"][:]
    values = package.load(run).predict(x)
    error = ((values - y) ** 2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    assert 1 - error.mean() == pytest.approx(summary["best"]["value"], abs=1e-4)


def test_binary_from_csv_with_named_classes(tmp_path: Path) -> None:
    """A table with words for labels; probabilities and names come back."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(600, 3))
    labels = np.where(x[:, 0] * x[:, 1] > 0, "sick", "well")
    lines = ["a,b,c,state", *(f"{p[0]:.6f},{p[1]:.6f},{p[2]:.6f},{label}" for p, label in zip(x, labels, strict=True))]
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    config = mapping(
        dense(32),
        dense(16),
        1,
        data={"train": "table.csv", "targets": "state", "validation": 0.25, "normalize": "minmax"},
        loss="binary_cross_entropy",
        optimizer={"name": "rmsprop", "learning_rate": 5e-3, "momentum": 0.5},
        training={"epochs": 60, "batch_size": 25},
    )
    run, summary = train(tmp_path, config, ranks=3)
    assert summary["validation_accuracy"] > 0.9
    predictor = package.load(run)
    assert predictor.class_names == ("sick", "well")
    assert (predictor.predict_classes(x.astype(np.float32)) == (labels == "well")).mean() > 0.9


def test_multi_label_in_double_precision(tmp_path: Path) -> None:
    """Several yes-or-no outputs, float64, NPZ, no validation data; only the training loss is reported."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(500, 6)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=(x[:, :3] > 0).astype(np.float32))
    config = mapping(
        dense(16),
        3,
        data={"train": "data.npz"},
        loss="binary_cross_entropy",
        optimizer={"name": "lamb", "learning_rate": 2e-2},
        training={"epochs": 20, "batch_size": 20, "dtype": "float64"},
    )
    run, summary = train(tmp_path, config, ranks=1)
    assert summary["train_accuracy"] > 0.95 and "validation_loss" not in summary
    assert package.load(run).predict(x).dtype == np.float64
    assert package.load(run).predict_classes(x).shape == (500, 3)


def test_streaming_trains_as_memory_does(tmp_path: Path) -> None:
    """One window: bit-equal parameters; the split and the validation of streamed samples included."""
    assert onotrain("data", "convert", "digits", tmp_path / "digits.h5").returncode == 0
    digests = []
    for stream in (True, False):
        data = {"train": "../digits.h5", "validation": 0.2, "normalize": "standard", "stream": stream}
        config = mapping(dense(24), 10, data=data, training={"epochs": 3, "batch_size": 32})
        directory = tmp_path / str(stream)
        directory.mkdir()
        _, summary = train(directory, config)
        digests.append((summary["parameters_sha256"], summary["validation_loss"], summary["validation_accuracy"]))
    assert digests[0] == digests[1]


def test_a_plain_process_trains_without_mpirun_into_a_new_directory(tmp_path: Path) -> None:
    """No launcher, no --output: runs/<name>-<number>; the record has its keys, one line an epoch is printed."""
    config = mapping(dense(16), 10, data={"validation": 0.2}, training={"epochs": 2, "batch_size": 64})
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config))
    for number in (1, 2):
        done = onotrain("train", "tiny.yaml", cwd=tmp_path)
        assert done.returncode == 0 and done.stderr == "", done.stderr
        assert sum(line.startswith("epoch ") for line in done.stdout.splitlines()) == 2
        run = tmp_path / "runs" / f"tiny-{number}"
        summary = json.loads((run / "summary.json").read_text())
        wanted = {
            "epochs", "steps", "ranks", "nodes", "strategy", "train_seconds", "samples_per_second", "train_loss",
            "train_accuracy", "validation_loss", "validation_accuracy", "learning_rate", "parameters_sha256",
        }  # fmt: skip
        assert wanted <= summary.keys() and summary["finished"]
        row = RunDirectory.open(run).records()[-1]
        assert (wanted - {"epochs", "parameters_sha256"}) | {"epoch", "ranks_seconds"} <= row.keys()
        assert (run / "config.yaml").exists() and json.loads((run / "environment.json").read_text())["ranks"] == 1


def test_a_program_that_fails_on_one_rank_ends_the_job(tmp_path: Path) -> None:
    """Python users have no guard around them: the end of the failing rank is the end of all."""
    program = f"""\
import onotrain
from onotrain.parallel.world import World
from onotrain.training.trainer import Trainer

def fail(trainer):
    raise ZeroDivisionError("mine")

if World.connect().rank == 1:
    Trainer.run = fail
onotrain.train({mapping()}, output="run")
"""
    (tmp_path / "program.py").write_text(program)
    done = mpirun(3, sys.executable, "program.py", cwd=tmp_path, timeout=20)
    assert done.returncode != 0 and done.stderr.count("ZeroDivisionError: mine") == 1

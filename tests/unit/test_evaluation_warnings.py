"""Warnings that must not be overlooked: a network that has learned nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import builders
from onotrain.cli.program import run
from onotrain.data import DataSpec
from onotrain.evaluation.statistics import ClassCounts
from onotrain.evaluation.warnings import warnings_of, watched
from onotrain.inference.evaluation import evaluate
from onotrain.training import train


def dead(tmp_path: Path, **sections: Any) -> Path:
    """Train a network whose learning rate is so small that it stays what it is; return its directory."""
    made = builders.mapping(
        **{
            "model": {"layers": [{"dense": 3}], "initializer": {"name": "constant", "value": 1.0}},
            "data": {"train": str(tmp_path / "t.npz"), "validation": 0.25},
            "optimizer": {"name": "sgd", "learning_rate": 1e-30},
            "training": {"epochs": 1, "batch_size": 24},
            **sections,
        }
    )
    return train(made, output=tmp_path / "run").output


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """A network that takes everything for class 0."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "t.npz", x=rng.normal(size=(100, 4)), y=np.arange(100) % 3)
    return dead(tmp_path)


@pytest.fixture
def values(tmp_path: Path) -> Path:
    """A network that knows nothing of outputs of which two are far from what it predicts, and one does not vary."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(100, 3)) * [1, 1, 0] + [1000.0, 3.0, 2.0]
    np.savez(tmp_path / "t.npz", x=rng.normal(size=(100, 4)), y=y)
    return dead(tmp_path, loss="mse")


def test_all_predictions_one_class(classes: Path) -> None:
    summary = json.loads((classes / "summary.json").read_text())
    (warning,) = summary["warnings"]
    assert warning.startswith("ALL PREDICTIONS ARE ONE CLASS: each of 25 samples is taken for class '0'")
    assert "loss.class_weights: balanced" in warning
    assert builders.records(classes)[0]["warnings"] == [warning]
    found = evaluate(classes, DataSpec(str(classes.parent / "t.npz")), ["accuracy"])
    assert "each of 100 samples" in found.warnings[0] and found.to_mapping()["warnings"] == list(found.warnings)


def test_r2_below_zero(values: Path) -> None:
    """Of the outputs that it is true of, by name; the one that does not vary is a note of its own."""
    warning, constant = json.loads((values / "summary.json").read_text())["warnings"]
    assert constant.startswith("r2 is the mean over the other outputs: the targets of y[2] do not vary")
    assert warning.startswith("R2 IS BELOW 0 for y[0] (-") and ", y[1] (-" in warning and "y[2]" not in warning
    assert "data.normalize_targets: standard" in warning
    found = evaluate(values, DataSpec(str(values.parent / "t.npz")))
    assert len(found.warnings) == 2 and "the targets of y[2] do not vary" in found.warnings[1]
    assert [output.r2 < 0 for output in found.outputs[:2]] == [True, True] and np.isnan(found.outputs[2].r2)
    assert found.metrics["r2"] == np.mean([output.r2 for output in found.outputs[:2]])
    assert found.to_mapping()["outputs"][2]["r2"] is None


def test_targets_that_are_scaled_already_need_no_such_advice(values: Path) -> None:
    """Neither at the end of a training nor in an evaluation; the rest of the advice stays."""
    data = {"train": str(values.parent / "t.npz"), "validation": 0.25, "normalize_targets": "standard"}
    again = values.parent / "scaled"
    again.mkdir()
    found = dead(again, loss="mse", data=data)
    for warnings in (
        json.loads((found / "summary.json").read_text())["warnings"],
        evaluate(found, DataSpec(data["train"])).warnings,
    ):
        assert warnings[0].startswith("R2 IS BELOW 0") and "train longer" in warnings[0]
        assert "normalize_targets" not in warnings[0] and "scale the targets" not in warnings[0]


def test_they_come_last_however_quiet(classes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, config = str(classes.parent / "t.npz"), str(classes / "config.yaml")
    assert run(["evaluate", str(classes), data]) == 0
    assert capsys.readouterr().err.splitlines()[-1].startswith("onotrain: warning: ALL PREDICTIONS ARE ONE CLASS")
    assert run(["train", config, "--output", str(classes.parent / "again"), "--quiet"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "" and "onotrain: warning: ALL PREDICTIONS ARE ONE CLASS" in printed.err


def test_there_are_none_without_a_reason() -> None:
    counts = watched("binary", 1, np.zeros(1))
    assert counts == ClassCounts(2)
    assert warnings_of(counts, np.array([9.0, 4, 5, 8, 1, 4, 1]), ("no", "yes")) == []
    (found,) = warnings_of(counts, np.array([9.0, 4, 5, 9, 0, 4, 0]), ("no", "yes"))
    assert "'no'" in found and "0.4444" in found
    assert watched("multilabel", 3, np.zeros(3)) is None

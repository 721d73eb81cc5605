"""One positive in a hundred samples: what shows that it is never found, and what finds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import builders
from onotrain.data import DataSpec
from onotrain.inference.evaluation import Evaluation, evaluate
from onotrain.training import train


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Four thousand samples, one in a hundred of which is of class 1."""
    rng = np.random.default_rng(9)
    x = rng.normal(size=(4000, 6)).round(3)
    y = rng.random(4000) < 1 / (1 + np.exp(6 - 1.5 * x[:, 0] - x[:, 1]))
    path = tmp_path / "fraud.csv"
    np.savetxt(path, np.c_[x, y], "%g", ",", header="a,b,c,d,e,f,Class", comments="")
    return path


def evaluated(source: Path, outputs: int, loss: dict[str, Any], **training: Any) -> Evaluation:
    made = builders.mapping(
        builders.relu(16), outputs, data={"train": str(source), "validation": 0.2, "normalize": "standard"}, loss=loss,
        training={"epochs": 15, "batch_size": 64, **training},
    )  # fmt: skip
    output = train(made, output=source.parent / f"run-{outputs}-{len(list(source.parent.iterdir()))}").output
    return evaluate(output, DataSpec(str(source)))


@pytest.mark.parametrize(("outputs", "loss"), [(2, "cross_entropy"), (1, "binary_cross_entropy")])
def test_balanced_classes_find_the_rare_one(source: Path, outputs: int, loss: str) -> None:
    """Logistic regression with balanced weights finds 83 % of it."""
    plain = evaluated(source, outputs, {"name": loss})
    assert plain.metrics["accuracy"] > 0.99 and plain.scores[1].recall < 0.2
    balanced = evaluated(source, outputs, {"name": loss, "class_weights": "balanced"})
    assert balanced.scores[1].recall >= 0.8
    assert balanced.metrics["balanced_accuracy"] > plain.metrics["balanced_accuracy"] + 0.2


def test_early_stopping_by_a_metric_that_shows_it(source: Path) -> None:
    stopping = {"metric": "validation_balanced_accuracy", "patience": 2}
    loss = {"name": "cross_entropy", "class_weights": "balanced"}
    evaluated(source, 2, loss, early_stopping=stopping, metrics=["balanced_accuracy", "f1[1]", "average_precision"])
    (run,) = source.parent.glob("run-*")
    records = builders.records(run)
    best = max(record["validation_balanced_accuracy"] for record in records)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["validation_balanced_accuracy"] == summary["best"]["value"] == best
    assert best > 0.7 and all(0 < record["validation_f1[1]"] < 1 for record in records)

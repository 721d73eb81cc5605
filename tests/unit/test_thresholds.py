"""Thresholds of probabilities: what evaluate and predict decide by them, and how the best one is found."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

import networks
from onotrain.cli.program import run
from onotrain.data import DataSpec
from onotrain.errors import UsageError
from onotrain.inference.evaluation import evaluate
from onotrain.inference.job import predict_file
from onotrain.inference.predictor import load

ROWS = 300
TWO_OUTPUTS = {"layers": [{"dense": 2}], "class_names": ("no", "yes")}


@pytest.fixture(params=["binary", "two outputs"])
def net(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A network that tells two classes apart."""
    made = networks.example("binary") if request.param == "binary" else networks.checkpoint(**TWO_OUTPUTS)
    return networks.save(tmp_path / "net.h5", made)


def labelled(tmp_path: Path, net: Path) -> tuple[DataSpec, np.ndarray, np.ndarray]:
    """Return a file of samples, a fifth of which are of the second class, their classes, and their probabilities."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 5)).astype(np.float32)
    p = load(net).predict(x)[:, -1]
    y = (p + 0.2 * rng.normal(size=ROWS) > np.quantile(p, 0.8)).astype(int)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    return DataSpec(str(tmp_path / "data.npz")), y, p


def test_the_best_threshold_has_the_largest_f1(tmp_path: Path, net: Path) -> None:
    spec, y, p = labelled(tmp_path, net)
    found = evaluate(net, spec, threshold="best_f1")
    assert isinstance(found.threshold, float) and len(str(found.threshold)) < 10
    best = max(f1_score(y, p.astype(float) > t) for t in [0.0, *p.astype(float)])
    assert found.metrics["f1"] != evaluate(net, spec).metrics["f1"]
    assert found.scores[1].f1 == pytest.approx(best)
    assert f1_score(y, p.astype(float) > found.threshold) == pytest.approx(best)
    again = evaluate(net, spec, threshold=found.threshold)
    assert again.metrics == found.metrics and found.to_mapping()["threshold"] == found.threshold
    assert found.metrics["accuracy"] == np.mean((p.astype(float) > found.threshold) == y)


def test_predict_decides_as_evaluate_does(tmp_path: Path, net: Path) -> None:
    spec, _, p = labelled(tmp_path, net)
    threshold = float(np.quantile(p, 0.7))
    predict_file(net, spec, tmp_path / "out.csv", threshold=threshold)
    with open(tmp_path / "out.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    yes = [row["class"] == "yes" for row in rows]
    np.testing.assert_array_equal(yes, p.astype(float) > threshold)
    assert sum(yes) == evaluate(net, spec, threshold=threshold).scores[1].predicted


def test_every_label_has_a_threshold_of_its_own(tmp_path: Path) -> None:
    net = networks.save(tmp_path / "net.h5", networks.example("multilabel"))
    rng = np.random.default_rng(1)
    x = rng.normal(size=(ROWS, 5)).astype(np.float32)
    p = load(net).predict(x).astype(float)
    y = (p + 0.2 * rng.normal(size=p.shape) > np.quantile(p, [0.5, 0.8, 0.9], axis=0).diagonal()).astype(int)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    found = evaluate(net, DataSpec(str(tmp_path / "data.npz")), ["f1"], threshold="best_f1")
    assert isinstance(found.threshold, tuple) and len(found.threshold) == 3
    best = [max(f1_score(y[:, n], p[:, n] > t) for t in [0.0, *p[:, n]]) for n in range(3)]
    assert found.metrics["f1"] == pytest.approx(np.mean(best))
    predict_file(net, DataSpec(str(tmp_path / "data.npz")), tmp_path / "out.h5", threshold=0.3)


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_only_two_answers_have_a_threshold(tmp_path: Path, task: str) -> None:
    net = networks.save(tmp_path / "net.h5", networks.example(task))
    np.save(tmp_path / "x.npy", np.zeros((3, 5), np.float32))
    spec = DataSpec(str(tmp_path / "x.npy"))
    for call in (
        lambda: evaluate(net, spec, threshold=0.3),
        lambda: evaluate(net, spec, threshold="best_f1"),
        lambda: predict_file(net, spec, tmp_path / "out.npy", threshold=0.3),
    ):
        with pytest.raises(UsageError, match="a threshold needs a network that answers yes or no"):
            call()


def test_what_is_no_threshold(tmp_path: Path, net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, *_ = labelled(tmp_path, net)
    with pytest.raises(UsageError, match="the threshold is 1.5, expected a probability from 0 to 1"):
        evaluate(net, spec, threshold=1.5)
    assert run(["evaluate", str(net), spec.path, "--threshold", "best"]) == 2
    assert "--threshold is 'best', expected a probability from 0 to 1 or best_f1" in capsys.readouterr().err
    assert run(["predict", str(net), spec.path, "-o", str(tmp_path / "o.npy"), "--threshold", "best_f1"]) == 2
    assert "needs targets, which predict does not read" in capsys.readouterr().err
    assert not (tmp_path / "o.npy").exists()


def test_it_is_printed_in_full(tmp_path: Path, net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, *_ = labelled(tmp_path, net)
    assert run(["evaluate", str(net), spec.path, "--threshold", "best_f1", "--metrics", "f1[yes]"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "threshold" in line)
    assert float(line.split()[1]) == evaluate(net, spec, threshold="best_f1").threshold

"""What the command line says and does about a run that begins with another one, or in its place."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from commands import write
from onotrain.cli.program import run

CONFIG = """
data: {train: t.csv, normalize: standard}
model: {layers: [{dense: {units: 8, activation: relu}}, {dense: 1}]}
loss: mse
optimizer: {name: sgd, learning_rate: 0.1}
training: {epochs: 2, batch_size: 2}
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write("t.csv", "a,b,y", (1, 2, 0.5), (7, 1, 1.5), (3, 5, 2.5), (4, 3, 3.5))
    Path("t.yaml").write_text(CONFIG)
    return tmp_path


def train(*words: str) -> int:
    """Run the command; return its exit code."""
    return run(["train", "t.yaml", *words])


def summary(path: str) -> dict[str, object]:
    """Return the summary of a run."""
    return dict(json.loads(Path(path, "summary.json").read_text()))


def test_a_run_is_gone_on_with_at_another_rate(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--output", "old run", "--quiet") == 0
    assert train("--from", "old run", "--set", "optimizer.learning_rate=1e-3", "--output", "new") == 0
    out = capsys.readouterr().out
    assert "note      begins with the parameters of old run/checkpoints/step-000000004.h5, step 4" in out
    assert summary("new")["origin"]["parameters_sha256"] == summary("old run")["parameters_sha256"]  # type: ignore[index]
    assert train("--from", "nowhere", "--output", "other") == 2
    assert "nowhere: no such run directory" in capsys.readouterr().err


def test_validate_checks_what_a_run_would_begin_with(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--output", "old", "--quiet") == 0
    assert run(["validate", "t.yaml", "--set", "model.from=old"]) == 0
    assert "begins with the parameters of old/" in capsys.readouterr().out
    wider = ["--set", "model.from=old", "--set", "model.layers.0.dense.units=9"]
    assert run(["validate", "t.yaml", *wider]) == train(*wider, "--output", "new") == 4
    assert capsys.readouterr().err.count("dense_0/weight: got 8x2, expected 9x2") == 2


def test_a_divergence_names_no_checkpoint_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--output", "run", "--set", "optimizer.learning_rate=1e30") == 5
    said = capsys.readouterr().err
    assert "there is no checkpoint yet" in said and "--from" not in said
    change = next(word for word in shlex.split(said) if word.startswith("optimizer.learning_rate="))
    assert change.rstrip(",") == "optimizer.learning_rate=1e+29"


def test_what_can_be_done_where_a_run_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--output", "run", "--quiet") == 0
    assert train("--output", "run") == 2
    said = capsys.readouterr().err
    assert all(word in said for word in ("--resume", "--overwrite", "--output"))
    assert train("--output", "run", "--overwrite", "--set", "training.epochs=1", "--quiet") == 0
    assert summary("run")["epochs"] == 1
    assert train("--output", "run", "--overwrite", "--resume") == 2
    assert "either resumed or overwritten" in capsys.readouterr().err

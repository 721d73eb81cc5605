"""``onotrain compare``: what is finished is kept, what fails is a row, and what was killed goes on."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

import launch

pytestmark = pytest.mark.long

BASE = """
data: {train: digits, validation: 0.2}
model: {layers: [{dense: 8}, {activation: relu}, {dense: 10}]}
loss: cross_entropy
training: {epochs: 3, batch_size: 64}
checkpoint: {every_epochs: 1}
"""
STUDY = """
config: base.yaml
ranks: [1, 2]
seeds: [0, 1]
matrix:
  strategy:
    ring: {}
    server: {strategy: parameter_server}
target: {metric: validation_accuracy, value: 0.3}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


def compare(*words: object) -> launch.Completed:
    return launch.run(launch.onotrain_command("compare", "study.yaml", *words), timeout=110)


def outcomes(folder: Path) -> dict[str, str]:
    found = json.loads((folder / "studies" / "study" / "study.json").read_text())["trainings"]
    return {each["name"]: each["state"] for each in found}


def test_a_failed_training_is_a_row_and_the_finished_ones_are_kept(folder: Path) -> None:
    """A server needs two ranks."""
    done = compare()
    assert done.returncode == 2, done.stderr
    states = outcomes(folder)
    assert list(states.values()).count("failed") == 2 and list(states.values()).count("done") == 6
    why = "strategy parameter_server with 1 server needs 2 ranks or more (got 1)"
    assert done.stdout.count(f"FAILED with 2: {why}") == 2
    report = folder / "studies" / "study" / "report"
    page = (report / "report.html").read_text()
    for words in ("Failed", "To the target", "Scaling", "What may be chance", "speed-up"):
        assert words in page
    assert "tabular" in (report / "numbers" / "to-the-target.tex").read_text()
    runs = folder / "studies" / "study" / "runs"
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("metrics.jsonl")}
    again = compare()
    assert again.returncode == 2 and again.stdout.count("finished before") == 6
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("metrics.jsonl")} == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_what_was_killed_or_stopped_goes_on(folder: Path, number: signal.Signals) -> None:
    study = STUDY.replace("ranks: [1, 2]", "ranks: [2]").replace("seeds: [0, 1]", "seeds: [0, 1, 2]")
    study = study.replace("    server: {strategy: parameter_server}\n", "")
    (folder / "study.yaml").write_text(f"{study}set: {{training.epochs: 60}}\n")
    words = launch.onotrain_command("compare", "study.yaml")
    with launch.start(words) as running:
        runs = folder / "studies" / "study" / "runs"
        second = runs / "ring" / "2-ranks" / "seed-1"
        end = time.monotonic() + 60
        while not list((second / "checkpoints").glob("step-*.h5")) and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(running.pid, number)
        running.wait(timeout=30)
        assert running.returncode == (75 if number == signal.SIGTERM else -9)
    finished = (runs / "ring" / "2-ranks" / "seed-0" / "summary.json").stat().st_mtime_ns
    done = compare("--mpirun-args", "--timeout 100")
    assert done.returncode == 0, done.stderr
    states = outcomes(folder)
    assert states["ring/2-ranks/seed-0"] == "kept" and list(states.values()).count("done") >= 2
    assert (runs / "ring" / "2-ranks" / "seed-0" / "summary.json").stat().st_mtime_ns == finished
    whole = [json.loads(line)["epoch"] for line in (second / "metrics.jsonl").read_text().splitlines()]
    assert whole == list(range(1, 61))


def test_more_ranks_than_cores_share_them(folder: Path) -> None:
    """Where nothing tells mpirun to, as on a laptop, it would refuse to start them."""
    ranks = len(os.sched_getaffinity(0)) + 1
    (folder / "study.yaml").write_text(f"config: base.yaml\nranks: [{ranks}]\nset: {{training.epochs: 1}}\n")
    unset = (word for name in launch.mpi_settings() if name.startswith("PRTE_") for word in ("-u", name))
    done = launch.run(["env", *unset, *launch.onotrain_command("compare", "study.yaml")], timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"up to {ranks} ranks share {ranks - 1} core" in done.stdout


def test_a_launcher_that_starts_no_rank_is_quoted(folder: Path) -> None:
    (folder / "mpirun").write_text("#!/bin/sh\necho ------\necho No slots for you. >&2\nexit 1\n")
    (folder / "mpirun").chmod(0o755)
    (folder / "study.yaml").write_text("config: base.yaml\nranks: [1]\n")
    done = compare("--mpirun", folder / "mpirun")
    assert done.returncode == 1 and "FAILED with 1: No slots for you." in done.stdout

"""``onotrain plan`` and ``onotrain simulate``: what they print and write, and what they refuse."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import launch

STUDY = """
config: base.yaml
workers: [2, 64]
seeds: [0, 1]
matrix:
  strategy:
    ring: {}
    switch: {strategy: strategy_switch}
    apart: {strategy: {name: parameter_server, staleness: unbounded}}
cluster: {bandwidth_mbit: 100, jitter: 0.2, computing: {rows: [1, 64], seconds: [1e-4, 1e-3], update_seconds: 1e-5}}
"""
BASE = """
data: {train: digits, validation: 0.2}
model: {layers: [{dense: 8}, {activation: relu}, {dense: 10}]}
loss: cross_entropy
training: {epochs: 3, batch_size: 64}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


def test_a_study(folder: Path) -> None:
    done = launch.onotrain("simulate", "study.yaml", timeout=110)
    assert done.returncode == 2, done.stderr  # the switch's rule needs losses
    lines = done.stdout.splitlines()
    assert lines[0] == "12 trainings of study.yaml, simulated"
    assert sum("NOT SIMULATED: strategy_switch" in line for line in lines) == 4
    report = folder / "simulated" / "study"
    page = (report / "report.html").read_text()
    assert "SIMULATED" in page and "Speed-up" in page and "strategy_switch cannot be simulated" in page
    rows = list(csv.DictReader((report / "numbers" / "runs.csv").read_text().splitlines()))
    assert len(rows) == 8 and {row["ranks"] for row in rows} == {"2", "64", "3", "65"}
    assert len({row["train_seconds"] for row in rows}) == 8  # other seeds, other delays


@pytest.mark.long
def test_losses_of_real_trainings(folder: Path) -> None:
    """Time until a target on the cluster: epochs from real trainings, seconds from simulated ones."""
    (folder / "study.yaml").write_text(
        STUDY.replace("workers: [2, 64]", "workers: [1]")
        .replace("seeds: [0, 1]", "seeds: [0]")
        .replace("    switch: {strategy: strategy_switch}\n", "")
        + "target: {metric: validation_accuracy, value: 0.2}\n"
    )
    trained = launch.run(launch.onotrain_command("compare", "study.yaml"), timeout=110)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    done = launch.onotrain("simulate", "study.yaml", "--losses", "studies/study", timeout=110)
    assert done.returncode == 0, done.stderr
    assert "To the target" in (folder / "simulated" / "study" / "report.html").read_text()
    table = (folder / "simulated" / "study" / "numbers" / "epochs.csv").read_text()
    real = json.loads((folder / "studies/study/runs/ring/1-ranks/seed-0/metrics.jsonl").read_text().splitlines()[2])
    assert str(real["validation_accuracy"]) in table


@pytest.mark.parametrize(
    ("study", "command", "message"),
    [
        (STUDY.partition("cluster:")[0], "simulate", "the study has no section cluster"),
        (STUDY.replace("jitter: 0.2", "jitter: -1"), "simulate", "cluster.jitter"),
        (STUDY.replace("bandwidth_mbit: 100", "groups: {nodes: 2, bandwidth_mbit: [[1, 2]]}"), "simulate", "square"),
        (STUDY.replace("    ring: {}", "    ring: {cluster.jitter: 1}"), "compare", "onotrain simulate study.yaml"),
        (STUDY.replace("    ring: {}", "    ring: {cluster.speed: 1}"), "simulate", "cluster.speed"),
    ],
)
def test_studies_that_are_refused(folder: Path, study: str, command: str, message: str) -> None:
    (folder / "study.yaml").write_text(study)
    done = launch.onotrain(command, "study.yaml", timeout=60)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr


class TestPlan:
    def test_a_cluster(self, folder: Path) -> None:
        done = launch.onotrain(
            "plan", "base.yaml", "--nodes", 16, "--ranks-per-node", 4, "--network", "1gbit,50us", "--json", "plan.json",
            timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "64 ranks on 16 nodes, 1 Gbit/s and 50 us between them (given)" in done.stdout
        assert "* allreduce" in done.stdout and "Take allreduce:" in done.stdout and "ONE RANK IS FASTER" in done.stdout
        written = json.loads((folder / "plan.json").read_text())
        assert written["ranks"] == 64 and len(written["predictions"]) == 8
        for each in written["predictions"]:
            assert each["epoch_seconds"] > 0 and each["memory_bytes"] > 0

    def test_all_ranks_of_a_job_measure(self) -> None:
        done = launch.mpirun(2, *launch.onotrain_command("plan", "base.yaml", "--set", "training.batch_size=600"))
        assert done.returncode == 0, done.stderr
        assert "2 ranks on 1 node" in done.stdout and done.stdout.count("* is the configuration's.  Take ") == 1

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--nodes", 4], "the network between them is not known"),
            (["--nodes", 2, "--network", "fast"], "expected bandwidth and latency such as 100gbit,2us"),
            (["--nodes", 2, "--network", "0gbit"], "expected bandwidth and latency"),
            (["--run", "nothing"], "no such run directory"),
        ],
    )
    def test_what_is_refused(self, words: list[object], message: str) -> None:
        done = launch.onotrain("plan", "base.yaml", *words, timeout=60)
        assert done.returncode == 2, done.stdout + done.stderr
        assert message in " ".join(done.stderr.split()) and "Traceback" not in done.stderr

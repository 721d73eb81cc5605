"""`onotrain slurm` on a real Slurm: submitted, asked to stop, requeued, resumed, with the result of an undisturbed run.

By `make test-slurm` alone, which installs Slurm.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import launch
import slurm_cluster

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "slurm"
CONFIG = """\
data: {train: digits, validation: 0.2}
model: {layers: [{dense: {units: 24, activation: relu}}, {dense: 10}]}
loss: cross_entropy
training: {epochs: 100000, batch_size: 32, max_steps: 40000}
checkpoint: {every_epochs: 100}
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cluster of two nodes, and a folder with a configuration and the lines of a site."""
    if missing := slurm_cluster.missing():
        pytest.fail(f"not installed: {', '.join(missing)} (apt-get install slurm-wlm munge)")
    with slurm_cluster.cluster(tmp_path / "slurm") as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        Path("net.yaml").write_text(CONFIG)
        lines = [f"export {name}={value}" for name, value in launch.mpi_settings().items()]
        Path("site.sh").write_text("\n".join([*lines, f"export PYTHONPATH={os.environ.get('PYTHONPATH', '')}", ""]))
        yield


def slurm_says(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def wait_for(what: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, slurm_says("squeue") + "\n".join(p.read_text() for p in Path().glob("*.log"))
        time.sleep(0.2)


def submit(*options: str) -> str:
    """Return the number of the job."""
    words = ["slurm", "net.yaml", "--ntasks-per-node", "2", "--time", "10", "--site", "site.sh", "--submit", *options]
    done = launch.run([sys.executable, "-m", "onotrain", *words], timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def state(job: str) -> str:
    return slurm_says("squeue", "-h", "-j", job, "-o", "%t") if job in slurm_says("squeue", "-h", "-o", "%i") else ""


def test_a_job_that_is_preempted_ends_as_if_it_had_not_been(slurm: None) -> None:
    job = submit()
    wait_for(lambda: any(Path("runs/net/checkpoints").glob("step-*.h5")))
    slurm_says("scancel", "--batch", "--signal=USR2", job)
    wait_for(lambda: state(job) == "PD")
    assert "saved; requeued" in Path(f"onotrain-{job}.log").read_text()
    slurm_says("scontrol", "update", f"jobid={job}", "StartTime=now")
    wait_for(lambda: state(job) == "")
    assert "ended with code 0" in Path(f"onotrain-{job}.log").read_text()
    alone = launch.mpirun(2, sys.executable, "-m", "onotrain", "train", "net.yaml", "-q", "-o", "alone", timeout=120)
    assert alone.returncode == 0, alone.stderr
    digests = {json.loads(Path(run, "summary.json").read_text())["parameters_sha256"] for run in ("runs/net", "alone")}
    assert len(digests) == 1


def test_a_mistake_ends_the_job_and_is_not_requeued(slurm: None) -> None:
    Path("net.yaml").write_text(CONFIG.replace("train: digits", "train: nowhere.npz"))
    job = submit()
    wait_for(lambda: state(job) == "")
    assert "ended with code 3" in Path(f"onotrain-{job}.log").read_text()


def sbatch(*words: object) -> str:
    """Submit one of the scripts, with the environment of the tests; return the number of the job."""
    environment = {**os.environ, **launch.mpi_settings(), "ONOTRAIN_VENV": str(Path(sys.executable).parents[1])}
    command = ["sbatch", "--parsable", *map(str, words)]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=30
    ).stdout.strip()


def test_a_scaling_study_is_an_array_of_jobs(slurm: None) -> None:
    Path("net.yaml").write_text(CONFIG.replace("max_steps: 40000", "max_steps: 400"))
    job = sbatch("--array=1,2", "--ntasks=2", SCRIPTS / "scaling.sbatch", "net.yaml", "study")
    wait_for(lambda: job not in slurm_says("squeue", "-h", "-o", "%A %F"))
    summaries = [json.loads(Path(f"study/ranks-{ranks}/summary.json").read_text()) for ranks in (1, 2)]
    assert [each["ranks"] for each in summaries] == [1, 2] and {each["steps"] for each in summaries} == {400}


def test_prediction_is_a_job_too(slurm: None) -> None:
    Path("net.yaml").write_text(CONFIG.replace("max_steps: 40000", "max_steps: 40"))
    done = launch.run([sys.executable, "-m", "onotrain", "train", "net.yaml", "-q", "-o", "run"], timeout=60)
    assert done.returncode == 0, done.stderr
    np.save("new.npy", np.random.default_rng(0).random((100, 64)).astype(np.float32))
    job = sbatch("--nodes=2", "--ntasks-per-node=1", SCRIPTS / "predict.sbatch", "run", "new.npy", "out.csv")
    wait_for(lambda: state(job) == "")
    assert len(Path("out.csv").read_text().splitlines()) == 101


def test_a_study_is_an_array_of_jobs_and_a_report(slurm: None) -> None:
    """One of them fails, and is a row of the report."""
    Path("net.yaml").write_text(CONFIG.replace("max_steps: 40000", "max_steps: null").replace("100000", "3"))
    Path("study.yaml").write_text(
        "config: net.yaml\nranks: [1, 2]\nmatrix: {strategy: {ring: {}, server: {strategy: parameter_server}}}\n"
    )
    words = ["compare", "study.yaml", "--slurm", "--time", "10", "--site", "site.sh", "--submit"]
    done = launch.run([sys.executable, "-m", "onotrain", *words], timeout=60)
    assert done.returncode == 0, done.stderr
    wait_for(lambda: slurm_says("squeue", "-h", "-o", "%i") == "", 120)
    found = json.loads(Path("studies/study/study.json").read_text())["trainings"]
    assert [each["state"] for each in found] == ["kept", "kept", "failed", "kept"]
    page = Path("studies/study/report/report.html").read_text()
    assert "server needs 2 ranks or more" in page and "Speed-up" in page

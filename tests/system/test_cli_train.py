"""train and doctor as a user starts them."""

from __future__ import annotations

import json
import os
import pty
import sys
from pathlib import Path

import pytest

import launch
from traces import read

CONFIG = """\
data: {train: digits, validation: 0.2, normalize: standard}
model: {layers: [{dense: {units: 16, activation: relu}}, {dense: 10}]}
loss: cross_entropy
training: {epochs: 3, batch_size: 32}
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(CONFIG)
    return tmp_path


@pytest.mark.parametrize("ranks", [0, 2])
def test_train_prints_a_line_for_each_epoch(ranks: int) -> None:
    done = launch.onotrain("train", "c.yaml", "--output", "run", ranks=ranks)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("onotrain ")
    assert any(f"{max(ranks, 1)} rank{'s' * (ranks > 1)} on 1 node" in line for line in lines)
    assert [line.split()[1] for line in lines if line.startswith("epoch ")] == ["1/3", "2/3", "3/3"]
    assert lines[-3:] == [
        "results in run",
        "next: onotrain evaluate run DATA",
        "      onotrain predict run DATA --output predictions.csv",
    ]
    assert "\x1b" not in done.stdout
    assert json.loads(Path("run/summary.json").read_text())["ranks"] == max(ranks, 1)


LOADED = """\
import sys
from pathlib import Path
from onotrain.cli.program import run
from onotrain.parallel import launcher
assert run(["train", "c.yaml", "--quiet", "--output", "run"]) == 0
heavy = ("h5py", "rich", "matplotlib", "safetensors", "onnx", "threadpoolctl")
Path(f"loaded-{launcher.rank()}").write_text(" ".join(n for n in heavy if n in sys.modules))
"""


def test_a_rank_that_writes_nothing_loads_nothing_for_it() -> None:
    """What a rank imports is memory and time of every core of a cluster."""
    done = launch.mpirun(2, sys.executable, "-c", LOADED)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path("loaded-0").read_text() == "h5py"  # for the checkpoints
    assert Path("loaded-1").read_text() == ""


def test_quiet_and_default_output() -> None:
    for number in (1, 2):
        done = launch.onotrain("train", "c.yaml", "--quiet", "--set", "training.epochs=1")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert Path(f"runs/c-{number}/summary.json").exists()


def test_resume_goes_on() -> None:
    assert launch.onotrain("train", "c.yaml", "--output", "run", "--quiet").returncode == 0
    done = launch.onotrain("train", "c.yaml", "--output", "run", "--resume", "--set", "training.epochs=4")
    assert done.returncode == 0
    assert "resumed" in done.stdout
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("epoch ")] == ["4/4"]


def test_a_profile_is_shown_and_opened_elsewhere() -> None:
    """At the width of a terminal of 80 characters."""
    done = launch.onotrain(
        "train", "c.yaml", "--output", "run", "--profile", "20-60", ranks=2, env={"COLUMNS": "80"}
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    tables = done.stdout.partition("predictions.csv\n")[2].splitlines()
    assert "steps 20 to 60 on 2 ranks: kernels, mean of the ranks" in tables
    assert any(line.startswith("dense_forward") and "dense_0" in line for line in tables)
    assert [line.split()[0] for line in tables[tables.index("ranks") + 3 :]][:3] == ["0", "1", "critical"]
    assert "trace in run/trace.json.gz" in tables and tables[-1].startswith("https://ui.perfetto.dev")
    assert max(map(len, tables)) <= 80
    trace = read(Path("run/trace.json.gz"))
    assert len(trace.of("step")) == 82 and trace.processes[1].startswith("rank 1 (worker) on ")


@pytest.mark.parametrize("ranks", [0, 2])
def test_a_bar_on_a_terminal(ranks: int) -> None:
    """The terminal is that of the launcher where there is one."""
    main, secondary = pty.openpty()
    command = launch.onotrain_command("train", "c.yaml", "--output", "run", "--set", "training.epochs=40", ranks=ranks)
    environment = launch.environment({"TERM": "xterm", "COLUMNS": "100"})
    process = launch.Launch(command, environment, None, secondary, secondary)
    os.close(secondary)
    shown = b""
    try:
        while True:
            try:
                chunk = os.read(main, 65536)
            except OSError:  # the last one has closed the terminal
                break
            if not chunk:
                break
            shown += chunk
        assert process.wait(timeout=30) == 0
    finally:
        process.destroy()
        os.close(main)
    text = shown.decode(errors="replace")
    assert "━" in text and " left" in text and "samples/s" in text
    assert "epoch 40/40" in text


@pytest.mark.parametrize(("arguments", "word"), [(["--version"], "onotrain "), (["train", "--help"], "Usage: ")])
def test_help_and_version_come_once(arguments: list[str], word: str) -> None:
    done = launch.onotrain(*arguments, ranks=3)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(word)
    assert done.stdout.count("Usage: " if "--help" in arguments else "\n") == 1


def test_a_subcommand_without_mpi_runs_once_under_mpirun() -> None:
    done = launch.onotrain("data", "convert", "digits", "digits.h5", ranks=3)
    assert (done.returncode, done.stdout, done.stderr) == (0, "digits.h5: 1,797 samples\n", "")


@pytest.mark.parametrize("ranks", [0, 2])
def test_doctor(ranks: int) -> None:
    done = launch.onotrain("doctor", ranks=ranks)
    assert (done.returncode, done.stderr) == (0, "")
    for subject in ("MPI", "MPI threads", "ranks", "BLAS", "kernels", "memory", "shared memory", "collectives"):
        assert any(line[5:].startswith(subject) for line in done.stdout.splitlines()), subject
    assert "FAIL" not in done.stdout
    assert ("all-reduce of 8 bytes" in done.stdout) == (ranks > 1)


def test_doctor_says_when_threads_fight() -> None:
    done = launch.onotrain("doctor", ranks=2, env={"OPENBLAS_NUM_THREADS": "64", "OMP_NUM_THREADS": "64"})
    assert done.returncode == 0
    line = next(line for line in done.stdout.splitlines() if line.startswith("warn") and "BLAS threads" in line)
    assert "fight" in line
    assert "-> set OPENBLAS_NUM_THREADS=" in done.stdout


def test_doctor_fails_with_code_7(place: Path) -> None:
    """A collective that gives wrong results, on one rank."""
    Path("broken.py").write_text(
        "import sys\nfrom onotrain.cli.program import run\nfrom onotrain.parallel import doctor, guard\n"
        "right = doctor._wrong_collectives\n"
        "doctor._wrong_collectives = lambda mpi, comm: right(mpi, comm) or 'Bcast' * (comm.rank == 1)\n"
        "sys.exit(run(['doctor']))\n"
    )
    done = launch.mpirun(2, sys.executable, "broken.py")
    assert done.returncode == 7
    assert "FAIL collectives" in done.stdout and "rank 1: Bcast" in done.stdout
    assert done.stderr.count("onotrain: ") == 1

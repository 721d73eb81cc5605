"""The launch helper itself: output, exit codes, and that nothing outlives a launch."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

import launch

RANK = "import os; print('rank', os.environ.get('OMPI_COMM_WORLD_RANK', os.environ.get('PMI_RANK')))"
SIZE = "from mpi4py import MPI; print(MPI.COMM_WORLD.size, MPI.COMM_WORLD.allreduce(1))"
IGNORE_TERM = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
STOPPED = "import os, signal; print('up', flush=True); os.kill(os.getpid(), signal.SIGSTOP)"
DEADLOCK = "from mpi4py import MPI; c = MPI.COMM_WORLD; print('up', flush=True); c.rank == 0 and c.recv(source=1)"
SLEEP = "import time; time.sleep(599)"
ORPHAN = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}], start_new_session=True)"


def test_every_rank_runs() -> None:
    done = launch.mpirun(3, sys.executable, "-c", RANK)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == ["rank 0", "rank 1", "rank 2"]


def test_mpi_starts_without_noise() -> None:
    done = launch.mpirun(2, sys.executable, "-c", SIZE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2 2\n2 2\n", "")


def test_the_exit_code_is_the_program_s() -> None:
    assert launch.run([sys.executable, "-c", "raise SystemExit(75)"]).returncode == 75
    assert launch.mpirun(2, sys.executable, "-c", "raise SystemExit(75)").returncode == 75


@pytest.mark.timeout(30)
@pytest.mark.parametrize("program", [IGNORE_TERM, STOPPED, DEADLOCK], ids=["ignores-term", "stopped", "deadlock"])
def test_a_hang_is_killed_within_its_timeout(program: str) -> None:
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        launch.mpirun(2, sys.executable, "-c", program, timeout=3)
    assert "up" in caught.value.output
    assert not running(program)


def test_what_is_left_behind_is_reported_and_killed() -> None:
    with pytest.raises(RuntimeError, match="left behind"):
        launch.run([sys.executable, "-c", ORPHAN])
    assert not running(SLEEP)


def test_leaving_start_kills_the_launch() -> None:
    with launch.start(launch.mpi_command(2, sys.executable, "-c", IGNORE_TERM)) as running_launch:
        assert running_launch.stdout is not None
        assert running_launch.stdout.readline() == "up\n"
        assert len(running_launch.members()) == 3
    assert running_launch.members() == {}


def test_a_launch_inside_a_launch_belongs_to_both() -> None:
    inner = f"import launch, sys; launch.run([sys.executable, '-c', {IGNORE_TERM!r}], timeout=60)"
    with pytest.raises(subprocess.TimeoutExpired):
        tests = str(launch.__file__).rpartition("/")[0]
        launch.run([sys.executable, "-c", inner], timeout=3, env={"PYTHONPATH": tests})
    assert not running(IGNORE_TERM)


def test_a_forked_program_is_like_one_that_was_started(tmp_path: Path) -> None:
    """Its folder, its environment, both outputs, the exit code, and its end when it takes too long."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.yaml").write_text("data: {train: digits}\nmodel: {layers: [{dense: 10}]}\n")
    for run in (launch.onotrain, lambda *words, **rest: launch.run(launch.onotrain_command(*words), **rest)):
        done = run("validate", "c.yaml", cwd=tmp_path / "sub", env={"ONOTRAIN_KERNELS": "reference"})
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("onotrain: c.yaml:1:1: loss: required")
        done = run("doctor", env={"ONOTRAIN_KERNELS": "reference"})
        assert done.returncode == 0 and "reference" in done.stdout
    command = ("train", "c.yaml", "--set", "loss=cross_entropy", "--set", "training={epochs: 1000000, batch_size: 9}")
    with pytest.raises(subprocess.TimeoutExpired):
        launch.onotrain(*command, "--output", "run", timeout=3, cwd=tmp_path / "sub")


def running(program: str) -> bool:
    """Tell whether a process with this program text in its command line is alive (a zombie has none)."""
    wanted = program.encode()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if wanted in entry.read_bytes():
                return True
    return False

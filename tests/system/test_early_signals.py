"""Signals from the first moment at which a program can catch them to its last one: a run saves, or has saved."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

import launch

CONFIG = """\
data: {train: digits}
model: {layers: [{dense: {units: 16, activation: relu}}, {dense: 10}]}
loss: cross_entropy
training: {epochs: 30, batch_size: 32}
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(CONFIG)


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal (proc_pid_status(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return bool(mask >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM])
def test_before_the_run_begins(number: signal.Signals) -> None:
    with launch.start(launch.onotrain_command("train", "c.yaml", "--output", "run", "-q")) as running:
        while not catches(running.pid, number):
            assert running.poll() is None
            time.sleep(0.001)
        running.send_signal(number)
        assert running.wait(timeout=30) == 75
    assert len(list(Path("run/checkpoints").glob("step-*.h5"))) == 1


def test_after_its_end() -> None:
    """Until the process is gone."""
    with launch.start(launch.onotrain_command("train", "c.yaml", "--output", "run", "-q")) as running:
        while not Path("run/summary.json").exists():
            assert running.poll() is None
            time.sleep(0.001)
        while running.poll() is None:
            os.kill(running.pid, signal.SIGUSR1)
            time.sleep(0.002)
        assert running.returncode == 0

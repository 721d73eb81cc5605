"""Signals to ranks that are within a program of many steps."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

import launch

#: Steps of some ten microseconds, of which a replay makes hundreds.
DRIVER = """\
import os, sys, time
from pathlib import Path
from onotrain.errors import StoppedOnRequest
from onotrain.parallel import guard
from onotrain.training import train
from onotrain.training.replay import Replay

RANK = os.environ.get("OMPI_COMM_WORLD_RANK") or os.environ["PMI_RANK"]
CONFIG = {
    "data": {"train": "digits"}, "model": {"layers": [{"dense": 10}]}, "loss": "cross_entropy",
    "training": {"epochs": 10**6, "batch_size": 8},
}
run, made = Replay.run, [0]

def counted(self, *arguments):
    if made[0] < 5000 <= made[0] + 256:
        Path(f"new.{RANK}").write_text(str(os.getpid()))
        os.rename(f"new.{RANK}", f"process.{RANK}")
    found = run(self, *arguments)
    made[0] += len(found)
    return found

def main():
    Replay.run = counted
    try:
        train(CONFIG, output="run")
    except BaseException as error:
        Path(f"end.{RANK}").write_text(f"{time.monotonic()} {type(error).__name__}")
        raise

sys.exit(guard.run(main))
"""
#: Far more than it takes (0.2 s are promised, and measured in docs/performance.md): the tests may share their cores.
LIMIT_S = 10.0


@pytest.mark.parametrize(
    ("victim", "number"),
    [
        (1, signal.SIGTERM),
        (0, signal.SIGKILL),
        *(
            pytest.param(victim, number, marks=pytest.mark.long)
            for victim, number in [(0, signal.SIGTERM), (1, signal.SIGKILL), (0, signal.SIGUSR2), (1, signal.SIGUSR2)]
        ),
    ],
)
def test_a_signal_within_a_replay(
    number: signal.Signals, victim: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To one rank: all save and end together; of one that is killed nothing is left."""
    monkeypatch.chdir(tmp_path)
    with launch.start(launch.mpi_command(2, sys.executable, "-c", DRIVER)) as running:
        files = [Path(f"process.{rank}") for rank in range(2)]
        deadline = time.monotonic() + 60.0
        while not all(file.exists() for file in files):
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        sent = time.monotonic()
        os.kill(int(files[victim].read_text()), number)
        assert running.leftovers(seconds=LIMIT_S) == {}
        code = running.wait(timeout=LIMIT_S)
    if number == signal.SIGKILL:
        assert code == 128 + number
        return
    assert code == 75
    for rank in range(2):
        seen, kind = Path(f"end.{rank}").read_text().split()
        assert kind == "StoppedOnRequest" and float(seen) - sent < LIMIT_S
        print(f"rank {rank}: {float(seen) - sent:.3f} s")
    assert list(Path("run/checkpoints").iterdir())

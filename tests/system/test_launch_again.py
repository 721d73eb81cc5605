"""`onotrain launch`: trainings whose ranks are killed and asked to stop, and a supervisor that is killed itself."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

import launch

CONFIG = """\
data: {train: digits, validation: 0.2}
model: {layers: [{dense: {units: 24, activation: relu}}, {dense: 10}]}
loss: cross_entropy
training: {epochs: EPOCHS, batch_size: 32}
checkpoint: {every_steps: 500}
"""


#: Runs a command that takes signals, whatever was ignored where the tests were started: `nohup` and `&` do that.
TAKES_SIGNALS = """\
import os, signal, sys
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def command(*train: object, options: tuple[object, ...] = (), ranks: int = 2) -> list[str]:
    words = launch.onotrain_command("launch", "-n", ranks, *options, "--", "train", *train)
    return [sys.executable, "-c", TAKES_SIGNALS, *words]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("long.yaml").write_text(CONFIG.replace("EPOCHS", "100000"))
    Path("short.yaml").write_text(CONFIG.replace("EPOCHS", "500"))


def ranks_of(running: launch.Launch) -> list[int]:
    """Return the processes of the ranks: children of the launcher of MPI, in the order of their start."""
    found = running.members()
    return sorted(pid for pid, words in found.items() if " -m onotrain train " in words and " -n " not in words)


def wait_for(what: str, running: launch.Launch, ready: object, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not ready():  # type: ignore[operator]
        assert time.monotonic() < end and running.poll() is None, what
        time.sleep(0.02)


def steps() -> int:
    return max((int(path.stem[5:]) for path in Path("run/checkpoints").glob("step-*.h5")), default=-1)


def sha256(run: str) -> str:
    return str(json.loads(Path(run, "summary.json").read_text())["parameters_sha256"])


@pytest.mark.long
def test_killed_ranks_cost_nothing_but_time() -> None:
    """The last one, and then the first: the parameters at the end are those of a run that nobody disturbed."""
    with launch.start(command("short.yaml", "-q", "--output", "run", options=("--max-restarts", 5))) as running:
        for victim in (-1, 0):
            before = steps()
            wait_for("a checkpoint", running, lambda: steps() > before + 1000 and len(ranks_of(running)) == 2)  # noqa: B023
            os.kill(ranks_of(running)[victim], signal.SIGKILL)
            wait_for("its end", running, lambda: len(ranks_of(running)) < 2)
        code = running.wait(timeout=90)
        said = running.stderr.read() if running.stderr else ""
        assert code == 0, said
        assert running.leftovers() == {}
    again = [line for line in said.splitlines() if line.startswith("onotrain launch: ")]
    assert len(again) == 2 and all("going on from step" in line for line in again), said
    done = launch.onotrain("train", "short.yaml", "-q", "--output", "alone", timeout=60)
    assert done.returncode == 0, done.stderr
    assert sha256("run") == sha256("alone")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_every_signal_saves(number: signal.Signals) -> None:
    """Twice, as impatient people and batch systems send them."""
    with launch.start(command("long.yaml", "-q", "--output", "run")) as running:
        wait_for("a checkpoint", running, lambda: steps() > 0)
        before = steps()
        running.send_signal(number)
        time.sleep(0.05)
        running.send_signal(number)
        assert running.wait(timeout=30) == 75
        assert running.leftovers() == {}
    assert steps() > before


def test_nohup_is_respected() -> None:
    """Who starts it with a signal ignored wants it to go on."""
    ignored = (
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execvp(sys.argv[1], sys.argv[1:])"
    )
    words = launch.onotrain_command("launch", "-n", 2, "--", "train", "long.yaml", "-q", "--output", "run")
    with launch.start([sys.executable, "-c", ignored, *words]) as running:
        wait_for("a checkpoint", running, lambda: steps() > 0)
        running.send_signal(signal.SIGHUP)
        before = steps()
        wait_for("the next checkpoint", running, lambda: steps() > before)
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=30) == 75


def test_a_signal_before_anything_is_there_to_be_saved_ends_at_once() -> None:
    with launch.start(command("long.yaml", "-q", "--output", "run")) as running:
        wait_for("the launcher", running, lambda: len(running.members()) > 1)
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=30) in (75, 130)
        assert running.leftovers() == {}


def test_nothing_stays_behind_when_it_is_killed_itself() -> None:
    with launch.start(command("long.yaml", "-q", "--output", "run")) as running:
        wait_for("a checkpoint", running, lambda: steps() > 0)
        running.kill()
        assert running.leftovers(seconds=20) == {}


def test_what_is_wrong_is_not_tried_again() -> None:
    Path("bad.yaml").write_text(
        "data: {train: nowhere.npz}\nmodel: {layers: [{dense: 3}]}\nloss: mse\ntraining: {epochs: 1, batch_size: 2}\n"
    )
    done = launch.run(command("bad.yaml", "--output", "run"), timeout=60)
    assert done.returncode == 3
    assert done.stderr.count("nowhere.npz") <= 2 and "not launched again: data" in done.stderr, done.stderr
    Path("typo.yaml").write_text(CONFIG.replace("EPOCHS", "many"))
    for counts in ([], ["--ranks", 2, "--workers", 2]):
        done = launch.run(launch.onotrain_command("launch", *counts, "--", "train", "short.yaml"), timeout=60)
        assert done.returncode == 2 and "expected one of --ranks and --workers" in done.stderr
    for arguments in (["short.yaml", "--outputt", "x"], ["short.yaml", "--resume"], ["typo.yaml"]):
        done = launch.run(command(*arguments), timeout=60)
        assert done.returncode == 2 and "mpirun" not in done.stderr, done.stderr
    assert not Path("runs").exists()
    done = launch.run(launch.onotrain_command("launch", "-n", 2, "--", "predict", "run"), timeout=60)
    assert done.returncode == 2 and "expected `train CONFIG`" in done.stderr
    done = launch.run(command("short.yaml", options=("--mpirun", "no-such-mpirun")), timeout=60)
    assert done.returncode == 7 and "no-such-mpirun: there is no such program" in done.stderr
    partitioned = ("short.yaml", "--set", "data.partition=by_rank")
    done = launch.run(command(*partitioned, options=("--min-ranks", 1)), timeout=60)
    assert done.returncode == 2 and "data.partition gives each rank samples of its own" in done.stderr, done.stderr


def test_servers_are_added_to_workers() -> None:
    words = ["launch", "--workers", 2, "--", "train", "short.yaml", "-q", "--output", "run"]
    server = ["--set", "strategy={name: parameter_server, servers: 2}", "--set", "training.epochs=2"]
    done = launch.run(launch.onotrain_command(*words, *server), timeout=90)
    assert done.returncode == 0, done.stderr
    summary = json.loads(Path("run/summary.json").read_text())
    assert (summary["ranks"], summary["workers"], summary["servers"]) == (4, 2, 2)

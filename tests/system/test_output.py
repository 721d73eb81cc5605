"""Output that goes wrong ends no training: terminals that close, closed and full files, pipes that nobody reads."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import launch

CONFIG = """\
data: {train: digits}
model: {layers: [{dense: {units: 16, activation: relu}}, {dense: 10}]}
loss: cross_entropy
training: {epochs: 1, batch_size: 32}
checkpoint: {every_epochs: 1000000}
"""
#: Runs a command in a terminal, and takes that away when the first epoch is shown.
TERMINAL = """\
import os, pty, signal, sys
process, terminal = pty.fork()
if process == 0:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    os.environ["TERM"] = "xterm"
    os.execvp(sys.argv[1], sys.argv[1:])
shown = b""
while b"epoch" not in shown:
    shown += os.read(terminal, 65536)
os.close(terminal)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(CONFIG)


def in_terminal(shell: str, ranks: int, *arguments: str) -> launch.Completed:
    """Train as the `shell` words do, in a terminal that goes away."""
    command = launch.onotrain_command("train", "c.yaml", "--output", "run", *arguments, ranks=ranks)
    return launch.run([sys.executable, "-c", TERMINAL, "bash", "-c", shell, "bash", *command])


def finished() -> bool:
    return json.loads(Path("run/summary.json").read_text())["finished"]


@pytest.mark.parametrize("progress", ["bar", "lines"])
def test_a_terminal_that_closes_stops_a_run_which_saves(progress: str) -> None:
    done = in_terminal('exec "$@"', 0, "--progress", progress, "--set", "training.epochs=1000000")
    assert done.returncode == 75
    assert len(list(Path("run/checkpoints").glob("*.h5"))) == 1


def test_a_terminal_that_closes_ends_all_ranks() -> None:
    """How the launcher does it is its affair; nobody is left, and no rank has failed."""
    in_terminal('exec "$@" 2> err', 2, "--progress", "bar", "--set", "training.epochs=1000000")
    assert "rror" not in Path("err").read_text()


def test_without_hangups_a_run_goes_on_when_the_terminal_is_gone() -> None:
    """As under nohup, but with the bar on the terminal."""
    done = in_terminal("trap '' HUP; exec \"$@\"", 0, "--progress", "bar", "--set", "training.epochs=200")
    assert done.returncode == 0 and finished()


@pytest.mark.parametrize(
    ("redirection", "progress"),
    [
        (">&-", "lines"),
        ("2>&-", "lines"),
        ("<&- >&- 2>&-", "auto"),
        ("> /dev/full", "bar"),
        ("> /dev/full 2> /dev/full", "lines"),
        ("| true", "lines"),
    ],
)
def test_a_run_ends_well_whatever_its_output_is(redirection: str, progress: str) -> None:
    command = f'onotrain train c.yaml --output run --progress {progress} {redirection}; exit "${{PIPESTATUS[0]}}"'
    # Too many threads are warned of, on standard error.
    done = launch.run(["bash", "-c", command], env={"OPENBLAS_NUM_THREADS": "64"})
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and finished()


@pytest.mark.parametrize("progress", ["bar", "lines"])
def test_characters_that_the_output_does_not_have(progress: str) -> None:
    arguments = ["train", "c.yaml", "--output", "größe", "--progress", progress]
    # Python looks at the variable when it starts.
    done = launch.run(launch.onotrain_command(*arguments), env={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "gr\\xf6\\xdfe" in done.stdout


def test_what_a_command_is_run_for_must_be_written() -> None:
    command = "onotrain validate c.yaml --resolved > /dev/full"
    done = launch.run(["bash", "-c", command])
    assert (done.returncode, done.stderr) == (6, "onotrain: cannot write to standard output: No space left on device\n")


@pytest.mark.parametrize(
    "wrapper", [["timeout", "50"], ["bash", "-c", '"$@"; exit $?', "bash"], ["env", "A=1", "nice"]]
)
def test_a_program_between_the_launcher_and_the_ranks_brings_no_bar_into_a_file(wrapper: list[str]) -> None:
    command = launch.mpi_command(2, *wrapper, *launch.onotrain_command("train", "c.yaml", "--output", "run"))
    done = launch.run(command, env={"TERM": "xterm"})
    assert done.returncode == 0, done.stderr
    assert "epoch" in done.stdout and not {"\r", "\x1b"} & set(done.stdout)


def test_a_process_alone_needs_no_home() -> None:
    command = launch.onotrain_command("train", "c.yaml", "--output", "run")
    done = launch.run(["env", "-u", "HOME", *command])
    assert done.returncode == 0 and done.stderr == "", done.stderr

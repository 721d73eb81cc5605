"""Bad input on two ranks: one clear message, the documented exit code, and never a traceback or a hang."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import launch
import onotrain
from builders import changed, csv_rows, mapping, relu, write_csv
from onotrain.runs.run_directory import RunDirectory

DRIVER = """\
import sys

from onotrain.parallel import guard


def main():
    import onotrain
    from onotrain._kernels.recording import PythonCall
    from onotrain.parallel.world import start_mpi

    rank, phase = start_mpi().COMM_WORLD.rank, sys.argv[2]
    if rank == int(sys.argv[3]):
        if phase == "step":
            from onotrain.training import local_gradient
            record = local_gradient.LocalGradient.record
            def fail():
                raise ZeroDivisionError("injected")
            def recorded(self, samples):
                return [*record(self, samples), PythonCall(fail)]
            local_gradient.LocalGradient.record = recorded
        elif phase == "data":
            from onotrain.training import run_data
            def prepare(*arguments):
                raise ZeroDivisionError("injected")
            run_data.prepare = prepare
        else:
            raise ZeroDivisionError("injected")
    onotrain.train(sys.argv[1], output=sys.argv[4])


sys.exit(guard.run(main))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give an empty working directory."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def config(**sections: Any) -> None:
    """Write a configuration, by default of data that there are."""
    base = mapping(relu(8), 3, data={"train": write_csv("d.csv", csv_rows())}, training={"epochs": 2, "batch_size": 8})
    Path("config.yaml").write_text(json.dumps(changed(base, **sections)))  # which is YAML, too


def refused(code: int, *words: str, arguments: tuple[object, ...]) -> str:
    """Run onotrain on two ranks; check how it fails, and return its message."""
    done = launch.onotrain(*arguments, ranks=2)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("onotrain: ") == 1, done.stderr
    message = re.split(r"^-{20,}$", done.stderr, flags=re.MULTILINE)[0]  # what mpirun has to say comes after it
    for word in words:
        assert message.count(word) == 1, f"{word!r} in {message!r}"
    return message


def train(*options: str) -> tuple[str, ...]:
    return ("train", "config.yaml", "--output", "run", *options)


# --- one launch for each exit code


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("trian", "x.yaml"), ["no such command 'trian'", "did you mean 'train'?"]),
        (("train", "--outptu", "x"), ["--outptu", "did you mean '--output'?"]),
        (("train",), ["CONFIG"]),
        (("train", "c.yaml", "--resume"), ["--resume needs --output"]),
        (("train", "c.yaml", "--progress", "loud"), ["loud"]),
    ],
    ids=["subcommand", "option", "argument", "resume", "choice"],
)
def test_command_line(place: Path, arguments: tuple[str, ...], words: list[str]) -> None:
    message = refused(2, arguments=arguments)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("code", "arguments", "words"),
    [
        (2, ("train", "config.yaml", "--set", "training.batch_sice=8"), "training.batch_sice"),
        (2, ("inspect", "nothing"), "nothing: no such run"),
        (3, ("train", "config.yaml", "--set", "data.train=bad.csv"), "bad.csv:7:2"),
        (4, ("predict", "bad.csv", "d.csv", "--output", "p.csv"), "bad.csv: not an onotrain checkpoint"),
    ],
)
def test_an_error_of_all_ranks_comes_once(place: Path, code: int, arguments: tuple[str, ...], words: str) -> None:
    """Whichever input is wrong; what else may be is in tests/mpi/test_bad_input.py."""
    config()
    lines = csv_rows()
    lines[5] = "1,,3,4,k1"
    write_csv("bad.csv", lines)
    refused(code, words, arguments=arguments)


def test_a_run_directory_that_is_in_use(place: Path) -> None:
    config()
    assert launch.run(launch.onotrain_command(*train("--quiet"))).returncode == 0
    with RunDirectory.resume("run"):
        refused(2, f"in use by process {os.getpid()}", arguments=train("--resume"))


def test_a_loss_that_diverges(place: Path) -> None:
    draw = np.random.Generator(np.random.Philox(4))
    np.savez("d.npz", x=draw.normal(size=(60, 4)).astype(np.float32), y=draw.normal(size=60).astype(np.float32))
    config(
        data={"train": "d.npz"},
        model={"layers": [relu(8), {"dense": 1}]},
        loss="mse",
        optimizer={"name": "sgd", "learning_rate": 1e-3},
        schedule={"name": "exponential", "factor": 1e9},  # sane at first, then less and less so
        training={"epochs": 50},
    )
    refused(5, "training diverged at step", "learning_rate", arguments=train())
    assert len(list(Path("run/checkpoints").glob("step-*.h5"))) >= 1
    assert np.isfinite(onotrain.load("run").predict(np.zeros((2, 4), np.float32))).all()
    assert not Path("run/summary.json").exists()


# --- an error of one rank


# Rank 0 alone reads the data of its node.
@pytest.mark.parametrize(("phase", "rank"), [("start", 0), ("start", 1), ("data", 0), ("step", 0), ("step", 1)])
def test_an_exception_on_one_rank_ends_the_job(place: Path, phase: str, rank: int) -> None:
    (place / "driver.py").write_text(DRIVER)
    config(training={"epochs": 100_000})
    done = launch.mpirun(2, sys.executable, "driver.py", "config.yaml", phase, rank, "run")
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.count(f"internal error on rank {rank}") == 1
    assert done.stderr.count("ZeroDivisionError: injected") == 1

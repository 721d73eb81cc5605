"""Ranks that go on in the same job when others die, at whatever point, and what ends the job all the same."""

from __future__ import annotations

import json
import re
import socket
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import launch

pytestmark = pytest.mark.long

SCRIPT = Path(__file__).resolve().parents[1] / "faulty_run.py"
EPOCHS = 40
SHRINK = {"fault_tolerance": {"lost_rank": "shrink"}, "training": {"epochs": EPOCHS, "batch_size": 32}}


def disturbed(folder: Path, ranks: int, kind: str, point: str, victims: str, **sections: Any) -> launch.Completed:
    """Train, while something happens to some ranks."""
    command = launch.mpi_command(ranks, sys.executable, SCRIPT, folder, kind, point, victims, 60, json.dumps(sections))
    command[1:1] = ["--with-ft", "ulfm"]
    return launch.run(command, timeout=90, env={"TMPDIR": str(folder.parent)} if "rows" in sections else None)


@cache
def undisturbed(ranks: int, sections: str) -> str:
    """Return the digest of the parameters that a run ends with when nothing happens."""
    with TemporaryDirectory() as folder:
        done = disturbed(Path(folder) / "run", ranks, "kill", "step", "99", **json.loads(sections))
        assert done.returncode == 0, done.stderr
        return str(summary(Path(folder) / "run")["parameters_sha256"])


def summary(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "summary.json").read_text()))


POINTS = ("begin", "data", "step", "commit", "evaluation", "record", "save", "end")


@pytest.mark.parametrize(
    ("ranks", "point", "victims"),
    [
        *((3, point, "0") for point in POINTS),
        *((2, point, "1") for point in ("data", "step", "commit", "evaluation")),
        (4, "step", "0,2,1"), (4, "commit", "3,0"), (3, "step", "1,2"),
    ],
)  # fmt: skip
def test_on_one_node_the_parameters_are_those_of_an_undisturbed_run(
    ranks: int, point: str, victims: str, tmp_path: Path
) -> None:
    done = disturbed(tmp_path / "run", ranks, "kill", point, victims, **SHRINK)
    assert done.returncode == 0, done.stderr
    found = summary(tmp_path / "run")
    dead = sorted(map(int, victims.split(",")))
    assert found["lost_ranks"] == dead and found["ranks"] == ranks - len(dead)
    assert found["parameters_sha256"] == undisturbed(2, json.dumps(SHRINK))
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == list(range(1, EPOCHS + 1))
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("strategy", "point", "victims", "simulate"),
    [
        ({"name": "allreduce", "share": "gradients"}, "step", "1", None),
        ({"name": "allreduce"}, "step", "0", {"ranks_per_node": 2}),
        ({"name": "allreduce"}, "commit", "3", {"ranks_per_node": 2}),
        ({"name": "flat"}, "step", "0", None),
        ({"name": "flat"}, "reduce", "2", None),
        ({"name": "local_sgd"}, "step", "0", None),
        ({"name": "local_sgd", "period": 4}, "reduce", "1", None),
        ({"name": "parameter_server"}, "step", "3", None),
        ({"name": "parameter_server", "servers": 2}, "step", "2", None),
        ({"name": "parameter_server", "staleness": "unbounded"}, "step", "1", None),
        ({"name": "parameter_server", "push_every": 4}, "step", "3", None),
        ({"name": "parameter_server", "push_every": "epoch", "staleness": 2}, "step", "2", None),
    ],
)
def test_all_that_say_so_go_on(
    strategy: dict[str, Any], point: str, victims: str, simulate: dict[str, Any] | None, tmp_path: Path
) -> None:
    sections = {**SHRINK, "strategy": strategy, **({} if simulate is None else {"simulate": simulate})}
    done = disturbed(tmp_path / "run", 4, "kill", point, victims, **sections)
    assert done.returncode == 0, done.stderr
    found = summary(tmp_path / "run")
    assert found["ranks"] == 3 and found["finished"] and found["epochs"] == EPOCHS
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == list(range(1, EPOCHS + 1))
    assert records[-1]["train_loss"] < 0.5 * records[0]["train_loss"]


@pytest.mark.parametrize(
    ("kind", "survives", "codes"),
    [
        ("raise", False, (1,)), ("raise", True, (1,)), ("exit", False, (3, 7)), ("exit", True, (3, 7)),
        ("kill", False, (7,)),
    ],
)  # fmt: skip
def test_what_is_no_death_ends_the_job(kind: str, survives: bool, codes: tuple[int, ...], tmp_path: Path) -> None:
    """An exception on a rank does, and so does a rank that dies, if nobody has asked that others go on."""
    sections = {"strategy": {"name": "flat"}, **(SHRINK if survives else {})}
    done = disturbed(tmp_path / "run", 3, kind, "step", "1", **sections)
    assert done.returncode in codes, done.stderr
    messages = re.findall("onotrain: .*", done.stderr)  # what mpirun says of an abort may stand before it on its line
    assert len(messages) == 1 and "1" in messages[0], done.stderr
    assert kind != "raise" or "training, after step 11" in done.stderr


@pytest.mark.parametrize(("victims", "point"), [("0,2", "step"), ("1,2", "save"), ("2,0", "commit")])
def test_a_mistake_after_a_survived_loss_ends_the_job(victims: str, point: str, tmp_path: Path) -> None:
    """Ranks are counted as the launcher does, not as the survivors do."""
    done = disturbed(tmp_path / "run", 3, "kill,raise", point, victims, **SHRINK)
    assert done.returncode == 1, done.stderr
    messages = re.findall("onotrain: .*", done.stderr)
    assert len(messages) == 1 and f"on rank {victims[-1]};" in messages[0], done.stderr
    assert "RuntimeError: a mistake" in done.stderr


@pytest.mark.parametrize(
    ("rows", "victim", "point", "survives"),
    [
        ("same", "0", "data", True), ("same", "1", "step", True), ("own", "0", "step", True),
        ("own", "2", "data", True), ("own", "0", "data", False),
    ],
)  # fmt: skip
def test_samples_in_memory(rows: str, victim: str, point: str, survives: bool, tmp_path: Path) -> None:
    """The first rank of a node has those of all of its ranks, until the first step has them shared."""
    done = disturbed(tmp_path / "run", 3, "kill", point, victim, **SHRINK, rows=rows)
    assert done.returncode == (0 if survives else 7), done.stderr
    assert done.stdout.count(f"has outlived [{victim}]") == (2 if survives else 0)
    assert ("the samples in memory are gone" in done.stderr) is not survives
    assert not list(tmp_path.glob("onotrain-*"))


@pytest.mark.parametrize("victim", ["0", "2"])
def test_a_program_that_goes_on_after_its_training_ends(victim: str, tmp_path: Path) -> None:
    """MPI_Finalize would wait for the rank that has died."""
    command = launch.mpi_command(
        3, sys.executable, SCRIPT, tmp_path / "run", "kill", "step", victim, 60, json.dumps(SHRINK), "--as-a-program"
    )
    command[1:1] = ["--with-ft", "ulfm"]
    done = launch.run(command, timeout=90)
    assert done.returncode == 21, done.stderr
    assert summary(tmp_path / "run")["lost_ranks"] == [int(victim)]


def test_the_server_that_holds_the_state_cannot_be_outlived(tmp_path: Path) -> None:
    sections = {**SHRINK, "strategy": {"name": "parameter_server"}}
    done = disturbed(tmp_path / "run", 3, "kill", "step", "0", **sections)
    assert done.returncode == 7 and done.stderr.count("the whole state is gone") == 1, done.stderr


def test_too_few_survivors_are_no_mistake_of_the_configuration(tmp_path: Path) -> None:
    """What launches the job again shall do so."""
    sections = {**SHRINK, "strategy": {"name": "parameter_server"}}
    done = disturbed(tmp_path / "run", 2, "kill", "step", "1", **sections)
    assert done.returncode == 7 and "the others cannot go on: " in done.stderr, done.stderr


def test_a_rank_that_is_busy_while_another_dies_is_not_taken_to_hang(tmp_path: Path) -> None:
    """It joins the others when it is through."""
    script = f"import time; from onotrain.evaluation.evaluator import Evaluator as E; f = E.__call__; n = [0]\n{BUSY}"
    command = launch.mpi_command(2, sys.executable, "-c", script, SCRIPT, tmp_path / "run", "kill", "evaluation", "1")
    command += ["60", json.dumps(SHRINK)]
    command[1:1] = ["--with-ft", "ulfm"]
    done = launch.run(command, timeout=90)
    assert done.returncode == 0, done.stderr
    assert summary(tmp_path / "run")["ranks"] == 1


#: In the second validation, in which rank 1 dies, rank 0 is busy with something of its own.
BUSY = """\
import os, runpy, sys
def slow(*arguments, **options):
    n[0] += 1
    if n[0] == 2 and os.environ["OMPI_COMM_WORLD_RANK"] == "0":
        time.sleep(9)
    return f(*arguments, **options)
E.__call__ = slow
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("victim", ["0", "1"])
def test_what_shows_a_run_elsewhere_goes_on(victim: str, tmp_path: Path) -> None:
    """The rank that is first now listens where the one before did, and draws each step once."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    metrics = {"every_steps": 5, "tensorboard": True, "prometheus": f":{port}"}
    script = f"from onotrain.training.observers import Observers\n{NOTED}"
    command = launch.mpi_command(3, sys.executable, "-c", script, SCRIPT, tmp_path / "run", "kill", "step", victim)
    command += ["60", json.dumps({**SHRINK, "metrics": metrics})]
    command[1:1] = ["--with-ft", "ulfm"]
    done = launch.run(command, timeout=90)
    assert done.returncode == 0, done.stderr
    assert "died: 2 ranks going on" in done.stdout and "goes on without" not in done.stdout
    found = EventAccumulator(str(tmp_path / "run" / "tensorboard"), {"scalars": 0}).Reload()
    for file, tag, steps in (("metrics", "epoch/train_loss", "steps"), ("steps", "interval/train_loss", "step")):
        rows = [json.loads(line) for line in (tmp_path / "run" / f"{file}.jsonl").read_text().splitlines()]
        assert [event.step for event in found.Scalars(tag)] == [row[steps] for row in rows]
        assert [event.value for event in found.Scalars(tag)] == pytest.approx([row["train_loss"] for row in rows])
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 2


#: Prints what observers are told to be worth a line.
NOTED = """\
import runpy, sys
Observers.noted = lambda self, message: print(message, flush=True)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_strategy_that_cannot_go_on_says_so(tmp_path: Path) -> None:
    sections = {**SHRINK, "strategy": {"name": "strategy_switch", "at_epoch": 2}}
    done = disturbed(tmp_path / "run", 3, "kill", "step", "1", **sections)
    assert done.returncode == 2 and "cannot go on without one of them" in done.stderr, done.stderr


def test_an_mpi_whose_ranks_do_not_outlive_others_is_refused(tmp_path: Path) -> None:
    done = launch.onotrain("train", "digits.yaml", "--set", "fault_tolerance=shrink", ranks=2, cwd=config_in(tmp_path))
    assert done.returncode == 7 and "--with-ft ulfm" in done.stderr, done.stderr


def config_in(folder: Path) -> Path:
    """Write a configuration."""
    config = {
        "data": {"train": "digits"}, "model": {"layers": [{"dense": 10}]}, "loss": "cross_entropy",
        "training": {"epochs": 1, "batch_size": 32},
    }  # fmt: skip
    (folder / "digits.yaml").write_text(json.dumps(config))
    return folder

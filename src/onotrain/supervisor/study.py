"""The trainings of a study, one after the other: what is finished is kept, what was stopped goes on."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from onotrain.config import load_config
from onotrain.config.study import Cell
from onotrain.errors import EXIT_OK, OnotrainError, UsageError
from onotrain.files import disk_errors, write_atomically
from onotrain.runs.json_objects import pretty
from onotrain.runs.run_directory import RunDirectory
from onotrain.runs.run_files import CONFIG_NAME, kind_of_path
from onotrain.supervisor.job import Job, Stop, cause_of

RUNS_NAME, OUTCOMES_NAME, LOG_NAME = "runs", "study.json", "training.log"
#: Beside the run directory of a training: what became of it.
_OUTCOME = "outcome.json"


@dataclass(frozen=True)
class Outcome:
    """What became of a training."""

    name: str
    label: str
    ranks: int
    #: As the study counts them.
    count: int
    seed: int
    #: Finished before, finished now, failed, stopped on request, or never begun.
    state: Literal["kept", "done", "failed", "stopped", "missing"]
    #: Exit code of the training, and why it failed.
    code: int = EXIT_OK
    error: str = ""
    #: From launch to end [s].
    seconds: float = 0.0


def run_study(
    cells: Sequence[Cell], arguments: Sequence[str], launcher: Sequence[str], output: Path, minutes: float | None = None
) -> Iterator[Outcome]:
    """Train, and yield what becomes of each training when it is known; ends after one that was stopped on request.

    Parameters
    ----------
    cells
        The trainings.
    arguments
        Of ``onotrain train`` for all of them: the configuration.
    launcher
        Of MPI, and its options.
    output
        Directory of the study.
    minutes
        Longest time of a training; None: any.

    Raises
    ------
    ResourceError
        Something cannot be written.
    """
    with disk_errors("make the directory of the study", output):
        (output / RUNS_NAME).mkdir(parents=True, exist_ok=True)
    with Stop.listening() as stop:
        for cell in cells:
            outcome = _kept(cell, output) or _train(cell, arguments, launcher, output, minutes, stop)
            write_atomically(_beside(cell, output, _OUTCOME), pretty(asdict(outcome)))
            yield outcome
            if outcome.state == "stopped":
                return


def _kept(cell: Cell, output: Path) -> Outcome | None:
    """Return the outcome of a training that is finished, of the same configuration; None: it is to be trained."""
    run = output / RUNS_NAME / cell.name
    if kind_of_path(run) != "run":
        return None
    try:
        summary = RunDirectory.open(run).summary() or {}
    except OnotrainError:
        return None
    same = _is_of(cell, run) and summary.get("ranks") == cell.ranks
    return _outcome(cell, "kept") if summary.get("finished") and same else None


def _is_of(cell: Cell, run: Path) -> bool:
    """Return whether a run has the configuration of a training; it may be of a version with fewer keys."""
    try:
        return load_config(run / CONFIG_NAME).canonical_json() == cell.config.canonical_json()
    except OnotrainError:
        return False


def _train(
    cell: Cell, arguments: Sequence[str], launcher: Sequence[str], output: Path, minutes: float | None, stop: Stop
) -> Outcome:
    """Train, or go on with a training of the same configuration."""
    run, began = output / RUNS_NAME / cell.name, time.monotonic()
    there = kind_of_path(run) == "run"
    begun = there and _is_of(cell, run)
    with disk_errors("make the directory of the training", run.parent):
        run.parent.mkdir(parents=True, exist_ok=True)
    how = ["--resume"] if begun else ["--overwrite"] if there else []
    settings = [word for override in cell.overrides for word in ("--set", override)]
    train = [sys.executable, "-m", "onotrain", "train", *arguments, *settings, "--quiet", "--output", str(run)]
    log = _beside(cell, output, LOG_NAME)
    late = list[float]()

    def look(job: Job) -> None:
        if minutes is not None and time.monotonic() - began > 60 * minutes and not late:
            late.append(minutes)
            job.end()

    with open(log, "wb") as file:
        job = Job([*launcher, "-n", str(cell.ranks), *train, *how], file)
        code = job.wait(stop, look)
    seconds = time.monotonic() - began
    if code == EXIT_OK:
        return _outcome(cell, "done", seconds=seconds)
    if stop.asked:
        return _outcome(cell, "stopped", code, seconds=seconds)
    error = f"took longer than {minutes:g} minutes" if late else cause_of(job.errors, code, _said_first(log))
    return _outcome(cell, "failed", code, f"{error} (see {log})", seconds)


def _said_first(log: Path) -> str:
    """Return the first line of a log that has words: what a launcher says that starts no rank."""
    with open(log, errors="replace") as file:
        return next((line.strip() for line in file if any(map(str.isalpha, line))), "")


def _outcome(cell: Cell, state: Any, code: int = EXIT_OK, error: str = "", seconds: float = 0.0) -> Outcome:
    return Outcome(cell.name, cell.label, cell.ranks, cell.count, cell.seed, state, code, error, seconds)


def _beside(cell: Cell, output: Path, name: str) -> Path:
    """Return the path of a file beside a training's run directory."""
    run = output / RUNS_NAME / cell.name
    return run.parent / f"{run.name}.{name}"


def outcome_of(cell: Cell, output: Path) -> Outcome:
    """Return what has become of a training until now."""
    kept, path = _kept(cell, output), _beside(cell, output, _OUTCOME)
    if kept is not None:
        return kept
    try:
        return Outcome(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return _outcome(cell, "missing", error="it has not been trained yet")


def write_outcomes(outcomes: Sequence[Outcome], output: Path) -> None:
    """Write what became of all trainings to `OUTCOMES_NAME`. Raises ResourceError."""
    write_atomically(output / OUTCOMES_NAME, pretty({"trainings": [asdict(each) for each in outcomes]}))


def outcomes_of(output: Path) -> list[Outcome]:
    """Return what became of the trainings of a study, as `write_outcomes` wrote it.

    Raises
    ------
    UsageError
        There is no study, or its file is damaged.
    """
    path = output / OUTCOMES_NAME
    try:
        return [Outcome(**each) for each in json.loads(path.read_text())["trainings"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"{output}: holds no trainings of a study ({OUTCOMES_NAME}: {error})", hint="onotrain compare makes them"
        ) from None

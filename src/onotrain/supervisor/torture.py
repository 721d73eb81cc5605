"""Kills, stops and slows ranks at random, and looks whether a training ends as if nothing had been."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from onotrain.errors import EXIT_OK, CheckpointError, UsageError
from onotrain.runs.run_files import SUMMARY_NAME
from onotrain.supervisor.job import Job
from onotrain.supervisor.policy import Stubborn
from onotrain.supervisor.supervise import supervise

#: What can be done to a rank: end it, stop it for good, or stop it for less than a second.
KINDS = ("kill", "stop", "slow")
#: Longest time that a rank is slowed for [s].
_SLOW_S = 0.8


@dataclass
class Fault:
    """Something that was done to a rank."""

    kind: str
    rank: int
    #: Since the torture began [s].
    at: float
    #: Until the next step was made after it [s]; None: the run went on, or it is not known yet.
    recovered: float | None = None


@dataclass
class Report:
    """What came of it."""

    ranks: int
    seed: int
    #: Trainings that were disturbed, and of them those that ended well but with other parameters.
    runs: int = 0
    differ: list[str] = field(default_factory=list)
    #: Whether trainings that nobody disturbs end with the same parameters, so that those of others can be held against
    #: them.
    compared: bool = False
    faults: list[Fault] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


class Torturer:
    """Does something to a rank now and then, while a job trains.

    Parameters
    ----------
    seed
        Of the choices; moments depend on the machine besides.
    every
        Mean time between two faults [s].
    kinds
        Some of `KINDS`.
    ranks
        Launched together.  The last one of several is left alone: where ranks outlive others, nobody is left to
        outlive it.
    """

    def __init__(self, seed: int, every: float, kinds: Sequence[str], ranks: int) -> None:
        self._ranks = ranks
        self._random, self._every, self._kinds = random.Random(seed), every, kinds
        self._began = time.monotonic()
        self._due = self._began
        self._trains_since: float | None = None
        self._stopped_until: tuple[int, float] | None = None
        self.faults: list[Fault] = []
        self.ends = False

    def __call__(self, job: Job) -> None:
        """Look what is to be done."""
        now = time.monotonic()
        last = self.faults[-1] if self.faults else None
        if last is not None and last.recovered is None and last.kind != "slow" and job.trains_since is not None:
            since = job.trains_since - self._began
            last.recovered = since - last.at if since > last.at else None
        if self._stopped_until is not None and now >= self._stopped_until[1]:
            _send(self._stopped_until[0], signal.SIGCONT)
            self._stopped_until = None
        if job.trains_since != self._trains_since:  # or the first step of each launch would be the last, often
            self._trains_since, self._due = job.trains_since, now + self._random.expovariate(1 / self._every)
        if now < self._due or self.ends or job.trains_since is None:
            return
        if not job.processes or len(job.processes) == 1 < self._ranks:
            return
        self._due = now + self._random.expovariate(1 / self._every)
        rank, kind = self._random.choice(sorted(job.processes)), self._random.choice(self._kinds)
        self.faults.append(Fault(kind, rank, now - self._began))
        process = job.processes[rank]
        _send(process, signal.SIGKILL if kind == "kill" else signal.SIGSTOP)
        if kind == "slow":
            self._stopped_until = process, now + self._random.uniform(0.05, _SLOW_S)
        else:
            job.trains_since = None  # nothing more is done to what is left of this launch


def _send(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def torture(
    launcher: Sequence[str], arguments: Sequence[str], folder: Path, *, ranks: int, every: float, kinds: Sequence[str],
    seed: int, over: Callable[[Report], bool], say: Callable[[str], None],
) -> Report:  # fmt: skip
    """Train again and again under faults; two trainings that nobody disturbs come first.

    Parameters
    ----------
    launcher, arguments, ranks
        As of `supervise`.
    folder
        Of the runs; must not exist, or be empty.
    every, kinds, seed
        As of `Torturer`.
    over
        Whether enough has been done; the training under way is then left to come to its end.
    say
        Takes a line for each run.

    Raises
    ------
    UsageError
        The folder is in use, or the training fails without any fault.
    CheckpointError
        A disturbed training did not come to its end.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder}: is not empty, expected a new folder for the runs", hint="use another --output")
    report = Report(ranks, seed)
    digests = [_train(launcher, arguments, folder / f"undisturbed-{n}", ranks, say, lambda _: None) for n in (1, 2)]
    report.compared = digests[0] == digests[1]
    torturer = Torturer(seed, every, kinds, ranks)
    report.faults = torturer.faults

    def meanwhile(job: Job) -> None:
        torturer.ends = over(report)
        torturer(job)

    while not over(report):
        report.runs += 1
        before, run = len(report.faults), folder / f"run-{report.runs}"
        same = _train(launcher, arguments, run, ranks, lambda _: None, meanwhile) == digests[0]
        if report.compared and not same:
            report.differ.append(run.name)
        outcome = "" if not report.compared else ", the parameters are " + ("the same" if same else "OTHERS")
        say(f"{run.name}: {len(report.faults) - before} faults{outcome}")
    return report


def _train(
    launcher: Sequence[str], arguments: Sequence[str], run: Path, ranks: int, say: Callable[[str], None],
    meanwhile: Callable[[Job], None],
) -> str:  # fmt: skip
    """Return the SHA-256 of the parameters at the end of a training."""
    code = supervise(launcher, arguments, run, ranks, Stubborn(ranks), say, meanwhile)
    if code != EXIT_OK:
        raise CheckpointError(f"{run}: the training ended with {code}", hint="its messages are above")
    return str(json.loads((run / SUMMARY_NAME).read_text())["parameters_sha256"])

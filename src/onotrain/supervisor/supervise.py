"""A training that is launched until it is done, or until there is no more hope."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from onotrain.errors import EXIT_INTERRUPTED, EXIT_OK, StoppedOnRequest
from onotrain.runs.checkpoint_store import CheckpointStore, step_of
from onotrain.runs.live import add_event
from onotrain.runs.run_files import CHECKPOINTS_NAME, CONFIG_NAME
from onotrain.supervisor.hosts import Hosts
from onotrain.supervisor.job import Job, Stop, cause_of
from onotrain.supervisor.policy import FINAL, LostHosts, Policy, Stubborn, Verdict

EXIT_STOPPED = StoppedOnRequest.exit_code


def supervise(
    launcher: Sequence[str], arguments: Sequence[str], output: Path, ranks: int, policy: Policy | Stubborn,
    say: Callable[[str], None], meanwhile: Callable[[Job], None] = lambda _: None,
) -> int:  # fmt: skip
    """Train, and after a failure go on from the last checkpoint; return the exit code of the whole.

    Parameters
    ----------
    launcher
        Of MPI, and its options, without the number of ranks.
    arguments
        Of ``onotrain train``, without ``--output``.
    output
        Run directory.
    ranks
        How many to begin with.
    policy
        Whether to launch again, and on how many.
    say
        Takes what a person should know.
    meanwhile
        See `Job.wait`.
    """
    resumed = [*(argument for argument in arguments if argument not in ("--overwrite", "--resume")), "--resume"]
    found, hosts, command = _identity(output), Hosts.of(launcher), list(launcher)
    with Stop.listening() as stop:
        while True:
            train = [sys.executable, "-m", "onotrain", "train", *arguments, "--output", str(output)]
            job = Job([*command, "-n", str(ranks), *train])
            code, steps = job.wait(stop, meanwhile), newest(output)
            if stop.asked:
                return code if code in FINAL else _stopped(steps)
            lost = LostHosts()
            if hosts is not None and code not in FINAL:
                before, hosts = hosts, hosts.alive()
                lost = LostHosts([host for host in before.slots if host not in hosts.slots], hosts.places)
                command = hosts.command if lost.names else command
            verdict = policy.after(code, steps, lost)
            begun = _identity(output) != found  # this training has begun its run; until then, another one may be there
            if code != EXIT_OK:
                summary = _summary(code, job.errors, steps, verdict)
                say(summary)
                if begun and code not in FINAL:  # of those the run has said so itself
                    event = "launched again" if verdict.again else "not launched again"
                    add_event(output, event, exit_code=code, message=summary)
            if not verdict.again:
                return code
            if stop.wait(verdict.pause):
                return _stopped(steps)
            ranks = verdict.ranks
            if begun:
                arguments = resumed


def _stopped(steps: int) -> int:
    """Return the exit code of a training that was asked to stop, and was ended by its launcher."""
    return EXIT_STOPPED if steps >= 0 else EXIT_INTERRUPTED


def _identity(output: Path) -> tuple[int, int] | None:
    """Return what tells a run from one that was in the same directory before; None: there is none."""
    try:
        status = (output / CONFIG_NAME).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def newest(output: Path) -> int:
    """Return the steps of the newest checkpoint of a run; -1: there is none."""
    paths = CheckpointStore(output / CHECKPOINTS_NAME).paths()
    return step_of(paths[-1].name) if paths else -1


def _summary(code: int, errors: Sequence[str], steps: int, verdict: Verdict) -> str:
    """Return what happened, and what comes next."""
    cause = cause_of(errors, code)
    if not verdict.again:
        return f"the training ended with {code}: {cause}; not launched again: {verdict.why}"
    where = f"from step {steps}" if steps >= 0 else "from the beginning"
    pause = f" in {verdict.pause:.0f} s" if verdict.pause else ""
    why = f"; {verdict.why}" if verdict.why else ""
    return f"the training ended with {code}: {cause}{why}; going on {where} on {verdict.ranks} ranks{pause}"

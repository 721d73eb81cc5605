"""Trains, and one rank stands still: ``mpirun -n 3 python stalled_run.py OUTPUT KIND POINT RANK SECONDS [MORE]``."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from onotrain.evaluation.evaluator import Evaluator
from onotrain.parallel import guard, launcher
from onotrain.training import train
from onotrain.training.local_gradient import LocalGradient
from onotrain.training.replay import Replay
from onotrain.training.run_data import RunData
from onotrain.training.run_writer import RunWriter


def spin() -> None:
    """Compute for ever."""
    while True:
        pass


def deadlock() -> None:
    """Wait for a lock that nobody gives back."""
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def collective() -> None:
    """Wait in a collective of all ranks that no other enters, by an operation that is not the one of the others."""
    from mpi4py import MPI

    MPI.COMM_WORLD.Barrier()


def read_nothing() -> None:
    """Read what nobody writes."""
    read, _ = os.pipe()
    os.read(read, 1)


KINDS: dict[str, Callable[[], Any]] = {
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "sleep": lambda: time.sleep(3600),
    "spin": spin,
    "deadlock": deadlock,
    "collective": collective,
    "read": read_nothing,
}
#: Where, and at which call.
POINTS: dict[str, tuple[list[tuple[type, str]], int]] = {
    "data": ([(RunData, "__init__")], 1),
    "step": ([(Replay, "run"), (LocalGradient, "__call__")], 12),
    "evaluation": ([(Evaluator, "__call__")], 2),
    "save": ([(RunWriter, "save")], 2),
}


def main() -> None:
    """Train, on ranks one of which will stand still."""
    output, kind, point, rank, seconds, *rest = sys.argv[1:]
    sections = {"fault_tolerance": {"watchdog_seconds": float(seconds)}} | json.loads(rest[0] if rest else "{}")
    config = {
        "data": {"train": "digits", "validation": 0.2},
        "model": {"layers": [{"dense": 32}, {"activation": "relu"}, {"dense": 10}]},
        "loss": "cross_entropy",
        "training": {"epochs": 400, "batch_size": 64},
        **sections,
    }
    owners, call = POINTS[point]
    calls = iter(range(1, 10**9))
    if launcher.rank() == int(rank):
        for owner, name in owners:
            setattr(owner, name, standing_still(getattr(owner, name), lambda: next(calls) == call, KINDS[kind]))
    train(config, output=output)


def standing_still(function: Any, now: Callable[[], bool], stand_still: Callable[[], Any]) -> Any:
    """Return a function that stands still before it does what it does, when it is time."""

    def stalls(*arguments: Any, **options: Any) -> Any:
        if now():
            stand_still()
        return function(*arguments, **options)

    return stalls


if __name__ == "__main__":
    sys.exit(guard.run(main))

"""Trains, and something happens to ranks: ``mpirun -n 3 python faulty_run.py OUTPUT KIND POINT RANKS SECONDS [MORE]``.

RANKS are those that it happens to, in turn: ``2`` or ``0,2``; KIND may be one for each of them: ``kill,raise``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from onotrain.evaluation.evaluator import Evaluator
from onotrain.parallel import guard, launcher
from onotrain.strategies import flat_allreduce
from onotrain.strategies.allreduce.kept import KeptState
from onotrain.strategies.local_sgd import local_sgd
from onotrain.strategies.replica import Copy, WholeReplica
from onotrain.training import fit, train
from onotrain.training.local_gradient import LocalGradient
from onotrain.training.replay import Replay
from onotrain.training.run_data import RunData
from onotrain.training.run_writer import RunWriter
from onotrain.training.trainer import Trainer


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


def fail() -> None:
    """Do what nobody has foreseen."""
    raise RuntimeError("a mistake")


KINDS: dict[str, Callable[[], Any]] = {
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "sleep": lambda: time.sleep(3600),
    "spin": spin,
    "deadlock": deadlock,
    "collective": collective,
    "read": read_nothing,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(3),
    "raise": fail,
}
#: Where, and at which call.
POINTS: dict[str, tuple[list[tuple[Any, str]], int]] = {
    "data": ([(RunData, "__init__")], 1),
    "step": ([(Replay, "run"), (LocalGradient, "__call__")], 12),
    "evaluation": ([(Evaluator, "__call__")], 2),
    "save": ([(RunWriter, "save")], 2),
    "begin": ([(RunWriter, "__init__")], 1),
    "commit": ([(KeptState, "commit"), (WholeReplica, "commit"), (Copy, "take")], 9),
    "reduce": ([(flat_allreduce, "all_reduce"), (local_sgd, "all_reduce")], 40),
    "record": ([(Trainer, "_end_epoch")], 2),
    "end": ([(RunWriter, "end")], 1),
}


def main() -> None:
    """Train, on ranks of which something will happen to some."""
    output, kind, point, victims, seconds, *rest = sys.argv[1:]
    sections = json.loads(rest[0] if rest else "{}")
    rows = sections.pop("rows", None)  # of `onotrain.fit`
    sections["fault_tolerance"] = {"watchdog_seconds": float(seconds)} | sections.get("fault_tolerance", {})
    config = {
        "data": {"train": "digits", "validation": 0.2},
        "model": {"layers": [{"dense": 32}, {"activation": "relu"}, {"dense": 10}]},
        "loss": "cross_entropy",
        "training": {"epochs": 400, "batch_size": 64},
        **sections,
    }
    owners, call = POINTS[point]
    calls, ranks = iter(range(1, 10**9)), [int(rank) for rank in victims.split(",")]
    if launcher.rank() in ranks:
        turn, kinds = ranks.index(launcher.rank()), kind.split(",")
        call *= 1 + turn
        happen = KINDS[kinds[min(turn, len(kinds) - 1)]]
        for owner, name in owners:
            setattr(owner, name, disturbed(getattr(owner, name), lambda: next(calls) == call, happen))
    if rows is None:
        train(config, output=output)
    else:
        fit_numbers(rows, {name: sections[name] for name in ("fault_tolerance", "training")})


def fit_numbers(rows: str, sections: dict[str, Any]) -> None:
    """Fit samples in memory, the same on all ranks or each rank its own, and say what came of it."""
    random = np.random.default_rng(0)
    samples = random.normal(size=(2000, 5))
    mine = slice(launcher.rank(), None, launcher.size()) if rows == "own" else slice(None)
    fitted = fit(samples[mine], samples[mine] @ random.normal(size=(5, 1)), rows=rows, **sections)
    sys.stdout.write(f"rank {launcher.rank()} has outlived {fitted.summary['lost_ranks']}\n")


def disturbed(function: Any, now: Callable[[], bool], happen: Callable[[], Any]) -> Any:
    """Return a function before which something happens, when it is time."""

    def disturbs(*arguments: Any, **options: Any) -> Any:
        if now():
            happen()
        return function(*arguments, **options)

    return disturbs


if __name__ == "__main__":
    if "--as-a-program" in sys.argv:  # of somebody who knows of no guard
        sys.argv.remove("--as-a-program")
        main()
        sys.exit(21)
    sys.exit(guard.run(main))

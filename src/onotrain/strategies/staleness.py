"""Stale-synchronous parallel: which worker may go on, and how stale what it sends is.

A worker's clock is the number of steps that it has finished.  It goes on only while it is at most ``bound`` ahead of
the slowest worker (Ho et al., "More effective distributed ML via a stale synchronous parallel parameter server",
NIPS 2013): bound 0 is a barrier after every step, None lets every worker run free.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np


class _Is(Enum):
    WAITING = "waiting"
    WORKING = "working"
    GONE = "gone"


class Clocks:
    """Clocks of the workers of a server.

    All begin waiting: a server answers those that `release` names, at the beginning, after every `advance` and after
    every `leave`.

    Parameters
    ----------
    workers
        Their number.
    bound
        Largest lead over the slowest worker [steps] that one may go on with; None for no bound.
    """

    def __init__(self, workers: int, bound: int | None) -> None:
        self._bound = bound
        self._clocks = [0] * workers
        self._is = [_Is.WAITING] * workers

    def may_go(self, worker: int) -> bool:
        """Return whether `worker`, which has not left, may begin another step."""
        if self._bound is None:
            return True
        present = zip(self._clocks, self._is, strict=True)
        slowest = min((clock for clock, state in present if state is not _Is.GONE), default=self._clocks[worker])
        return self._clocks[worker] - slowest <= self._bound

    def advance(self, worker: int) -> None:
        """Note that `worker` has finished a step and waits.

        Raises
        ------
        RuntimeError
            It was not released, so the bound is broken.
        """
        if self._is[worker] is not _Is.WORKING:
            raise RuntimeError(f"worker {worker} finished a step while it was {self._is[worker].value}")
        self._clocks[worker] += 1
        self._is[worker] = _Is.WAITING

    def leave(self, worker: int) -> None:
        """Note that `worker` makes no more steps: nobody waits for it any longer."""
        self._is[worker] = _Is.GONE

    def release(self) -> list[int]:
        """Let all waiting workers go that may; return them in ascending order."""
        going = [worker for worker, state in enumerate(self._is) if state is _Is.WAITING and self.may_go(worker)]
        for worker in going:
            self._is[worker] = _Is.WORKING
        return going

    @property
    def steps(self) -> list[int]:
        """The clock of each worker [steps]."""
        return list(self._clocks)

    @property
    def parked(self) -> list[int]:
        """Workers that wait, in ascending order."""
        return [worker for worker, state in enumerate(self._is) if state is _Is.WAITING]

    @property
    def done(self) -> bool:
        """Whether all have left."""
        return all(state is _Is.GONE for state in self._is)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must keep; steps under way are not part of it."""
        return {"clocks": list(self._clocks), "gone": [state is _Is.GONE for state in self._is]}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`: all who have not left wait."""
        self._clocks = list(state["clocks"])
        self._is = [_Is.GONE if gone else _Is.WAITING for gone in state["gone"]]


class Staleness:
    """How many updates others made between the parameters that a worker computed with and the use of its gradient."""

    def __init__(self) -> None:
        self._counts = np.zeros(8, np.int64)
        self._epoch = np.zeros(8, np.int64)

    def add(self, updates: int) -> None:
        """Count one gradient that is `updates` stale.

        Raises
        ------
        ValueError
            `updates` is negative.
        """
        if updates < 0:
            raise ValueError(f"a gradient cannot be {updates} updates stale")
        if updates >= len(self._counts):
            more = max(len(self._counts), updates + 1 - len(self._counts))
            self._counts = np.pad(self._counts, (0, more))
            self._epoch = np.pad(self._epoch, (0, more))
        self._counts[updates] += 1
        self._epoch[updates] += 1

    @property
    def counts(self) -> np.ndarray:
        """Histogram of the run, int64: element ``i`` is the number of gradients that were ``i`` stale."""
        return _trimmed(self._counts)

    def summary(self) -> dict[str, float]:
        """Return number, mean and maximum of the run's gradients [updates]."""
        return _summary(self._counts)

    def take_epoch(self) -> dict[str, float]:
        """Return number, mean and maximum since the last call [updates]; the histogram of the run stays."""
        summary = _summary(self._epoch)
        self._epoch[:] = 0
        return summary

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must keep."""
        return {"counts": self.counts.tolist(), "epoch": _trimmed(self._epoch).tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        size = max(8, len(state["counts"]))
        self._counts, self._epoch = (
            np.pad(np.array(state[name], np.int64), (0, size - len(state[name]))) for name in ("counts", "epoch")
        )


def _trimmed(counts: np.ndarray) -> np.ndarray:
    """Return a copy without the zeros at its end."""
    return np.trim_zeros(counts, "b").copy()


def _summary(counts: np.ndarray) -> dict[str, float]:
    number = int(counts.sum())
    if number == 0:
        return {"gradients": 0, "mean": 0.0, "max": 0}
    mean = int(counts @ np.arange(len(counts))) / number
    return {"gradients": number, "mean": mean, "max": int(np.flatnonzero(counts)[-1])}

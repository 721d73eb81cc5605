"""Stale-synchronous parallel: which worker may go on, and how stale what it sends is.

A worker's clock is the number of steps that it has finished.  It goes on only while it is at most ``bound`` ahead of
the slowest worker (Ho et al., "More effective distributed ML via a stale synchronous parallel parameter server",
NIPS 2013): bound 0 is a barrier after every step, None lets every worker run free.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


class Clocks:
    """Clocks of the workers of a server.

    All begin waiting: a server answers those that `release` names, at the beginning and after every `advance`.

    Parameters
    ----------
    workers
        Their number.
    bound
        Largest lead over the slowest worker [steps] that one may go on with; None for no bound.
    """

    def __init__(self, workers: int, bound: int | None) -> None:
        self._bound = bound
        #: The clock of each worker [steps]; read only.
        self.steps = [0] * workers
        self._waits = [True] * workers

    def advance(self, worker: int) -> None:
        """Note that `worker` has finished a step and waits.

        Raises
        ------
        RuntimeError
            It was not released, so the bound is broken.
        """
        if self._waits[worker]:
            raise RuntimeError(f"worker {worker} finished a step that it was not to begin")
        self.steps[worker] += 1
        self._waits[worker] = True

    def release(self) -> list[int]:
        """Let all waiting workers go that may; return them in ascending order."""
        last = math.inf if self._bound is None else min(self.steps) + self._bound
        going = [worker for worker, waits in enumerate(self._waits) if waits and self.steps[worker] <= last]
        for worker in going:
            self._waits[worker] = False
        return going


class Staleness:
    """How many updates others made between the parameters that a worker computed with and the use of its gradient."""

    def __init__(self) -> None:
        self._counts, self._epoch = [0], [0]

    def add(self, updates: int) -> None:
        """Count one gradient that is `updates` stale.

        Raises
        ------
        ValueError
            `updates` is negative.
        """
        if updates < 0:
            raise ValueError(f"a gradient cannot be {updates} updates stale")
        missing = [0] * (updates + 1 - len(self._counts))
        self._counts += missing
        self._epoch += missing
        self._counts[updates] += 1
        self._epoch[updates] += 1

    @property
    def counts(self) -> np.ndarray:
        """Histogram of the run, int64: element ``i`` is the number of gradients that were ``i`` stale."""
        return _trimmed(self._counts)

    def take_epoch(self) -> dict[str, float]:
        """Return number, mean and maximum since the last call [updates]; the histogram of the run stays."""
        summary = _summary(np.array(self._epoch))
        self._epoch = [0] * len(self._epoch)
        return summary

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must keep."""
        return {"counts": self.counts.tolist(), "epoch": _trimmed(self._epoch).tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self._counts, epoch = list(state["counts"]), list(state["epoch"])
        self._epoch = epoch + [0] * (len(self._counts) - len(epoch))


def _trimmed(counts: list[int]) -> np.ndarray:
    """Return an array without the zeros at the end."""
    return np.trim_zeros(np.array(counts, np.int64), "b")


def _summary(counts: np.ndarray) -> dict[str, float]:
    number = int(counts.sum())
    if number == 0:
        return {"gradients": 0, "mean": 0.0, "max": 0}
    mean = int(counts @ np.arange(len(counts))) / number
    return {"gradients": number, "mean": mean, "max": int(np.flatnonzero(counts)[-1])}

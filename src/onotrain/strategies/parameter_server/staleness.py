"""Stale-synchronous parallel: which worker may go on, and how stale what it sends is.

A worker's clock is the number of steps that it has finished.  It goes on only while it is at most ``bound`` ahead of
the slowest worker (Ho et al., "More effective distributed ML via a stale synchronous parallel parameter server",
NIPS 2013): bound 0 is a barrier after every step, None lets every worker run free.
"""

from __future__ import annotations

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
        self._clocks, self._waits = [0] * workers, [True] * workers

    def may_go(self, worker: int) -> bool:
        """Return whether `worker` may begin another step."""
        return self._bound is None or self._clocks[worker] - min(self._clocks) <= self._bound

    def advance(self, worker: int) -> None:
        """Note that `worker` has finished a step and waits.

        Raises
        ------
        RuntimeError
            It was not released, so the bound is broken.
        """
        if self._waits[worker]:
            raise RuntimeError(f"worker {worker} finished a step that it was not to begin")
        self._clocks[worker] += 1
        self._waits[worker] = True

    def release(self) -> list[int]:
        """Let all waiting workers go that may; return them in ascending order."""
        going = [worker for worker, waits in enumerate(self._waits) if waits and self.may_go(worker)]
        for worker in going:
            self._waits[worker] = False
        return going

    @property
    def steps(self) -> list[int]:
        """The clock of each worker [steps]."""
        return list(self._clocks)


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

"""Learning-rate schedules: a factor on the base rate, as a function of the epoch or of what validation says.

A schedule holds steady within an epoch except for the warm-up, which rises with every step.  Epochs are counted from 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

_Factor = Callable[[Any, int, int], float]

#: Factor in epoch ``epoch`` of ``epochs``, by the schedule's name.
FACTORS: dict[str, _Factor] = {
    "constant": lambda spec, epoch, epochs: 1.0,
    "step": lambda spec, epoch, epochs: spec.factor ** (epoch // spec.every_epochs),
    "multi_step": lambda spec, epoch, epochs: spec.factor ** sum(epoch >= m for m in spec.milestones),
    "exponential": lambda spec, epoch, epochs: spec.factor**epoch,
    "cosine": lambda spec, epoch, epochs: (
        spec.min_factor + (1.0 - spec.min_factor) * 0.5 * (1.0 + math.cos(math.pi * epoch / epochs))
    ),
    "plateau": lambda spec, epoch, epochs: 1.0,
}


class Improvement:
    """Tells whether a monitored metric got better, and for how many epochs it has not.

    Parameters
    ----------
    mode
        ``min`` or ``max``: which direction is better.
    min_delta
        Smallest change that counts.
    """

    def __init__(self, mode: str, min_delta: float) -> None:
        self._sign = 1.0 if mode == "min" else -1.0
        self._min_delta = min_delta
        self.best: float | None = None
        self.stale_epochs = 0

    def update(self, value: float) -> bool:
        """Take in one epoch's value; return whether it is a new best.  NaN never is."""
        better = self.best is None or self._sign * (self.best - value) > self._min_delta
        if better and not math.isnan(value):
            self.best, self.stale_epochs = value, 0
            return True
        self.stale_epochs += 1
        return False

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs."""
        return {"best": self.best, "stale_epochs": self.stale_epochs}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.best, self.stale_epochs = state["best"], state["stale_epochs"]


class Schedule:
    """The learning rate of every step.

    Parameters
    ----------
    spec
        The ``schedule`` section of the configuration.
    learning_rate
        Base rate of the optimiser.
    batch_size
        Global batch size [samples], for the linear scaling rule (Goyal et al., arXiv 1706.02677).
    epochs
        Length of the run.
    steps_per_epoch
        Optimiser steps of an epoch.
    mode
        Whether plateau's metric is better when it is smaller (``min``) or larger (``max``).
    """

    def __init__(
        self, spec: Any, learning_rate: float, batch_size: int, epochs: int, steps_per_epoch: int, mode: str = "min"
    ) -> None:
        scaling = 1.0 if spec.base_batch_size is None else batch_size / spec.base_batch_size
        self._base = learning_rate * scaling
        self._spec, self._factor = spec, FACTORS[spec.name]
        self._epochs = epochs
        self._warmup_steps = spec.warmup_steps or spec.warmup_epochs * steps_per_epoch
        self._plateau = Improvement(mode, spec.min_delta) if spec.name == "plateau" else None
        self._reductions = 0

    def rate(self, epoch: int, step: int) -> float:
        """Return the learning rate of step `step` (counted from 0 over the whole run) in `epoch`."""
        rate = self._base * self._factor(self._spec, epoch, self._epochs)
        if self._plateau is not None:
            rate *= self._spec.factor**self._reductions
        if step < self._warmup_steps:
            start = self._spec.warmup_start
            rate *= start + (1.0 - start) * (step + 1) / self._warmup_steps
        return rate

    @property
    def metric(self) -> str | None:
        """The metric that `observe` wants after every epoch, if any."""
        return None if self._plateau is None else self._spec.metric

    def observe(self, value: float) -> None:
        """Take in the monitored metric of a finished epoch."""
        if self._plateau is None or self._plateau.update(value):
            return
        if self._plateau.stale_epochs > self._spec.patience:
            self._reductions += 1
            self._plateau.stale_epochs = 0

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must keep."""
        return {"reductions": self._reductions, "plateau": None if self._plateau is None else self._plateau.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self._reductions = state["reductions"]
        if self._plateau is not None:
            self._plateau.restore(state["plateau"])

"""Records within an epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from onotrain.training.observers import Observer, StepEnd


class StepRecords(Observer):
    """Makes a record of every so many steps.

    Parameters
    ----------
    every
        Steps of a record; of more where losses are not known in between.
    seconds
        Returns the times of the run so far.
    keep
        Takes a record.
    after
        Steps that the run has made so far.
    """

    each_step = False

    def __init__(
        self, every: int, seconds: Callable[[], Mapping[str, float]], keep: Callable[[Mapping[str, Any]], None],
        *, after: int,
    ) -> None:  # fmt: skip
        self._every, self._seconds, self._keep = every, seconds, keep
        self._samples, self._loss, self._right, self._due = 0, 0.0, 0.0, after // every

    def stepped(self, step: StepEnd) -> None:
        """Add some steps to the record, and keep it if it is due."""
        self._samples += step.samples
        self._loss += step.loss * step.samples
        self._right += (step.accuracy or 0.0) * step.samples
        if step.step // self._every <= self._due:
            return
        self._due = step.step // self._every
        accuracy = {} if step.accuracy is None else {"train_accuracy": self._right / self._samples}
        self._keep(
            {
                "epoch": step.epoch + 1,
                "step": step.step,
                "samples": self._samples,
                "train_loss": self._loss / self._samples,
                **accuracy,
                "learning_rate": step.learning_rate,
                **self._seconds(),
            }
        )
        self._samples, self._loss, self._right = 0, 0.0, 0.0

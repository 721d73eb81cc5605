"""What a run tells those who watch it; rank 0 alone has observers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RunStart:
    """The facts of a run before its first step."""

    output: str
    epochs: int
    samples: int
    validation_samples: int
    batch_size: int
    steps_per_epoch: int
    ranks: int
    nodes: int
    strategy: str
    parameters: int
    network: str
    #: Position from which the run goes on: epoch counted from 0, steps made.
    first_epoch: int
    first_step: int
    #: What was decided for the user about the data, in words.
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepEnd:
    """One optimiser step; losses and accuracies are those of the step's global batch."""

    epoch: int
    step: int
    samples: int
    loss: float
    accuracy: float | None
    learning_rate: float
    gradient_norm: float


class Observer:
    """Base of all observers; does nothing."""

    @property
    def watches_steps(self) -> bool:
        """Whether it has a `stepped` of its own; no `StepEnd` is made for those that have not."""
        return type(self).stepped is not Observer.stepped

    def started(self, start: RunStart) -> None:
        """Learn that the first step is about to be made."""

    def stepped(self, step: StepEnd) -> None:
        """Learn of a step."""

    def epoch_ended(self, record: Mapping[str, Any]) -> None:
        """Learn that an epoch has ended; `record` is what `metrics.jsonl` gets."""

    def noted(self, message: str) -> None:
        """Learn of something that is worth a line."""

    def ended(self, summary: Mapping[str, Any]) -> None:
        """Learn that the run is over; `summary` is what `summary.json` gets."""


class Observers(Observer):
    """Several observers as one."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    @property
    def watches_steps(self) -> bool:
        """Whether any of them does."""
        return any(observer.watches_steps for observer in self._observers)

    def started(self, start: RunStart) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.started(start)

    def stepped(self, step: StepEnd) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.stepped(step)

    def epoch_ended(self, record: Mapping[str, Any]) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.epoch_ended(record)

    def noted(self, message: str) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.noted(message)

    def ended(self, summary: Mapping[str, Any]) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.ended(summary)

"""How far a run has come: everything that a resumed run needs besides arrays."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Progress:
    """Position and running sums; JSON-able, and exact through JSON."""

    #: Epoch in progress, counted from 0, and the position in it [samples].
    epoch: int = 0
    position: int = 0
    #: Optimiser steps made.
    steps: int = 0
    #: Samples of an epoch, and windows that they are shuffled in; 0 if not known.
    samples: int = 0
    windows: int = 0
    #: Samples that each rank that computes has of its own; empty if they are not partitioned.
    pools: list[int] = field(default_factory=list)
    #: Of the epoch in progress.
    loss_sum: float = 0.0
    right: float = 0.0
    epoch_seconds: float = 0.0
    #: Mean over the samples of the last epoch that was finished; None if none was.
    train_loss: float | None = None
    #: Of the whole run, in the training loop [s].
    train_seconds: float = 0.0
    #: Whether the run is over: all epochs done, or stopped early.
    finished: bool = False
    stopped_early: bool = False
    #: Why an observer has ended the run; None if none has.
    stopped_by: str | None = None
    best: dict[str, Any] | None = None
    schedule: dict[str, Any] = field(default_factory=dict)
    early_stopping: dict[str, Any] = field(default_factory=dict)
    #: Where the first parameters come from (`onotrain.training.warm_start`); None: they were drawn.
    origin: dict[str, Any] | None = None
    #: Name of a strategy -> its notes.
    strategy: dict[str, Any] = field(default_factory=dict)

    #: Ranks that have died while others went on, as they were counted when their job began.
    lost_ranks: list[int] = field(default_factory=list)

    def begin_epoch(self) -> None:
        """Clear what belongs to one epoch, and go on to the next."""
        self.epoch += 1
        self.position = 0
        self.loss_sum = self.right = self.epoch_seconds = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able data."""
        return asdict(self)

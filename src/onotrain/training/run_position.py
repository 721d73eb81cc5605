"""How far a run has come: everything that a resumed run needs besides arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import TypeAdapter

from onotrain.errors import CheckpointError
from onotrain.runs.json_objects import fitted
from onotrain.runs.records import Best, Count, Flag, Number, Origin, Seconds


@dataclass
class Progress:
    """Position and running sums; JSON-able, and exact through JSON."""

    #: Epoch in progress, counted from 0, and the position in it [samples].
    epoch: Count = 0
    position: Count = 0
    #: Optimiser steps made.
    steps: Count = 0
    #: Samples of an epoch, and windows that they are shuffled in; 0 if not known.
    samples: Count = 0
    windows: Count = 0
    #: Samples that each rank that computes has of its own; empty if they are not partitioned.
    pools: list[Count] = field(default_factory=list)
    #: Of the epoch in progress.
    loss_sum: Number = 0.0
    right: Number = 0.0
    epoch_seconds: Seconds = 0.0
    #: Sums of the estimates of `onotrain.training.noise_scale.Noise` in it, and of how many batches.
    noise_variance: Number = 0.0
    noise_square: Number = 0.0
    noise_batches: Count = 0
    #: Mean over the samples of the last epoch that was finished; None if none was.
    train_loss: Number | None = None
    #: Of the whole run, in the training loop [s].
    train_seconds: Seconds = 0.0
    #: The same with all else that a run does, such as reading data, validation and saving, of all starts [s].
    wall_seconds: Seconds = 0.0
    #: Whether the run is over: all epochs done, or stopped early.
    finished: Flag = False
    stopped_early: Flag = False
    #: Why an observer has ended the run; None if none has.
    stopped_by: str | None = None
    best: Best | None = None
    schedule: dict[str, Any] = field(default_factory=dict)
    early_stopping: dict[str, Any] = field(default_factory=dict)
    #: Where the first parameters come from (`onotrain.training.warm_start`); None: they were drawn.
    origin: Origin | None = None
    #: Name of a strategy -> its notes.
    strategy: dict[str, Any] = field(default_factory=dict)

    #: Ranks that have died while others went on, as they were counted when their job began.
    lost_ranks: list[Count] = field(default_factory=list)

    def begin_epoch(self) -> None:
        """Clear what belongs to one epoch, and go on to the next."""
        self.epoch += 1
        self.position = 0
        self.loss_sum = self.right = self.epoch_seconds = 0.0
        self.noise_variance, self.noise_square, self.noise_batches = 0.0, 0.0, 0

    @classmethod
    def of(cls, metadata: Mapping[str, Any], source: str) -> Progress:
        """Return what a checkpoint says of it, without what this version does not know.

        Parameters
        ----------
        metadata
            Of the checkpoint.
        source
            Name of that, for messages.

        Raises
        ------
        CheckpointError
            It is missing, or a part of it is not what it must be.
        """
        try:
            return fitted(_PROGRESS, metadata["progress"])
        except (KeyError, ValueError) as error:
            raise CheckpointError(
                f"{source}: what it says of the progress is not usable: {error}", hint="use another checkpoint"
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able data."""
        return asdict(self)


_PROGRESS: TypeAdapter[Progress] = TypeAdapter(Progress)

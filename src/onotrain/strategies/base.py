"""What the trainer needs of a strategy: where parameters and gradients lie, and what one step means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from onotrain.config import Config
from onotrain.data.batches import Batch
from onotrain.nn import Model, ParameterLayout
from onotrain.optim import Optimizer
from onotrain.parallel.world import World
from onotrain.strategies.balance import Balance
from onotrain.strategies.injection import Injection
from onotrain.strategies.tally import Clock, Tally, Traffic


@dataclass(frozen=True)
class Job:
    """All that a strategy is built from; `of` makes it of a configuration."""

    world: World
    layout: ParameterLayout
    optimizer: Optimizer
    #: The ``strategy`` section of the configuration.
    options: Any
    #: Pieces that a rank computes its part of a batch in.
    pieces: int = 1
    #: Of the run.
    seed: int = 0
    #: Options of what gradients and parameters are sent as; None: as they are.
    codec: Any = None
    #: Returns how so many ranks' slices of a batch follow their throughput; None: they are equal.
    balance: Callable[[int], Balance] | None = None
    #: Slows down computing and messages, if that is to be simulated.
    injection: Injection = field(default_factory=Injection)

    @classmethod
    def of(
        cls,
        config: Config,
        world: World,
        layout: ParameterLayout,
        optimizer: Optimizer,
        injection: Injection | None = None,
    ) -> Job:
        """Return the job of a configuration."""
        codec, training = config.communication.codec, config.training
        balanced = training.load_balance == "throughput"
        return cls(
            world=world,
            layout=layout,
            optimizer=optimizer,
            options=config.strategy,
            pieces=training.gradient_accumulation,
            seed=training.seed,
            codec=None if codec.name == "none" else codec,
            balance=partial(Balance, batch_size=training.batch_size) if balanced else None,
            injection=injection or Injection(),
        )


class BatchShape(NamedTuple):
    """The most that a run's batches ask for."""

    #: Of a global batch.
    samples: int
    #: Rows that this rank computes at a time.
    rows: int
    #: Times that it does so for a batch.
    pieces: int


class Strategy(Protocol):
    """How ranks turn gradients into new parameters."""

    @property
    def clock(self) -> Clock:
        """Seconds of this rank that were not its own work."""
        ...

    @property
    def traffic(self) -> Traffic:
        """Bytes that this rank sent in steps; what a settled step moves beside is not counted."""
        ...

    @property
    def parameters(self) -> np.ndarray:
        """Flat vector that this rank computes with."""
        ...

    @property
    def settled(self) -> bool:
        """Whether `parameters` and `state` are whole on rank 0 after the last step, without `settle` and `collect`."""
        ...

    @property
    def lockstep(self) -> bool:
        """Whether no rank begins a step before all have the data of the one before, as reading together needs."""
        ...

    @property
    def finished(self) -> Callable[[int], None] | None:
        """What is to be called between the layers of a step's last backward pass; None if that is of no use.

        Its argument says where in the flat vector this rank's final gradients begin.  *Collective*: same calls on all
        ranks.
        """
        ...

    def prepare(self, model: Model, batch: BatchShape) -> None:
        """Give the model its memory: parameters, activations, and where its gradients go.  *Collective*."""
        ...

    def part(self, batch: Batch) -> Batch:
        """Return the slice of a global batch that this rank computes; those of all ranks make up the batch."""
        ...

    def most_rows(self, samples: int) -> int:
        """Return the most rows that this rank gets of a batch of up to `samples`."""
        ...

    def weight(self, samples: int) -> float:
        """Return the weight of each row of this rank in its gradient, for a batch of `samples`."""
        ...

    def step(self, learning_rate: float, number: int, samples: int, tally: Tally, *, settle: bool) -> None:
        """Make one update with what the model has left.  *Collective*: same arguments but for the tally on all ranks.

        Parameters
        ----------
        learning_rate
            Step size of this update.
        number
            Number of this update, counted from 1.
        samples
            Of the global batch.
        tally
            This rank's numbers; on return the sums over all ranks since those that were returned before.  Where ranks
            do not wait for each other in every step, rank 0 alone gets them, or nobody until they meet; its `samples`
            are 0 meanwhile.  All ranks learn of numbers that are not finite, and of a wish to stop, at the same step.
        settle
            Leave nothing under way: afterwards `parameters` are the same on all ranks.  So it is also after a step that
            returns a wish to stop.
        """
        ...

    def collect(self) -> None:
        """Make `state` whole on rank 0, after a step that left nothing under way.  *Collective*."""
        ...

    def begin_epoch(self, epoch: int, learning_rate: float, loss: float | None) -> None:
        """Get ready for an epoch; not called again for one that a resumed run is within.  *Collective*: same arguments.

        Parameters
        ----------
        epoch
            Counted from 0.
        learning_rate
            That of its first step.
        loss
            Mean training loss of the epoch before; None if there is none.
        """
        ...

    def computed(self, rows: int, seconds: float) -> None:
        """Learn that this rank has computed its `rows` of a batch in `seconds`, waiting not included.

        *Collective*: called by all ranks, between what they computed and `step`.
        """
        ...

    def report(self) -> dict[str, Any]:
        """Return what to keep in the record of the epoch that has ended (rank 0; JSON-able), and begin anew."""
        ...

    def epoch_ended(self, record: dict[str, Any]) -> bool:
        """Take in the epoch's record, and add to it what was decided; *collective*: the same record on all ranks.

        Returns
        -------
        bool
            Whether parameters, state and rows of a rank are others from now on: `prepare` is then called again.
        """
        ...

    def state(self) -> dict[str, np.ndarray]:
        """Return the flat vectors of the optimiser's state, whole, by name (views; rank 0 reads them between steps).

        A name that begins with `OWN` is of the strategy's own state: a run that is resumed with another strategy does
        without.
        """
        ...

    def notes(self) -> dict[str, Any]:
        """Return what else a checkpoint must keep (rank 0, between steps; JSON-able, exact through JSON)."""
        ...

    def restore(self, notes: dict[str, Any]) -> None:
        """Go on from `notes` of a strategy of this name, whose options may have been others."""
        ...

    def synchronize(self) -> None:
        """Make what rank 0 wrote to `parameters` and `state` everyone's.  *Collective*."""
        ...

    def close(self) -> None:
        """Give back what MPI holds for it; it makes no step after that."""
        ...


class Defaults:
    """What a strategy answers that has nothing to say."""

    def begin_epoch(self, epoch: int, learning_rate: float, loss: float | None) -> None:
        """Do nothing: all epochs are alike."""

    def computed(self, rows: int, seconds: float) -> None:
        """Do nothing: slices stay."""

    def report(self) -> dict[str, Any]:
        """Return nothing: the ranks' clocks tell all there is."""
        return {}

    def epoch_ended(self, record: dict[str, Any]) -> bool:
        """Go on as before."""
        return False

    def collect(self) -> None:
        """Do nothing: the state is where it belongs."""

    def notes(self) -> dict[str, Any]:
        """Return nothing: `state` is all there is."""
        return {}

    def restore(self, notes: dict[str, Any]) -> None:
        """Do nothing."""

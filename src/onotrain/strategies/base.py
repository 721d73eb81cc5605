"""The seam between the training loop and the strategies: what a strategy has, and what one step of it does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np

from onotrain.nn import Model
from onotrain.strategies.balance import LocalSlices
from onotrain.strategies.memory import Job, Memory
from onotrain.strategies.recorded_step import RecordedStep
from onotrain.strategies.replica import Replica, WholeReplica
from onotrain.strategies.statistics import StepStatistics
from onotrain.strategies.sums.world_sum import WorldSum
from onotrain.strategies.telemetry import Telemetry
from onotrain.strategies.timing import Timing


class BatchShape(NamedTuple):
    """The most that a run's batches ask for."""

    #: Of a global batch.
    samples: int
    #: Of a micro-batch of this rank.
    rows: int
    micro_batches: int


class Strategy(ABC):
    """How ranks turn gradients into new parameters.

    A strategy has three objects, which its constructor makes, and makes steps.  A new one is a class with `step` (see
    `onotrain.strategies.flat_allreduce`), its options, and a line in the registry or an entry point.
    """

    #: Which rows of a batch this rank computes.
    batches: LocalSlices
    #: Parameters and state on this rank.
    replica: Replica
    #: Seconds and bytes, and what else goes into the record of an epoch.
    telemetry: Telemetry
    #: Whether the others go on when a rank dies: see `onotrain.strategies.replica.Replica.commit`.
    outlives_ranks: ClassVar[bool] = False
    #: How long its epochs would take on a cluster; None: it cannot say.
    timing: ClassVar[type[Timing] | None] = None
    #: Called after each layer of a step's last backward pass with the offset in the flat vector from which this rank's
    #: gradients are final, to be sent meanwhile.  *Collective*: same calls on all ranks.  None: no overlap.
    gradient_ready: Callable[[int], None] | None = None

    #: Sums a small array over the ranks that compute a batch together, in place.  *Collective* over them.  None: what
    #: layers sum over a batch, they sum over this rank's slice.
    all_reduce: Callable[[np.ndarray], None] | None = None

    def bind(self, model: Model, batch: BatchShape) -> None:
        """Give the model its memory: parameters, activations, and where its gradients go.  *Collective*."""
        model.reserve(batch.rows, self.all_reduce)
        model.bind(self.replica.parameters, self.replica.gradient)

    @classmethod
    def memory(cls, job: Job) -> Memory:
        """Return what this rank uses; as here, everything is its own, as `WholeReplica` has it.

        Nothing is allocated, and nothing is sent: there need not be such a job.
        """
        residual = job.vector if WorldSum.vectors(job.context) else 0
        return Memory({}, {**WholeReplica.memory(job), "activations": job.activations()}, residual)

    @abstractmethod
    def step(
        self, learning_rate: float, number: int, samples: int, statistics: StepStatistics, *, synchronize: bool
    ) -> None:
        """Make one update with the gradient that the model has left.  *Collective*: same arguments but `statistics`.

        Parameters
        ----------
        learning_rate
            Step size of this update.
        number
            Number of this update, counted from 1.
        samples
            Of the global batch.
        statistics
            This rank's; on return the sums over all ranks since those that were returned before.  Where ranks do not
            wait for each other in every step, rank 0 alone gets them, or nobody before the next synchronisation point;
            their `samples` are 0 meanwhile.  All ranks learn of numbers that are not finite, and of a request to stop,
            at the same step.
        synchronize
            Make this step a synchronisation point: afterwards nothing is under way, and the parameters are the same on
            all ranks.  A step that returns a request to stop is one, too.
        """

    def record(self, samples: int, rows: int, steps: int, statistics: StepStatistics) -> RecordedStep | None:
        """Return how steps end that are made several at a time; None, as here, if `step` is to make them one by one.

        *Collective*: same samples and steps.

        Parameters
        ----------
        samples
            Of each global batch.
        rows
            This rank's.
        steps
            How many a program makes at most.
        statistics
            Where this rank's losses of a step are, and its request to stop; cleared for the next step.
        """
        return None

    def begin_epoch(self, epoch: int, learning_rate: float, loss: float | None) -> None:  # noqa: B027 - optional
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

    def end_epoch(self, record: dict[str, Any]) -> bool:
        """Take in the epoch's record, and add to it what was decided.  *Collective*: the same record on all ranks.

        Returns
        -------
        bool
            Whether replica and slices are others from now on: `bind` is then called again.
        """
        return False

    def close(self) -> None:  # noqa: B027 - optional
        """Free what MPI holds for it; it makes no step after that."""

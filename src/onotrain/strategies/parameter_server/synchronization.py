"""Where all ranks come to rest, and get all parameters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onotrain.parallel.collectives import broadcast_vector
from onotrain.strategies.balance import BALANCED_STEPS, LocalSlices
from onotrain.strategies.statistics import StepStatistics
from onotrain.strategies.telemetry import Clock


class SynchronizationPoints:
    """Those that the trainer asks for, and more where slices are to follow throughput soon.

    Parameters
    ----------
    batches
        Slices, which change at synchronisation points alone.
    parameters
        Flat vector on each rank.
    ranges
        Which of it the servers have.
    clock
        Counts the seconds.
    """

    def __init__(self, batches: LocalSlices, parameters: np.ndarray, ranges: Sequence[slice], clock: Clock) -> None:
        self._batches, self._parameters, self._ranges, self._clock = batches, parameters, ranges, clock
        self._exchange_after = BALANCED_STEPS

    def due(self) -> bool:
        """Return whether ranks are to exchange throughput after this step; asked in each step.

        At distances that double, for who is ahead waits there.
        """
        due = self._batches.steps == self._exchange_after
        if due:
            self._exchange_after *= 2
        return due

    def synchronize(self, statistics: StepStatistics) -> None:
        """Give everybody rank 0's statistics and all parameters, and repartition the batches.  *Collective*."""
        comm, clock = self._batches.world.comm, self._clock
        start = clock.now()
        comm.Bcast(statistics.values, root=0)  # it comes when all have pushed
        arrived = clock.waited("synchronisation point", start)
        self._batches.exchange()
        for server, part in enumerate(self._ranges):
            broadcast_vector(comm, self._parameters[part], server)
        clock.communicated("parameters of all servers", arrived)

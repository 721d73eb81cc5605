"""Sums of a few numbers over ranks, within a step."""

from __future__ import annotations

import numpy as np

from onotrain.parallel.collectives import all_reduce
from onotrain.parallel.world import Comm
from onotrain.strategies.telemetry import Clock


class SmallSum:
    """One MPI_Allreduce, whose seconds are counted.

    Parameters
    ----------
    comm
        Of the ranks that sum.
    clock
        Counts the seconds.
    """

    def __init__(self, comm: Comm, clock: Clock) -> None:
        self._comm, self._clock = comm, clock

    def __call__(self, values: np.ndarray) -> None:
        """Sum a small array over the ranks, in place.  *Collective* over them."""
        start = self._clock.now()
        all_reduce(self._comm, values)
        self._clock.communicated("small sum over ranks", start)

"""What strategies have in common whose ranks each compute a slice of every batch."""

from __future__ import annotations

from typing import Any

from onotrain.data.batches import Batch
from onotrain.strategies.balance import Slices
from onotrain.strategies.base import Defaults, Job
from onotrain.strategies.tally import Clock, Traffic


class Sliced(Defaults):
    """Slices are nearly equal, or follow the ranks' throughput.

    Parameters
    ----------
    job
        *Collective*: the same on all ranks.
    idle
        How many ranks, the first ones, compute nothing.
    """

    def __init__(self, job: Job, idle: int = 0) -> None:
        self.world = job.world
        self.clock, self.traffic = Clock(), Traffic()
        self._slices = Slices(job.world, job.balance, idle)

    def part(self, batch: Batch) -> Batch:
        """Return this rank's slice."""
        return self._slices.of(batch)

    def most_rows(self, samples: int) -> int:
        """Return the length of the largest slice that there can be."""
        return self._slices.most(samples)

    def report(self) -> dict[str, Any]:
        """Return how many rows of a batch each rank gets by now, if that follows their throughput."""
        return self._slices.report()

    def notes(self) -> dict[str, Any]:
        """Return the ranks' throughput and the cut in force."""
        return self._slices.notes()

    def restore(self, notes: dict[str, Any]) -> None:
        """Go on with that cut."""
        self._slices.restore(notes)

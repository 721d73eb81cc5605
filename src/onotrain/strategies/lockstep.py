"""What strategies have in common whose ranks make every step together."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from onotrain.data.feed import Batch
from onotrain.strategies.balance import BALANCED_STEPS, Slices
from onotrain.strategies.base import Defaults, Job
from onotrain.strategies.tally import Clock, Traffic


class Lockstep(Defaults):
    """What strategies have in common whose ranks make every step together.

    Parameters
    ----------
    job
        Its ranks each compute a slice of every batch.
    """

    settled = True
    lockstep = True

    def __init__(self, job: Job) -> None:
        self.world = job.world
        self.clock, self.traffic = Clock(), Traffic()
        self._slices = Slices(job.world, job.balance)

    def part(self, batch: Batch) -> Batch:
        """Return one of nearly equal slices, or of slices in proportion to the ranks' throughput."""
        return self._slices.of(batch)

    def most_rows(self, samples: int) -> int:
        """Return the length of the largest slice that there can be."""
        return self._slices.most(samples)

    def weight(self, samples: int) -> float:
        """Return what makes the sum of all ranks' gradients that of the mean loss."""
        return 1.0 / samples

    def computed(self, rows: int, seconds: float) -> None:
        """Now and then, tell the other ranks, and cut the batches to come anew if that pays.  *Collective*."""
        self._slices.computed(rows, seconds)
        if self._slices.steps == BALANCED_STEPS:
            start = perf_counter()
            self._slices.tell()
            self.clock.communication += perf_counter() - start

    def report(self) -> dict[str, Any]:
        """Return how many rows of a batch each rank gets by now, if that follows their throughput."""
        return self._slices.report()

    def notes(self) -> dict[str, Any]:
        """Return the ranks' throughput and the cut in force."""
        return self._slices.notes()

    def restore(self, notes: dict[str, Any]) -> None:
        """Go on with that cut."""
        self._slices.restore(notes)

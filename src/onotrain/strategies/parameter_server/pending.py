"""Statistics of batches that not all workers have pushed yet."""

from __future__ import annotations

import numpy as np

from onotrain.strategies.statistics import StepStatistics


class PendingBatches:
    """Sums the statistics of each batch over the workers in their order, whatever comes first.

    Parameters
    ----------
    workers
        Their number.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        #: Batch -> statistics of each worker, of which those are zero that have not come.
        self._rows: dict[int, list[np.ndarray]] = {}
        self._nothing = StepStatistics().values
        #: Batch -> sum of squares of the gradients of the updates that its pushes led to.
        self._squares: dict[int, float] = {}

    def add(self, batch: int, worker: int, statistics: StepStatistics) -> None:
        """Take in what a worker has computed of a batch."""
        rows = self._rows.setdefault(batch, [self._nothing] * self._workers)
        rows[worker] = statistics.values.copy()

    def add_squares(self, batch: int, squares: float) -> None:
        """Take in an update that a push of this batch has led to."""
        self._squares[batch] = self._squares.get(batch, 0.0) + squares

    def take(self, batch: int, total: StepStatistics) -> None:
        """Write the sums over all workers, but for requests to stop, to `total`, and forget the batch.

        Squares of gradients are those that workers have pushed, and those of the updates.
        """
        total.clear()
        values = total.values
        for row in self._rows.pop(batch, ()):
            values += row
        total.stop = False  # all ranks are to learn of one at the same step: see `drain`
        total.gradient_squares += self._squares.pop(batch, 0.0)

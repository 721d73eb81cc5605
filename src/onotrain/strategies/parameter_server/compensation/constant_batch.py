"""One update per global batch, whoever computed it."""

from __future__ import annotations

import numpy as np

from onotrain.strategies.blocks import BLOCK, blocks
from onotrain.strategies.parameter_server.compensation.base import Place, Plain, Step, quiet


class ConstantBatch(Plain):
    """GBA (Su et al., arXiv 2205.11048): one update per global batch, whoever computed it.

    Pushes are summed until they make `batch_size` samples, and then applied as one gradient, so that the hyper-
    parameters of synchronous training hold.  One that is staler than `limit` gets weight 0: its samples count, for an
    epoch is to have as many updates as in synchronous training, and the divisor is all samples, for every other
    gradient is to weigh what it weighs there.  Where all were too stale there is nothing to apply, and no update.

    The paper's staleness is that of the token which a batch was given when it was handed out, which is the number of
    the update that the batch was meant for; here it is that of the parameters, which is measured anyway.

    Parameters
    ----------
    place
        The server.
    limit
        Largest staleness of a gradient that is used [updates] (``iota``).
    """

    def __init__(self, place: Place, limit: int) -> None:
        self._batch_size, self._limit = place.batch_size, limit
        self._sum = np.zeros(place.size, place.dtype)
        self._scratch = np.empty(min(place.size, BLOCK), place.dtype)
        self._samples = self._used = 0
        #: Samples of the run whose gradients were too stale to be used.
        self.dropped_samples = 0

    @quiet
    def push(
        self, worker: int, gradient: np.ndarray, parameters: np.ndarray, staleness: int, samples: int
    ) -> Step | None:
        """Add it up, and apply the sum when it is complete."""
        if self._samples == 0:
            self._sum[:] = 0.0  # not earlier: the last update may have used it until now
        self._samples += samples
        if staleness <= self._limit:
            self._used += samples
            for g, total in blocks(gradient, self._sum):
                total += np.multiply(g, samples, out=self._scratch[: len(g)])
        else:
            self.dropped_samples += samples
        return self.flush() if self._samples >= self._batch_size else None

    def flush(self) -> Step | None:
        """Apply the sum as it is, over as many samples as there are."""
        samples, used = self._samples, self._used
        self._samples = self._used = 0
        if used == 0:
            return None
        self._sum /= samples
        return Step(self._sum)

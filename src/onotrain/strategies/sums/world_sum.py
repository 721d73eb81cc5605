"""The sum of a whole vector over all ranks of a job, as strategies make it that share no memory."""

from __future__ import annotations

import numpy as np

from onotrain.parallel.collectives import all_reduce
from onotrain.parallel.exchange import bytes_of_sum
from onotrain.strategies.context import Context
from onotrain.strategies.sums.coded_sum import GatheredSum, RoundsSum, coded_sum
from onotrain.strategies.telemetry import Traffic


class WorldSum:
    """One MPI_Allreduce, in place; with a codec, messages of it instead.

    Parameters
    ----------
    context
        *Collective*: the same on all ranks.
    vector
        Laid out as the parameters.
    traffic
        Gets the bytes.
    """

    def __init__(self, context: Context, vector: np.ndarray, traffic: Traffic) -> None:
        self._comm, self._vector, self._traffic = context.world.comm, vector, traffic
        #: What this rank sends for a vector as it is, and for the one that it sums.
        self.raw_bytes = self.sent_bytes = bytes_of_sum(vector, self._comm) if context.world.size > 1 else 0
        #: What messages of a codec leave to be sent; None without a codec.
        self.residual: np.ndarray | None = None
        self._coded: GatheredSum | RoundsSum | None = None
        if self.vectors(context):
            self.residual = context.layout.zeros()
            everything = slice(0, context.layout.size)
            self._coded = coded_sum(context, self._comm, everything, vector, self.residual, 0)
            self.sent_bytes = self._coded.sent_bytes

    @staticmethod
    def vectors(context: Context) -> int:
        """Return how many vectors of the parameters' length its codec takes."""
        return 4 if context.codec is not None and context.world.size > 1 else 0

    def __call__(self) -> None:
        """Sum the vector.  *Collective*."""
        if self._coded is None:
            self.plain(self._vector)
        else:
            self._coded.start()
            self._coded.finish()
            self._traffic.add(self.raw_bytes, self.sent_bytes)

    def plain(self, vector: np.ndarray) -> None:
        """Sum another vector of this length, as it is.  *Collective*."""
        all_reduce(self._comm, vector)
        self._traffic.add(self.raw_bytes, self.raw_bytes)

    def share_residuals(self) -> None:
        """Sum what messages have left to send, for a checkpoint.  *Collective*."""
        if self._coded is not None:
            self._coded.residuals.share()

    def take_residuals(self) -> None:
        """Go on with what `residual` has."""
        if self._coded is not None:
            self._coded.residuals.take()

    def close(self) -> None:
        """Free what MPI holds for messages of a codec."""
        if self._coded is not None:
            self._coded.close()

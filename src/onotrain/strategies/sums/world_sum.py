"""The sum of a whole vector over all ranks of a job, as strategies make it that share no memory."""

from __future__ import annotations

import numpy as np

from onotrain.parallel.collectives import all_reduce
from onotrain.parallel.exchange import bytes_of_sum
from onotrain.runs.metadata import OWN
from onotrain.strategies.base import Job
from onotrain.strategies.sums.coded_sum import coded_sum
from onotrain.strategies.tally import Traffic


class WorldSum:
    """One MPI_Allreduce, in place; with a codec, messages of it instead.

    Parameters
    ----------
    job
        *Collective*: the same on all ranks.
    vector
        Laid out as the parameters.
    traffic
        Gets the bytes.
    what
        What the vector is, which names what messages leave to be sent.
    """

    def __init__(self, job: Job, vector: np.ndarray, traffic: Traffic, what: str) -> None:
        self._comm, self._vector, self._traffic = job.world.comm, vector, traffic
        self._raw_bytes = bytes_of_sum(vector, self._comm) if job.world.size > 1 else 0
        #: Vectors that a checkpoint keeps, by name: what messages leave to be sent.
        self.state: dict[str, np.ndarray] = {}
        self._coded = None
        if self.vectors(job):
            residual = self.state[f"{OWN}{what}_residual"] = job.layout.zeros()
            self._coded = coded_sum(job, self._comm, slice(0, job.layout.size), vector, residual, 0)

    @staticmethod
    def vectors(job: Job) -> int:
        """Return how many vectors of the parameters' length its codec takes."""
        return 4 if job.codec is not None and job.world.size > 1 else 0

    def __call__(self) -> None:
        """Sum the vector.  *Collective*."""
        if self._coded is None:
            self.plain(self._vector)
        else:
            self._coded.start()
            self._coded.finish()
            self._traffic.add(self._coded.raw_bytes, self._coded.sent_bytes)

    def plain(self, vector: np.ndarray) -> None:
        """Sum another vector of this length, as it is.  *Collective*."""
        all_reduce(self._comm, vector)
        self._traffic.add(self._raw_bytes, self._raw_bytes)

    def collect(self) -> None:
        """Sum what messages have left to send.  *Collective*."""
        if self._coded is not None:
            self._coded.residuals.share()

    def take(self) -> None:
        """Go on with what `state` has."""
        if self._coded is not None:
            self._coded.residuals.take()

    def close(self) -> None:
        """Give back what MPI holds for messages of a codec."""
        if self._coded is not None:
            self._coded.close()

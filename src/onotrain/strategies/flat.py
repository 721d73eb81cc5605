"""The plain baseline: one in-place MPI_Allreduce over all ranks, parameters and optimiser state on each.

With a codec, the sum is made of its messages instead (`onotrain.strategies.coded_sum`).

Kept as the yardstick that `onotrain.strategies.allreduce` is measured against, and for networks of machines where ranks
cannot share memory.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import numpy as np

from onotrain.data.paths import check_memory
from onotrain.nn import Model
from onotrain.optim import Shard
from onotrain.parallel.collectives import all_reduce, broadcast_vector
from onotrain.parallel.exchange import bytes_of_sum
from onotrain.strategies.base import OWN, BatchShape, Job
from onotrain.strategies.coded_sum import coded_sum
from onotrain.strategies.lockstep import Lockstep
from onotrain.strategies.tally import Tally


class Flat(Lockstep):
    """Each rank holds everything and makes the same update.

    Parameters
    ----------
    job
        Communicators, layout, optimiser and options.  *Collective*: the same job on all ranks.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        layout = job.layout
        self._comm, self._optimizer = job.world.comm, job.optimizer
        self._travel = job.travel
        self.finished: Callable[[int], None] | None = None
        coded = job.codec is not None and job.world.size > 1
        nbytes = (
            (2 + 4 * coded + len(job.optimizer.state_names)) * layout.size * layout.dtype.itemsize * job.world.node.size
        )
        check_memory(
            nbytes,
            f"parameters on each of {job.world.node.size} ranks",
            hint="use strategy: allreduce, which shares them",
        )
        self.parameters = layout.zeros()
        self.gradient = layout.zeros()
        self._rows = self.gradient[np.newaxis]
        self._state = {name: layout.zeros() for name in job.optimizer.state_names}
        everything = slice(0, layout.size)
        self._shard = Shard.of([tensor.range for tensor in layout], everything, self.parameters, self._state)
        self._raw_bytes = bytes_of_sum(self.gradient, self._comm) if job.world.size > 1 else 0
        self._coded, self._own_state = None, {}
        if coded:
            residual = layout.zeros()
            self._coded = coded_sum(job, self._comm, everything, self.gradient, residual, 0)
            self._own_state = {f"{OWN}gradient_residual": residual}
            self.settled = False

    def prepare(self, model: Model, batch: BatchShape) -> None:
        """Give the model memory of its own, and this rank's gradient."""
        model.reserve(batch.rows)
        model.bind(self.parameters, self.gradient)

    def state(self) -> dict[str, np.ndarray]:
        """Return this rank's optimiser state, which is everyone's, and what its messages have left to send."""
        return self._state | self._own_state

    def synchronize(self) -> None:
        """Copy rank 0's parameters and state to all ranks.  *Collective*."""
        for vector in (self.parameters, *self.state().values()):
            broadcast_vector(self._comm, vector)
        if self._coded is not None:
            self._coded.residuals.take()

    def step(self, learning_rate: float, number: int, samples: int, tally: Tally, *, settle: bool) -> None:
        """``w <- rule(w, all_reduce(g))``.  *Collective*."""
        start = perf_counter()
        self._travel(start)
        self._sum_gradients()
        all_reduce(self._comm, tally.values)
        self.clock.communication += perf_counter() - start
        tally.gradient_squares = self._optimizer.update(self._shard, self._rows, learning_rate, number, _nothing_to_sum)

    def collect(self) -> None:
        """Sum what messages have left to send.  *Collective*."""
        if self._coded is not None:
            self._coded.residuals.share()

    def _sum_gradients(self) -> None:
        """Sum the gradient over the ranks.  *Collective*."""
        if self._coded is None:
            all_reduce(self._comm, self.gradient)
            self.traffic.add(self._raw_bytes, self._raw_bytes)
        else:
            self._coded.start()
            self._coded.finish()
            self.traffic.add(self._coded.raw_bytes, self._coded.sent_bytes)

    def close(self) -> None:
        """Give back what MPI holds for messages of a codec."""
        if self._coded is not None:
            self._coded.close()


def _nothing_to_sum(values: np.ndarray) -> None:
    """Do nothing: the one shard is the whole vector."""

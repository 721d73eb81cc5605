"""The plain baseline: one in-place MPI_Allreduce over all ranks, parameters and optimiser state on each.

With a codec, the sum is made of its messages instead (`onotrain.strategies.sums.coded_sum`).

Kept as the yardstick that `onotrain.strategies.allreduce.gradients` is measured against, and for networks of machines
where ranks cannot share memory.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import numpy as np

from onotrain.memory import check_memory
from onotrain.nn import Model
from onotrain.optim import Shard
from onotrain.parallel.collectives import all_reduce, broadcast_vector
from onotrain.strategies.base import BatchShape, Job
from onotrain.strategies.lockstep import Lockstep
from onotrain.strategies.sums.world_sum import WorldSum
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
        self._injection = job.injection
        self.finished: Callable[[int], None] | None = None
        vectors = 2 + WorldSum.vectors(job) + len(job.optimizer.state_names)
        check_memory(
            vectors * layout.size * layout.dtype.itemsize * job.world.node.size,
            f"parameters on each of {job.world.node.size} ranks",
            hint="use strategy: allreduce, which shares them",
        )
        self.parameters = layout.zeros()
        self.gradient = layout.zeros()
        self._rows = self.gradient[np.newaxis]
        self._state = {name: layout.zeros() for name in job.optimizer.state_names}
        everything = slice(0, layout.size)
        self._shard = Shard.of([tensor.range for tensor in layout], everything, self.parameters, self._state)
        self._sum = WorldSum(job, self.gradient, self.traffic, "gradient")
        self.settled = not self._sum.state

    def prepare(self, model: Model, batch: BatchShape) -> None:
        """Give the model memory of its own, and this rank's gradient."""
        model.reserve(batch.rows)
        model.bind(self.parameters, self.gradient)

    def state(self) -> dict[str, np.ndarray]:
        """Return this rank's optimiser state, which is everyone's, and what its messages have left to send."""
        return self._state | self._sum.state

    def synchronize(self) -> None:
        """Copy rank 0's parameters and state to all ranks.  *Collective*."""
        for vector in (self.parameters, *self.state().values()):
            broadcast_vector(self._comm, vector)
        self._sum.take()

    def step(self, learning_rate: float, number: int, samples: int, tally: Tally, *, settle: bool) -> None:
        """``w <- rule(w, all_reduce(g))``.  *Collective*."""
        start = perf_counter()
        self._injection.inject_latency(start)
        self._sum()
        all_reduce(self._comm, tally.values)
        self.clock.communication += perf_counter() - start
        tally.gradient_squares = self._optimizer.update(self._shard, self._rows, learning_rate, number, _nothing_to_sum)

    def collect(self) -> None:
        """Sum what messages have left to send.  *Collective*."""
        self._sum.collect()

    def close(self) -> None:
        """Give back what MPI holds for messages of a codec."""
        self._sum.close()


def _nothing_to_sum(values: np.ndarray) -> None:
    """Do nothing: the one shard is the whole vector."""

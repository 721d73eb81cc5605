"""Synchronous data parallelism on a shared-memory arena per node: ranks share gradients.

One step, with ``R`` ranks on the node and the flat vector cut into as many shards::

    every rank      gradients[rank] = its part of the gradient
    barrier
    owner of shard  g = sum of gradients[0..R-1][shard], in this order
                    update parameters[shard] and state[shard] in place
    barrier

There is no all-gather within a node, parameters and state exist once per node, and each bit of them is computed once,
so that replicas cannot drift.  With several nodes, `onotrain.strategies.allreduce.nodes` leaves in ``gradients[0]``
what is to be summed.  On one node ranks can share activations instead, which is faster: see `activations`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onotrain.nn import Model
from onotrain.optim import Shard
from onotrain.strategies.allreduce.arena import Arena
from onotrain.strategies.allreduce.nodes import NodesSum
from onotrain.strategies.base import BatchShape, Job
from onotrain.strategies.lockstep import Lockstep
from onotrain.strategies.tally import Tally


class AllReduce(Lockstep):
    """The node arena with a gradient for each rank: see the module's text.

    Parameters
    ----------
    job
        Communicators, layout, optimiser and options.  *Collective*: the same job on all ranks.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        world, layout = job.world, job.layout
        self._optimizer = job.optimizer
        coded = job.codec is not None and world.nodes > 1
        vectors: dict[str, Any] = {"gradients": ((world.node.size, layout.size), layout.dtype)}
        if coded:
            vectors["residual"] = ((layout.size,), layout.dtype)
        self._arena = Arena(job, self.clock, vectors)
        gradients = self._arena.arrays["gradients"]
        self.parameters = self._arena.parameters
        self.gradient = gradients[world.node.rank]
        self._shared = world.node.size > 1

        owns = world.node.rank < world.shards
        part = layout.shard(world.node.rank, world.shards) if owns else slice(0, 0)
        tensors = [tensor.range for tensor in layout]
        self._shard = Shard.of(tensors, part, self.parameters, self._arena.state, shared=self._shared)
        self._gradients = gradients[:, part]
        self.settled = not coded
        self._nodes: NodesSum | None = None
        self.finished: Callable[[int], None] | None = None
        if world.nodes > 1:
            residual = self._arena.arrays.get("residual")
            self._nodes = NodesSum(
                job, gradients, self._arena.job_tallies, self._arena.barrier, self.clock, self.traffic, residual
            )
            self._gradients = self._gradients[:1]
            self.finished = self._nodes.finished if job.options.bucket_mib > 0 else None

    def prepare(self, model: Model, batch: BatchShape) -> None:
        """Give the model memory of its own, and this rank's gradient."""
        model.reserve(batch.rows)
        # The pieces of an accumulated gradient are added up where they are, in the caches.
        model.bind(self.parameters, self.gradient, shared=self._shared and batch.pieces == 1)

    def state(self) -> dict[str, np.ndarray]:
        """Return the node's optimiser state, and what messages of a codec have left to send."""
        return self._arena.state

    def synchronize(self) -> None:
        """Copy rank 0's parameters and state to the other nodes.  *Collective*."""
        self._arena.synchronize()
        if self._nodes is not None:
            self._nodes.take_residuals()

    def close(self) -> None:
        """Give back what MPI holds for the exchange between nodes."""
        if self._nodes is not None:
            self._nodes.close()

    def step(self, learning_rate: float, number: int, samples: int, tally: Tally, *, settle: bool) -> None:
        """Sum, exchange, update and publish.  *Collective*."""
        self._arena.begin(number, tally)
        if self._nodes is not None:
            self._nodes.finish(number % 2)
        squares = self._optimizer.update(self._shard, self._gradients, learning_rate, number, self._arena.total)
        self._arena.end(number, squares, tally)

    def collect(self) -> None:
        """Sum what messages of a codec have left to send.  *Collective*."""
        if self._nodes is not None:
            self._nodes.share_residuals()

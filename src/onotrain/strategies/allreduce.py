"""Synchronous data parallelism on a shared-memory arena per node.

One step, with ``R`` ranks on the node and the flat vector cut into as many shards::

    every rank      gradients[rank] = its part of the gradient
    barrier
    owner of shard  g = sum of gradients[0..R-1][shard], in this order
                    update parameters[shard] and state[shard] in place
    barrier

There is no all-gather within a node, parameters and state exist once per node, and each bit of them is computed once,
so that replicas cannot drift.  With several nodes, `onotrain.strategies.nodes` leaves in ``gradients[0]`` what is to be
summed.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import NamedTuple

import numpy as np

from onotrain.optim import Shard
from onotrain.parallel.barrier import STATE, make_barrier
from onotrain.parallel.collectives import broadcast_vector
from onotrain.parallel.shared_memory import allocate
from onotrain.strategies.base import Clock, Job, Tally
from onotrain.strategies.nodes import NodesSum


class _Slot(NamedTuple):
    """Where a step's small numbers lie in the arena."""

    #: Of every rank of the node, and this rank's.
    tallies: np.ndarray
    mine: np.ndarray
    #: Sums of squares of the shards' gradients.
    squares: np.ndarray
    job_tally: np.ndarray


class AllReduce:
    """The node arena: see the module's text.

    Parameters
    ----------
    job
        Communicators, layout, optimiser and options.  *Collective*: the same job on all ranks.
    """

    def __init__(self, job: Job) -> None:
        world, layout = job.world, job.layout
        self._world, self._node, self._optimizer = world, world.node, job.optimizer
        self.clock = Clock()
        # First, for all ranks of the job meet here: later, one node may have failed to allocate and be gone.
        self._peers = world.peers
        vector = ((layout.size,), layout.dtype)
        arena = allocate(
            world.node,
            {
                "parameters": vector,
                **{f"state/{name}": vector for name in job.optimizer.state_names},
                "gradients": ((world.node.size, layout.size), layout.dtype),
                # Two of each, used in turn: a rank may be one barrier ahead of another that still reads.
                "tallies": ((2, world.node.size, Tally().values.size), np.float64),
                "totals": ((2, world.node.size, 2 * max(1, len(layout.tensors))), np.float64),
                "job_tally": ((2, Tally().values.size), np.float64),
                "barrier": STATE,
            },
        )
        self.parameters = arena["parameters"]
        self.gradient = arena["gradients"][world.node.rank]
        self.shared = world.node.size > 1
        self._state = {name: arena[f"state/{name}"] for name in job.optimizer.state_names}
        self._tallies, self._totals, self._job_tally = arena["tallies"], arena["totals"], arena["job_tally"]
        self._slots = [
            _Slot(tallies, tallies[world.node.rank], tallies[: world.shards, 3], job_tally)
            for tallies, job_tally in zip(self._tallies, self._job_tally, strict=True)
        ]
        self._meet = make_barrier(world.node, arena["barrier"])
        self._sums = 0

        owns = world.node.rank < world.shards
        part = layout.shard(world.node.rank, world.shards) if owns else slice(0, 0)
        tensors = [tensor.range for tensor in layout]
        self._shard = Shard.of(tensors, part, self.parameters, self._state, shared=self.shared)
        self._gradients = arena["gradients"][:, part]
        self._nodes: NodesSum | None = None
        self.finished: Callable[[int], None] | None = None
        if world.nodes > 1:
            self._nodes = NodesSum(job, arena["gradients"], self._job_tally, self._barrier, self.clock)
            self._gradients = self._gradients[:1]
            self.finished = self._nodes.finished if job.options.bucket_mib > 0 else None

    def state(self) -> dict[str, np.ndarray]:
        """Return the node's optimiser state."""
        return self._state

    def synchronize(self) -> None:
        """Copy rank 0's parameters and state to the other nodes.  *Collective*."""
        if self._node.rank == 0 and self._peers is not None:
            for vector in (self.parameters, *self._state.values()):
                broadcast_vector(self._peers, vector)
        self._node.Barrier()

    def close(self) -> None:
        """Give back what MPI holds for the exchange between nodes."""
        if self._nodes is not None:
            self._nodes.close()

    def step(self, learning_rate: float, number: int, tally: Tally) -> None:
        """Sum, exchange, update and publish.  *Collective*."""
        slot = self._slots[number % 2]
        slot.mine[:] = tally.values
        self._barrier()
        if self._node.rank == 0:
            np.add.reduce(slot.tallies, axis=0, out=slot.job_tally)
        if self._nodes is not None:
            self._nodes.finish(number % 2)
        slot.mine[3] = self._optimizer.update(self._shard, self._gradients, learning_rate, number, self._total)
        self._barrier()
        tally.values[:] = slot.job_tally
        tally.gradient_squares = float(np.add.reduce(slot.squares))

    def _barrier(self) -> None:
        start = perf_counter()
        self._meet()
        self.clock.wait += perf_counter() - start

    def _total(self, values: np.ndarray) -> None:
        """Sum a small array over the shards, all of which every node holds.  *Collective* on the node."""
        self._sums += 1
        slots = self._totals[self._sums % 2][:, : values.size]
        slots[self._node.rank] = values.reshape(-1)
        self._barrier()
        # Of the owners alone: NumPy's order of additions depends on their number, which is the same on every node.
        values[...] = slots[: self._world.shards].sum(axis=0).reshape(values.shape)

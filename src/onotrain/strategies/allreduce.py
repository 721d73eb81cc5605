"""Synchronous data parallelism on a shared-memory arena per node.

One step, with ``R`` ranks on the node and the flat vector cut into as many shards::

    every rank      gradients[rank] = its part of the gradient
    barrier
    owner of shard  g = sum of gradients[0..R-1][shard], in this order
                    exchange g with the owners of the same shard on the other nodes
                    update parameters[shard] and state[shard] in place
    barrier

There is no all-gather within a node, parameters and state exist once per node, and each bit of them is computed once,
so that replicas cannot drift.  Between nodes every core drives the network with its own shard.
"""

from __future__ import annotations

import numpy as np

from onotrain.optim import Shard
from onotrain.parallel.barrier import STATE, make_barrier
from onotrain.parallel.collectives import all_reduce, broadcast_vector
from onotrain.parallel.shared_memory import allocate
from onotrain.strategies.base import Clock, Job, Tally


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
        self._state = {name: arena[f"state/{name}"] for name in job.optimizer.state_names}
        self._tallies, self._totals, self._job_tally = arena["tallies"], arena["totals"], arena["job_tally"]
        self._meet = make_barrier(world.node, arena["barrier"])
        self._sums = 0

        owns = world.node.rank < world.shards
        part = layout.shard(world.node.rank, world.shards) if owns else slice(0, 0)
        self._shard = Shard.of([tensor.range for tensor in layout], part, self.parameters, self._state)
        self._gradients = arena["gradients"][:, part]

    def state(self) -> dict[str, np.ndarray]:
        """Return the node's optimiser state."""
        return self._state

    def synchronize(self) -> None:
        """Copy rank 0's parameters and state to the other nodes.  *Collective*."""
        if self._node.rank == 0 and self._peers is not None:
            for vector in (self.parameters, *self._state.values()):
                broadcast_vector(self._peers, vector)
        self._node.Barrier()

    def step(self, learning_rate: float, number: int, tally: Tally) -> None:
        """Sum, exchange, update and publish.  *Collective*."""
        parity = number % 2
        tallies, job_tally = self._tallies[parity], self._job_tally[parity]
        tallies[self._node.rank] = tally.values
        self._barrier()
        gradients = self._exchange(tallies, job_tally)
        squares = self._optimizer.update(self._shard, gradients, learning_rate, number, self._total)
        tallies[self._node.rank, 3] = squares
        self._barrier()
        tally.values[:] = job_tally
        tally.gradient_squares = float(tallies[: self._world.shards, 3].sum())

    def _barrier(self) -> None:
        with self.clock.measure("wait"):
            self._meet()

    def _exchange(self, tallies: np.ndarray, job_tally: np.ndarray) -> np.ndarray:
        """Return the gradient rows whose sum is this shard's gradient over all nodes; publish the job's tally."""
        if self._node.rank == 0:
            job_tally[:] = tallies.sum(axis=0)
        if self._world.nodes == 1 or self._peers is None:
            return self._gradients
        own = self._gradients[0]
        self._optimizer.sum(self._gradients, own)
        with self.clock.measure("communication"):
            all_reduce(self._peers, own)
            if self._node.rank == 0:
                all_reduce(self._peers, job_tally)
        return self._gradients[:1]

    def _total(self, values: np.ndarray) -> None:
        """Sum a small array over the shards, all of which every node holds.  *Collective* on the node."""
        self._sums += 1
        slots = self._totals[self._sums % 2][:, : values.size]
        slots[self._node.rank] = values.reshape(-1)
        self._barrier()
        # Of the owners alone: NumPy's order of additions depends on their number, which is the same on every node.
        values[...] = slots[: self._world.shards].sum(axis=0).reshape(values.shape)

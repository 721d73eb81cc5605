"""Synchronous data parallelism on a shared-memory arena per node: ranks share gradients.

One step, with ``R`` ranks on the node and the flat vector cut into as many shards::

    every rank      gradients[rank] = its summand of the gradient
    barrier
    owner of shard  g = sum of gradients[0..R-1][shard], in this order
                    update parameters[shard] and state[shard] in place
    barrier

There is no all-gather within a node, parameters and state exist once per node, and each bit of them is computed once,
so that replicas cannot drift.  With several nodes, `onotrain.strategies.allreduce.nodes` leaves in ``gradients[0]``
what is to be summed.  On one node ranks can share activations instead, which is faster: see `activations`.
"""

from __future__ import annotations

import numpy as np

from onotrain.nn import Model
from onotrain.optim import Gradient
from onotrain.strategies.allreduce.arena import Arena
from onotrain.strategies.allreduce.nodes import NodesSum
from onotrain.strategies.allreduce.replica import ArenaReplica
from onotrain.strategies.allreduce.timing import AllReduceTiming
from onotrain.strategies.balance import LocalSlices
from onotrain.strategies.base import BatchShape, Strategy
from onotrain.strategies.context import Context
from onotrain.strategies.memory import Job, Memory
from onotrain.strategies.recorded_step import RecordedStep
from onotrain.strategies.statistics import StepStatistics
from onotrain.strategies.sums.small_sum import SmallSum
from onotrain.strategies.telemetry import Telemetry


class AllReduce(Strategy):
    """The node arena with a gradient for each rank: see the module's text."""

    outlives_ranks = True
    timing = AllReduceTiming

    def __init__(self, context: Context) -> None:
        world, layout = context.world, context.layout
        self._optimizer, self._shared = context.optimizer, world.node.size > 1
        self._one_by_one = context.one_by_one
        self.telemetry = Telemetry(context.now, context.events)
        self.batches = LocalSlices(world, context.make_balance, self.telemetry.clock)
        self.telemetry.include(self.batches)
        self.all_reduce = SmallSum(world.comm, self.telemetry.clock)
        coded = context.codec is not None and world.nodes > 1
        fields: dict[str, tuple[tuple[int, ...], np.dtype]] = {
            "gradients": ((world.node.size, layout.size), layout.dtype)
        }
        if coded:
            fields["residual"] = (layout.size,), layout.dtype
        self._arena = Arena(context, self.telemetry.clock, fields)
        gradients = self._arena.arrays["gradients"]
        self._nodes: NodesSum | None = None
        if world.nodes > 1:
            self._nodes = NodesSum(context, self._arena, self.telemetry)
            self.gradient_ready = self._nodes.gradient_ready if self._nodes.overlaps else None
        self.replica = ArenaReplica(
            self._arena, gradients[world.node.rank], self._nodes, noted=[self.batches], notes=context.notes
        )
        owns = world.node.rank < world.shards
        shard = layout.shard(world.node.rank, world.shards) if owns else slice(0, 0)
        self._gradients = gradients[: 1 if self._nodes else None, shard]
        self._shard = self._arena.shard(layout.tensors, shard)

    @classmethod
    def memory(cls, job: Job) -> Memory:
        """Return parameters and state once, a gradient for each rank, and what comes from other nodes."""
        world, coded = job.world, job.context.codec is not None and job.world.nodes > 1
        vectors = 0 if world.nodes == 1 else NodesSum.vectors(coded=coded)
        shared = {
            "parameters": job.vector, "state": job.state, "gradients": world.node.size * job.vector,
            "messages": coded * job.vector, **job.kept(job.vector + job.state),
        }  # fmt: skip
        own = {"messages": vectors * job.vector // world.shards, "activations": job.activations()}
        return Memory(shared, own, coded * job.vector)

    def bind(self, model: Model, batch: BatchShape) -> None:
        """Give the model activations of its own, and this rank's gradient."""
        model.reserve(batch.rows, self.all_reduce)
        # A gradient that micro-batches add to stays where it is, in the caches.
        shared = self._shared and batch.micro_batches == 1
        model.bind(self.replica.parameters, self.replica.gradient, shared=shared)

    def record(self, samples: int, rows: int, steps: int, statistics: StepStatistics) -> RecordedStep | None:
        """Sum, update and publish, on one node, unless what each rank computes is to be observed or slowed down."""
        if self._nodes is not None or self._one_by_one:
            return None
        update = self._optimizer.record([(Gradient(self._gradients), self._shard)], steps)
        return self._arena.record(update, rows, steps, statistics)

    def step(
        self, learning_rate: float, number: int, samples: int, statistics: StepStatistics, *, synchronize: bool
    ) -> None:
        """Sum, exchange, update and publish.  *Collective*."""
        self._arena.begin(number, statistics)
        if self._nodes is not None:
            self._nodes.finish(number % 2)
        squares = self._optimizer.update(self._shard, self._gradients, learning_rate, number, self._arena.total)
        self._arena.end(number, squares, statistics)

    def close(self) -> None:
        """Free what MPI holds for the exchange between nodes."""
        if self._nodes is not None:
            self._nodes.close()

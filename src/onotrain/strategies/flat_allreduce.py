"""The plain baseline: one in-place MPI_Allreduce over all ranks, parameters and optimiser state on each.

With a codec, the sum is made of its messages instead (`onotrain.strategies.sums.coded_sum`).

Kept as the yardstick that `onotrain.strategies.allreduce.gradients` is measured against, and for networks of machines
where ranks cannot share memory.
"""

from __future__ import annotations

from onotrain.parallel.collectives import all_reduce
from onotrain.strategies.balance import LocalSlices
from onotrain.strategies.base import Strategy
from onotrain.strategies.context import Context
from onotrain.strategies.flat_timing import FlatTiming
from onotrain.strategies.replica import WholeReplica
from onotrain.strategies.statistics import StepStatistics
from onotrain.strategies.sums.small_sum import SmallSum
from onotrain.strategies.telemetry import Telemetry


class Flat(Strategy):
    """Each rank holds everything and makes the same update."""

    replica: WholeReplica
    outlives_ranks = True
    timing = FlatTiming

    def __init__(self, context: Context) -> None:
        self._comm, self._link = context.world.comm, context.injection.link(context.world.node.size)
        self.telemetry = Telemetry(context.now, context.events)
        self.batches = LocalSlices(context.world, context.make_balance, self.telemetry.clock)
        self.telemetry.include(self.batches)
        self.all_reduce = SmallSum(self._comm, self.telemetry.clock)
        self.replica = WholeReplica(
            context,
            self.telemetry.traffic,
            "gradient",
            hint="use strategy: allreduce, which shares them",
            noted=[self.batches],
        )

    def step(
        self, learning_rate: float, number: int, samples: int, statistics: StepStatistics, *, synchronize: bool
    ) -> None:
        """``w <- rule(w, all_reduce(g))``.  *Collective*."""
        clock = self.telemetry.clock
        start = clock.now()
        self._link.put(self.replica.sum.sent_bytes, start)
        self._link.inject_latency()
        self.replica.sum()
        all_reduce(self._comm, statistics.values)
        clock.communicated("sum of the gradients", start, nbytes=self.replica.sum.sent_bytes)
        statistics.gradient_squares = self.replica.update(learning_rate, number)

    def close(self) -> None:
        """Free what MPI holds for messages of a codec."""
        self.replica.sum.close()

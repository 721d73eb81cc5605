"""The memory that the ranks of a node share for a synchronous step, and how they meet in it.

A step has two barriers: after the first one all ranks read what all have written, after the second one the parameters
are new.  What is exchanged within a step has two slots used in turn, because a rank may be one barrier ahead of another
that still reads.
"""

from __future__ import annotations

from time import perf_counter
from typing import NamedTuple

import numpy as np

from onotrain.parallel.barrier import STATE, make_barrier
from onotrain.parallel.shared_memory import Fields, allocate
from onotrain.strategies.context import Context
from onotrain.strategies.statistics import StepStatistics
from onotrain.strategies.telemetry import Clock


class _Slot(NamedTuple):
    """Where a step's small numbers lie."""

    #: Of every rank of the node, and this rank's.
    statistics: np.ndarray
    mine: np.ndarray
    #: Sums of squares of the shards' gradients.
    squares: np.ndarray
    job_statistics: np.ndarray


class Arena:
    """Parameters, optimiser state, step statistics and a barrier, once on each node.

    Parameters
    ----------
    context
        Communicators, layout and optimiser.  *Collective*: the same job on all ranks.
    clock
        Gets the seconds that are waited.
    fields
        What else to share; a vector called ``residual`` is what messages of a codec leave to be sent.
    """

    def __init__(self, context: Context, clock: Clock, fields: Fields) -> None:
        world, layout = context.world, context.layout
        self.node, self._clock, self._shards = world.node, clock, world.shards
        # First, for all ranks of the job meet here: later, one node may have failed to allocate and be gone.
        self.peers = world.peers
        vector, numbers = ((layout.size,), layout.dtype), StepStatistics().values.size
        self.arrays = allocate(
            world.node,
            {
                "parameters": vector,
                **{f"state/{name}": vector for name in context.optimizer.state_names},
                "statistics": ((2, world.node.size, numbers), np.float64),
                "totals": ((2, world.node.size, 2 * max(1, len(layout.tensors))), np.float64),
                "job_statistics": ((2, numbers), np.float64),
                "barrier": STATE,
                **fields,
            },
        )
        self.parameters = self.arrays["parameters"]
        self.state = {name: self.arrays[f"state/{name}"] for name in context.optimizer.state_names}
        #: What messages of a codec leave to be sent; None without a codec.
        self.residual = self.arrays.get("residual")
        #: Sums of the statistics, in turn.
        self.job_statistics = self.arrays["job_statistics"]
        self._totals = self.arrays["totals"]
        self._slots = [
            _Slot(statistics, statistics[world.node.rank], statistics[: world.shards, 3], job_statistics)
            for statistics, job_statistics in zip(self.arrays["statistics"], self.job_statistics, strict=True)
        ]
        self._meet = make_barrier(world, self.arrays["barrier"])
        self._sums = 0

    def barrier(self) -> None:
        """Wait for all ranks of the node.  *Collective* on it."""
        start = perf_counter()
        self._meet()
        self._clock.wait += perf_counter() - start

    def begin(self, number: int, statistics: StepStatistics) -> None:
        """Let all ranks of the node read what each has computed for step `number`.  *Collective* on the node."""
        slot = self._slots[number % 2]
        slot.mine[:] = statistics.values
        self.barrier()
        if self.node.rank == 0:
            np.add.reduce(slot.statistics, axis=0, out=slot.job_statistics)

    def end(self, number: int, squares: float, statistics: StepStatistics) -> None:
        """Let all ranks read the new parameters, and give `statistics` the sums over them.  *Collective* on the node.

        `squares` is the sum of squares of the gradient of this rank's shard.
        """
        slot = self._slots[number % 2]
        slot.mine[3] = squares
        self.barrier()
        statistics.values[:] = slot.job_statistics
        statistics.gradient_squares = float(np.add.reduce(slot.squares))

    def total(self, values: np.ndarray) -> None:
        """Sum a small array over the shards, all of which every node holds.  *Collective* on the node."""
        self._sums += 1
        slots = self._totals[self._sums % 2][:, : values.size]
        slots[self.node.rank] = values.reshape(-1)
        self.barrier()
        # Of the owners alone: NumPy's order of additions depends on their number, which is the same on every node.
        values[...] = slots[: self._shards].sum(axis=0).reshape(values.shape)

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
from onotrain.parallel.collectives import broadcast_vector
from onotrain.parallel.shared_memory import Fields, allocate
from onotrain.runs.metadata import OWN
from onotrain.strategies.base import Job
from onotrain.strategies.tally import Clock, Tally


class _Slot(NamedTuple):
    """Where a step's small numbers lie."""

    #: Of every rank of the node, and this rank's.
    tallies: np.ndarray
    mine: np.ndarray
    #: Sums of squares of the shards' gradients.
    squares: np.ndarray
    job_tally: np.ndarray


class Arena:
    """Parameters, optimiser state, tallies and a barrier, once on each node.

    Parameters
    ----------
    job
        Communicators, layout and optimiser.  *Collective*: the same job on all ranks.
    clock
        Gets the seconds that are waited.
    fields
        What else to share; a vector called ``residual`` is part of the state.
    """

    def __init__(self, job: Job, clock: Clock, fields: Fields) -> None:
        world, layout = job.world, job.layout
        self._node, self._clock, self._shards = world.node, clock, world.shards
        # First, for all ranks of the job meet here: later, one node may have failed to allocate and be gone.
        self._peers = world.peers
        vector, numbers = ((layout.size,), layout.dtype), Tally().values.size
        self.arrays = allocate(
            world.node,
            {
                "parameters": vector,
                **{f"state/{name}": vector for name in job.optimizer.state_names},
                "tallies": ((2, world.node.size, numbers), np.float64),
                "totals": ((2, world.node.size, 2 * max(1, len(layout.tensors))), np.float64),
                "job_tally": ((2, numbers), np.float64),
                "barrier": STATE,
                **fields,
            },
        )
        self.parameters = self.arrays["parameters"]
        self.state = {name: self.arrays[f"state/{name}"] for name in job.optimizer.state_names}
        if "residual" in fields:
            self.state[f"{OWN}gradient_residual"] = self.arrays["residual"]
        #: Sums of the tallies, in turn.
        self.job_tallies = self.arrays["job_tally"]
        self._totals = self.arrays["totals"]
        self._slots = [
            _Slot(tallies, tallies[world.node.rank], tallies[: world.shards, 3], job_tally)
            for tallies, job_tally in zip(self.arrays["tallies"], self.job_tallies, strict=True)
        ]
        self._meet = make_barrier(world, self.arrays["barrier"])
        self._sums = 0

    def barrier(self) -> None:
        """Wait for all ranks of the node.  *Collective* on it."""
        start = perf_counter()
        self._meet()
        self._clock.wait += perf_counter() - start

    def begin(self, number: int, tally: Tally) -> None:
        """Let all ranks of the node read what each has computed for step `number`.  *Collective* on the node."""
        slot = self._slots[number % 2]
        slot.mine[:] = tally.values
        self.barrier()
        if self._node.rank == 0:
            np.add.reduce(slot.tallies, axis=0, out=slot.job_tally)

    def end(self, number: int, squares: float, tally: Tally) -> None:
        """Let all ranks read the new parameters, and give `tally` the sums over them.  *Collective* on the node.

        `squares` is the sum of squares of the gradient of this rank's shard.
        """
        slot = self._slots[number % 2]
        slot.mine[3] = squares
        self.barrier()
        tally.values[:] = slot.job_tally
        tally.gradient_squares = float(np.add.reduce(slot.squares))

    def total(self, values: np.ndarray) -> None:
        """Sum a small array over the shards, all of which every node holds.  *Collective* on the node."""
        self._sums += 1
        slots = self._totals[self._sums % 2][:, : values.size]
        slots[self._node.rank] = values.reshape(-1)
        self.barrier()
        # Of the owners alone: NumPy's order of additions depends on their number, which is the same on every node.
        values[...] = slots[: self._shards].sum(axis=0).reshape(values.shape)

    def synchronize(self) -> None:
        """Copy rank 0's parameters and state to the other nodes.  *Collective*."""
        if self._node.rank == 0 and self._peers is not None:
            for vector in (self.parameters, *self.state.values()):
                broadcast_vector(self._peers, vector)
        self._node.Barrier()

"""The memory that the ranks of a node share for a synchronous step, and how they synchronise in it.

A step has two barriers: after the first one all ranks read what all have written, after the second one the parameters
are new.  What is exchanged within a step has two slots used in turn, because a rank may be one barrier ahead of another
that still reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from onotrain._kernels.recording import Live, place
from onotrain.nn.layout import Tensor
from onotrain.optim import RecordedUpdate, Shard
from onotrain.parallel.barrier import STATE, Barrier
from onotrain.parallel.shared_memory import Fields, allocate
from onotrain.strategies.allreduce.kept import KeptState
from onotrain.strategies.allreduce.kept import fields as kept_fields
from onotrain.strategies.context import Context
from onotrain.strategies.recorded_step import RecordedStep
from onotrain.strategies.statistics import STATISTICS, StepStatistics, vectors
from onotrain.strategies.telemetry import Clock

#: Numbers of a rank in a recorded step, a cache line of them: its statistics, whether it is late, and its part of the
#: sum of squares of a gradient that is clipped.
_NUMBERS, _NORM = 8, 6
_SQUARES, _STOP = (list(STATISTICS.fields or ()).index(name) for name in ("gradient_squares", "stop_requests"))


class _Slot(NamedTuple):
    """Where a step's small numbers lie."""

    #: Statistics of every rank of the node, a row for each, and this rank's.
    ranks: np.ndarray
    mine: StepStatistics
    #: Sums of squares of the shards' gradients.
    squares: np.ndarray
    total: StepStatistics


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
        # First, for it is collective over the job: later, one node may have failed to allocate and be gone.
        self.peers = world.peers
        vector = ((layout.size,), layout.dtype)
        names = ["parameters", *(f"state/{name}" for name in context.optimizer.state_names)]
        kept = kept_fields(names, layout.size, layout.dtype, world.node.size) if context.outlives_ranks else {}
        self.arrays = allocate(
            world.node,
            {
                **dict.fromkeys(names, vector),
                **kept,
                "statistics": ((2, world.node.size), STATISTICS),
                "total_statistics": ((2,), STATISTICS),
                "totals": ((2, world.node.size, 2 * max(1, len(layout.tensors))), np.float64),
                "steps": ((2, world.node.size, _NUMBERS), np.float64),
                "barrier": STATE,
                **fields,
            },
        )
        self.parameters = self.arrays["parameters"]
        self.state = {name: self.arrays[f"state/{name}"] for name in context.optimizer.state_names}
        #: What messages of a codec leave to be sent; None without a codec.
        self.residual = self.arrays.get("residual")
        #: Sums over the node's ranks, in turn; between nodes, those over the job.
        self.total_statistics = [StepStatistics(self.arrays["total_statistics"][slot, ...]) for slot in range(2)]
        self._totals = self.arrays["totals"]
        self._slots = [
            _Slot(
                vectors(ranks),
                StepStatistics(ranks[world.node.rank, ...]),
                ranks["gradient_squares"][: world.shards],
                total,
            )
            for ranks, total in zip(self.arrays["statistics"], self.total_statistics, strict=True)
        ]
        #: What outlives ranks that die within a step; None if nothing shall.
        self.kept = KeptState(self.arrays, names, world.node.rank) if kept else None
        self._barrier = Barrier(world, self.arrays["barrier"])
        self._optimizer = context.optimizer
        self._sums = 0

    def shard(self, tensors: Sequence[Tensor], part: slice) -> Shard:
        """Return a part of parameters and state, with the tensors that reach into it."""
        state = [vector[part] for vector in self.state.values()]
        return self._optimizer.shard(tensors, part, self.parameters[part], state, shared=self.node.size > 1)

    def barrier(self, reason: str) -> None:
        """Wait for all ranks of the node, for a reason.  *Collective* on it."""
        self._barrier()
        waited = float(self._barrier.waited[0])
        self._barrier.waited[0] = 0.0
        end = self._clock.now()
        self._clock.waited(f"barrier: {reason}", end - waited, end)

    def record_barrier(self) -> Any:
        """Return a call that waits for all ranks of the node, for a program that sums over the batch."""
        return self._barrier.record("sums over the batch")

    def _account(self) -> None:
        """Tell the clock of what was waited."""
        self._clock.wait += float(self._barrier.waited[0])
        self._barrier.waited[0] = 0.0

    def begin(self, number: int, statistics: StepStatistics) -> None:
        """Let all ranks of the node read what each has computed for step `number`.  *Collective* on the node."""
        slot = self._slots[number % 2]
        slot.mine.values[:] = statistics.values
        self.barrier("gradients")
        if self.node.rank == 0:
            np.add.reduce(slot.ranks, axis=0, out=slot.total.values)

    def end(self, number: int, squares: float, statistics: StepStatistics) -> None:
        """Let all ranks read the new parameters, and give `statistics` the sums over them.  *Collective* on the node.

        `squares` is the sum of squares of the gradient of this rank's shard.
        """
        slot = self._slots[number % 2]
        slot.mine.gradient_squares = squares
        self.barrier("parameters")
        statistics.values[:] = slot.total.values
        statistics.gradient_squares = float(np.add.reduce(slot.squares))

    def record(
        self, update: RecordedUpdate | None, rows: int, steps: int, statistics: StepStatistics
    ) -> RecordedStep | None:
        """Return how recorded steps end, with the update of this rank's shard: see `onotrain.strategies.base.Strategy`.

        *Collective* on the node.
        """
        if update is None:
            return None
        record, rank, shared = self._optimizer.kernels.record, self.node.rank, self.arrays["steps"]
        constant, totals = StepStatistics(), np.zeros((steps, len(statistics.values)))
        constant.samples = rows
        clip = self._optimizer.clip_norm
        calls = [
            record("publish", statistics.values, constant.values, Live.LATE, Live.STEP, rank, shared),
            self._barrier.record("gradients"),
        ]
        if clip is not None:
            calls += [
                *update.sums,
                record("publish_sum", update.squares, Live.STEP, rank, _NORM, shared),
                self._barrier.record("norm of the gradient"),
                *(record("clip", shared, _NORM, clip, Live.STEP, Live.INDEX, scalars) for scalars in update.clipped),
            ]
        calls += [
            *update.updates,
            record("publish_sum", update.squares, Live.STEP, rank, _SQUARES, shared),
            self._barrier.record("parameters"),
            record("total", shared, _STOP, Live.STEP, Live.INDEX, totals),
        ]
        place(calls, "update")
        return RecordedStep(calls, update, totals, self._account)

    def total(self, values: np.ndarray) -> None:
        """Sum a small array over the shards, all of which every node holds.  *Collective* on the node."""
        self._sums += 1
        slots = self._totals[self._sums % 2][:, : values.size]
        slots[self.node.rank] = values.reshape(-1)
        self.barrier("sums over the shards")
        # Of the owners alone: NumPy's order of additions depends on their number, which is the same on every node.
        values[...] = slots[: self._shards].sum(axis=0).reshape(values.shape)

"""A rank that computes gradients, and makes updates of its own between two pushes."""

from __future__ import annotations

import math

import numpy as np

from onotrain.memory import check_memory
from onotrain.strategies.blocks import blocks
from onotrain.strategies.context import Context
from onotrain.strategies.local_steps import WholeUpdate, write_delta
from onotrain.strategies.parameter_server.compensation import delta_power
from onotrain.strategies.parameter_server.participant import Participant
from onotrain.strategies.parameter_server.push_pull import PushPull
from onotrain.strategies.parameter_server.replica import ServedReplica
from onotrain.strategies.statistics import StepStatistics


class LocalWorker(Participant):
    """A rank that pushes what several updates of its own have changed: see the package's text.

    The optimiser's state is each worker's own; at synchronisation points all go on with its mean, so that a checkpoint
    has to keep one state however many workers there are.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        layout, options = context.layout, context.options
        self._kernels, self._overlap, self._power = context.optimizer.kernels, options.overlap, delta_power(options)
        _check_memory(context)
        #: The delta; where none is under way that it would change, the gradient is computed in its place.
        self._pushed = layout.zeros() if self.pushes is None else self.pushes[self.roles.worker]
        gradient = layout.zeros() if self._overlap else self._pushed
        #: What servers have replied last, and the parameters after the last push: with overlap, these are older.
        self._pulled = layout.zeros()
        self._start = layout.zeros() if self._overlap else self._pulled
        self._averaged = layout.averaged
        self._state = {name: layout.zeros() for name in context.optimizer.state_names}
        self._update = WholeUpdate(context, self.parameters, gradient, self._state.values())
        self._push_pull = PushPull(context, self.roles, self._pushed, self._pulled, self.telemetry)
        self.replica = ServedReplica(
            context,
            self.roles,
            self.parameters,
            gradient,
            self._state,
            encoders=self._push_pull.encoders,
            noted=[self.batches],
        )
        self.telemetry.include(self.batches)
        #: This worker's numbers since the last push, and samples of all workers since then.
        self._since, self._all_samples = StepStatistics(), 0
        #: This worker's samples since the last synchronisation point.
        self._samples, self._at_rest = 0, True

    def step(
        self, learning_rate: float, number: int, samples: int, statistics: StepStatistics, *, synchronize: bool
    ) -> None:
        """Make an update alone, and push if it is time.  *Collective* at synchronisation points."""
        synchronize |= self.synchronization_points.due()
        if self._at_rest:
            self._at_rest = False
            self._pulled[:] = self._start[:] = self.parameters
        if statistics.samples:  # none in a batch that is shorter than the workers are many
            statistics.gradient_squares = statistics.samples * self._update(learning_rate, number)
        self._since.values += statistics.values
        self._all_samples += samples
        self._samples += statistics.samples
        statistics.clear()
        batch = self.period.push_after(number, synchronize=synchronize)
        if batch:
            self._push(batch, synchronize=synchronize)
            if synchronize or self._push_pull.stop_batch == batch:
                self.synchronization_points.synchronize(statistics)
                self._average_state()
                self._at_rest = True

    def _push(self, batch: int, *, synchronize: bool) -> None:
        """Push the delta, and go on from what servers reply; with overlap, from what they replied to the push before.

        Numbers that are not finite are pushed as such, and change no server.
        """
        messages, since = self._push_pull, self._since
        messages.pull()  # with overlap, what was pushed before these steps
        stop = messages.stop_batch == batch
        write_delta(self._start, self.parameters, 1.0, out=self._pushed)
        if self._overlap:
            self._move_on()
        self._scale(since.samples / self._all_samples)
        # The mean square, which unlike the sum is as large as that of one step; each server sums a part of it.
        since.gradient_squares /= self._all_samples * self.roles.servers
        if not self._finite():
            since.gradient_squares = math.nan
        messages.push(batch, 1.0, since, synchronizes=synchronize)
        since.clear()
        self._all_samples = 0
        if stop or not self._overlap:
            messages.pull()
        if not self._overlap:
            self.parameters[:] = self._pulled

    @np.errstate(over="ignore", invalid="ignore")
    def _move_on(self) -> None:
        """Make the steps that are about to be pushed from the parameters that were pulled: ``w <- pulled - delta``."""
        for w, start, pulled, delta in blocks(self.parameters, self._start, self._pulled, self._pushed):
            np.subtract(pulled, delta, out=w)
            start[:] = w

    @np.errstate(over="ignore", invalid="ignore")
    def _scale(self, share: float) -> None:
        """Scale the delta by a power of this worker's share of the samples; that of averaged tensors by the share."""
        self._pushed[: self._averaged.start] *= share**self._power
        self._pushed[self._averaged] *= share

    def _finite(self) -> bool:
        """Whether all of the delta is finite; the sum of squares is much faster to find out that it is."""
        delta = self._pushed
        return math.isfinite(self._kernels.sum_of_squares(delta)) or bool(np.isfinite(delta).all())

    @np.errstate(over="ignore", invalid="ignore")
    def _average_state(self) -> None:
        """Give all workers the mean of their states, weighted by samples.  *Collective* over them."""
        samples, self._samples = self._samples, 0
        if not self._state or self.roles.workers == 1:
            return
        workers, total = self.roles.worker_communicator, np.array([float(samples)])
        workers.sum(total)
        for vector in self._state.values():
            vector *= samples / total[0]
            workers.sum(vector)
            self.telemetry.traffic.add(*[workers.bytes_of_sum(vector)] * 2)

    def close(self) -> None:
        """Free what MPI holds."""
        super().close()
        self._push_pull.close()


def _check_memory(context: Context) -> None:
    """Refuse workers whose state does not fit in memory besides what all ranks have.

    Raises
    ------
    ResourceError
        It does not.
    """
    layout, world = context.layout, context.world
    vectors = len(context.optimizer.state_names) + 1 + context.options.overlap
    check_memory(
        vectors * layout.size * layout.dtype.itemsize * world.node.size,
        f"the optimiser's state of {world.node.size} ranks",
        hint="use fewer ranks on a node, or push_every: 1, with which servers have the state",
    )

"""A rank that computes gradients."""

from __future__ import annotations

import math

import numpy as np

from onotrain.strategies.context import Context
from onotrain.strategies.parameter_server.compensation import rate_power, whole_batches
from onotrain.strategies.parameter_server.participant import Participant
from onotrain.strategies.parameter_server.push_pull import PushPull
from onotrain.strategies.parameter_server.replica import ServedReplica
from onotrain.strategies.statistics import StepStatistics


class Worker(Participant):
    """A rank that computes gradients: see the package's text."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        layout, self._kernels = context.layout, context.optimizer.kernels
        self._overlap, self._rate_power = context.options.overlap, rate_power(context.options, context.optimizer)
        #: What is pushed: a copy of the gradient, where the next one is computed meanwhile.
        self._pushed = layout.zeros() if self.pushes is None else self.pushes[self.roles.worker]
        self._gradient = layout.zeros() if self._overlap else self._pushed
        if self.roles.synchronous:
            self.all_reduce = self.roles.worker_communicator.sum
        #: Gradients of averaged tensors in a push that is an update by itself.
        self._averages = self._pushed[len(self._pushed) if whole_batches(context.options) else layout.averaged.start :]
        self._push_pull = PushPull(context, self.roles, self._pushed, self.parameters, self.telemetry)
        self.replica = ServedReplica(
            context,
            self.roles,
            self.parameters,
            self._gradient,
            encoders=self._push_pull.encoders,
            noted=[self.batches],
        )
        self.telemetry.include(self.batches)

    def step(
        self, learning_rate: float, number: int, samples: int, statistics: StepStatistics, *, synchronize: bool
    ) -> None:
        """Push, and wait until this rank may go on.  *Collective*."""
        if not self._finite():
            statistics.gradient_squares = math.nan
        messages = self._push_pull
        messages.pull()  # with overlap, what was pushed before this batch was computed
        synchronize |= self.synchronization_points.due()
        stop = messages.stop_batch == number
        if self._overlap:
            self._pushed[:] = self._gradient
        share = statistics.samples / samples
        if self._averages.size:
            self._averages *= share  # all pushes of a batch together move an average as far as one update does
        rate = learning_rate * share**self._rate_power
        messages.push(number, rate, statistics, synchronizes=synchronize)
        statistics.clear()
        if stop or not self._overlap:
            messages.pull()
        if synchronize or messages.stop_batch == number:
            self.synchronization_points.synchronize(statistics)

    def _finite(self) -> bool:
        """Whether all of the gradient is finite; the sum of squares is much faster to find out that it is."""
        gradient = self._gradient
        return math.isfinite(self._kernels.sum_of_squares(gradient)) or bool(np.isfinite(gradient).all())

    def close(self) -> None:
        """Free what MPI holds."""
        super().close()
        self._push_pull.close()

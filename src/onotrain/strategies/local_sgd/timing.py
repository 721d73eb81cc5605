"""How long epochs of local SGD take: `onotrain.strategies.timing`."""

from __future__ import annotations

import numpy as np

from onotrain.simulation.epoch import Epoch
from onotrain.strategies.flat_timing import FlatTiming, alike
from onotrain.strategies.local_sgd.periods import PERIODS


class LocalSgdTiming(FlatTiming):
    """Ranks compute and update alone, and meet after each period and at the end of the epoch.

    A period that follows the loss keeps the length that it begins with, and one that follows the learning rate is 1.
    """

    def epoch(self, number: int) -> Epoch:
        """Return what epoch `number` comes to."""
        options, context = self.job.context.options, self.job.context
        period = PERIODS[options.period.name](options.period).observe(number, 1.0, None)
        computing = self.computing(number) * self.machine.crowding(self.machine.ranks)
        rounds = np.add.reduceat(computing, np.arange(0, self.steps, period), axis=0)
        states = len(context.optimizer.state_names) if options.inner_state == "average" else 0
        seconds = self.sum_of_messages() + states * self.sum_over_ranks(self.vector)
        between, alone = rounds.max(axis=1).sum(), computing.sum(axis=0)
        found = alike(self, between, alone, self.steps, seconds, len(rounds), states * self.vector)
        found.facts |= {"averaging_rounds": len(rounds), "period": period}
        return found

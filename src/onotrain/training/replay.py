"""Steps that are made several at a time, by one program, without Python between them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onotrain._kernels.recording import Label, Program
from onotrain.nn import Model
from onotrain.parallel.world import World
from onotrain.strategies import StepStatistics, Strategy
from onotrain.strategies.recorded_step import RecordedStep
from onotrain.training.local_gradient import LocalGradient

#: Most steps of a replay.
MOST_STEPS = 256
#: After so long a replay ends, for signals of other ranks, progress and checkpoints to be looked after [s].
SECONDS = 0.02
#: What a step is for those who watch.
STEP = Label("step", "step")


class Replay:
    """Makes steps of full batches while their strategy needs no Python within them.

    Parameters
    ----------
    world, model, strategy, gradient
        Of the run.
    statistics
        Of this rank in the step at hand.
    """

    def __init__(
        self, world: World, model: Model, strategy: Strategy, gradient: LocalGradient, statistics: StepStatistics
    ) -> None:
        self._world, self._model, self._strategy, self._gradient = world, model, strategy, gradient
        self._statistics = statistics
        #: By samples of a batch.
        self._recorded: dict[int, tuple[RecordedStep, Program] | None] = {}
        #: How many steps to prepare: little more than are made in the time of a replay.
        self._ahead = 1

    def clear(self) -> None:
        """Forget programs whose memory is gone."""
        self._recorded.clear()

    def most_steps(self, samples: int) -> int:
        """Return how many steps of `samples` can be made at a time; 0 if the strategy makes them one by one."""
        return self._ahead if self._of(samples) else 0

    def run(
        self, step: int, position: int, samples: int, learning_rates: Sequence[float], seconds: float = SECONDS
    ) -> np.ndarray:
        """Make up to as many steps as there are learning rates; return the statistics of those made.  *Collective*.

        Parameters
        ----------
        step
            Number of the first one, counted from 0.
        position
            Of the epoch, at which its batch begins.
        samples
            Of each batch.
        seconds
            After how long the run ends with the step at hand, on the first rank of the node: it looks at its clock for
            all.

        Returns
        -------
        np.ndarray
            float64 ``(steps made, fields)``, the sums over the ranks; the last ones may be not finite or have a request
            to stop.
        """
        found = self._of(samples)
        assert found is not None  # noqa: S101 - for the type checker: see `most_steps`
        recorded, program = found
        steps = len(learning_rates)
        recorded.update.prepare(learning_rates, step + 1)
        made = program.run(step, position, steps, samples, seconds if self._world.node.rank == 0 else math.inf)
        recorded.account()
        ahead = self._ahead
        if made < steps:
            ahead = made + made // 4
        elif steps == ahead:  # else something is due, such as the end of an epoch: that says nothing of the time
            ahead = 2 * steps
        self._ahead = min(MOST_STEPS, ahead)
        return recorded.totals[:made]

    def _of(self, samples: int) -> tuple[RecordedStep, Program] | None:
        if samples not in self._recorded:
            rows = self._gradient.rows(samples)
            recorded = self._strategy.record(samples, rows, MOST_STEPS, self._statistics)
            self._recorded[samples] = None
            if recorded is not None:
                calls = [*self._gradient.record(samples), *recorded.calls]
                self._recorded[samples] = recorded, self._model.kernels.program(calls, STEP)
        return self._recorded[samples]

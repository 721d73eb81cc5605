"""Local SGD: ranks train alone and average their parameters now and then.

Each rank has parameters and optimiser state of its own and steps down the gradient of its slices of the batches.  After
a period comes an averaging round::

    every rank  w = sum of p_i w_i, p_i = n_i / n     the samples that rank i has seen since the last round
                w = outer step from the parameters of the last round to this mean

With a period of 1, no outer step and plain SGD this is `onotrain.strategies.flat_allreduce`, where the mean of the
steps is the step of the mean.  Ranks send the delta ``start - w_i``, which is small against ``w_i``: the sum over the
ranks loses nothing to rounding that one step does not lose.  Clipping, and LAMB's norms, are those of each rank's own
gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from onotrain.parallel.collectives import all_reduce
from onotrain.strategies.balance import LocalSlices
from onotrain.strategies.base import Strategy
from onotrain.strategies.blocks import blocks
from onotrain.strategies.context import Context
from onotrain.strategies.local_sgd.outer import OUTERS, Outer
from onotrain.strategies.local_sgd.periods import PERIODS
from onotrain.strategies.local_sgd.timing import LocalSgdTiming
from onotrain.strategies.local_steps import write_delta
from onotrain.strategies.memory import Job, Memory
from onotrain.strategies.replica import Committed, Copy, WholeReplica
from onotrain.strategies.statistics import StepStatistics
from onotrain.strategies.telemetry import Telemetry


class Rounds:
    """When the next averaging round is due, and how many there were in the epoch.

    Parameters
    ----------
    options
        The ``strategy.period`` section of the configuration.
    """

    def __init__(self, options: Any) -> None:
        self.period = PERIODS[options.name](options)
        self._note = f"period/{options.name}"
        #: Steps of all ranks since the last round.
        self.steps = 0
        self._rounds = 0

    def due(self) -> bool:
        """Return whether a round comes after this step; asked once in every step."""
        self.steps += 1
        return self.steps >= self.period.steps

    def ended(self) -> None:
        """Count a round."""
        self.steps = 0
        self._rounds += 1

    def report(self) -> dict[str, Any]:
        """Return the number of rounds, the period, and what kept it from following its rule."""
        found: dict[str, Any] = {"averaging_rounds": self._rounds, "period": self.period.steps}
        if self.period.problem is not None:
            found["period_problem"] = self.period.problem
        self._rounds = 0
        return found

    def notes(self) -> dict[str, Any]:
        """Return the state of the period's rule, and the rounds of the epoch so far."""
        return {"averaging_rounds": self._rounds, self._note: self.period.state()}

    def restore(self, notes: Mapping[str, Any]) -> None:
        """Go on from there; a rule of another name begins anew."""
        self._rounds = notes.get("averaging_rounds", 0)
        if self._note in notes:
            self.period.restore(notes[self._note])


class LocalReplica(WholeReplica):
    """Parameters and state of a rank that trains alone, and the parameters of the last averaging round."""

    always_alike = False

    def __init__(self, context: Context, telemetry: Telemetry, rounds: Rounds) -> None:
        super().__init__(
            context,
            telemetry.traffic,
            "delta",
            hint="use fewer ranks on a node, or strategy: allreduce, which shares them",
            extra_vectors=3,
            noted=[rounds],
        )
        layout, options = context.layout, context.options
        self.start = layout.zeros()
        self.outer: Outer = OUTERS[options.outer.name](options.outer, layout.size, layout.dtype.name)
        #: Range of the tensors that are no averages, which alone know momentum and proximity.
        self.trained = slice(0, layout.averaged.start)
        outer = {f"outer_{name}": vector for name, vector in self.outer.state().items()}
        self._copy = Copy()
        self.strategy_state = outer | dict(self.strategy_state)

    def commit(self, steps: int, *, whole: bool) -> bool:
        """Copy the state after an averaging round: until the next one, each rank has parameters of its own."""
        return self._copy.take(self, steps, whole=whole)

    def committed(self) -> Committed | None:
        """Return the copy."""
        return self._copy.taken

    def outer_step(self) -> None:
        """Turn the mean of the ranks' parameters into the next ones; that of averaged tensors is theirs."""
        self.outer.step(self.start[self.trained], self.parameters[self.trained])
        self.start[self.trained.stop :] = self.parameters[self.trained.stop :]

    def broadcast(self) -> None:
        """Copy rank 0's parameters and state to all ranks.  *Collective*."""
        super().broadcast()
        self.start[:] = self.parameters


class LocalSgd(Strategy):
    """Each rank holds everything and makes updates of its own: see the module's text."""

    replica: LocalReplica
    outlives_ranks = True
    timing = LocalSgdTiming

    def __init__(self, context: Context) -> None:
        self._world, self._options = context.world, context.options
        self._link = context.injection.link(context.world.node.size)
        self.telemetry = Telemetry(context.now, context.events)
        self.batches = LocalSlices(context.world, context.make_balance, self.telemetry.clock, local_mean=True)
        self._rounds = Rounds(context.options.period)
        self.telemetry.include(self.batches, self._rounds)
        self.replica = LocalReplica(context, self.telemetry, self._rounds)
        #: This rank's numbers since the last round, and the updates that it has made since.
        self._since, self._updates = StepStatistics(), 0

    @classmethod
    def memory(cls, job: Job) -> Memory:
        """Return what a rank has alone: also the parameters of the last round, and the state of the outer step."""
        found = super().memory(job)
        options, layout = job.context.options.outer, job.context.layout
        outer = len(OUTERS[options.name](options, 0, layout.dtype.name).state()) * job.vector
        own = {**found.own, "state": found.own["state"] + job.vector + outer}
        own |= job.kept(job.vector + job.state + outer)
        return Memory(found.shared, own, found.saved + outer)

    def begin_epoch(self, epoch: int, learning_rate: float, loss: float | None) -> None:
        """Choose the period."""
        self._rounds.period.observe(epoch, learning_rate, loss)

    def step(
        self, learning_rate: float, number: int, samples: int, statistics: StepStatistics, *, synchronize: bool
    ) -> None:
        """Make an update alone, and an averaging round if one is due.  *Collective* in a round."""
        if statistics.samples:  # none in a batch that is shorter than the ranks are many
            self._update(learning_rate, number, statistics)
        self._since.values += statistics.values
        averages = self._rounds.due() or synchronize
        statistics.clear()
        if averages:
            self._average(statistics)
        self.replica.complete = averages and self.replica.sum.residual is None

    # Parameters that have diverged overflow here too; the run finds that out by its losses, and reports it.
    @np.errstate(over="ignore", invalid="ignore")
    def _update(self, learning_rate: float, number: int, statistics: StepStatistics) -> None:
        """``w <- rule(w, g + mu (w - start))``."""
        replica, proximal = self.replica, self._options.proximal
        self._updates += 1
        if self._options.inner_state == "reset":  # running means that began anew are corrected as at the beginning
            number = self._updates
        if proximal > 0.0:
            vectors = [each[replica.trained] for each in (replica.gradient, replica.parameters, replica.start)]
            for gradient, w, start in blocks(*vectors):
                gradient += proximal * (w - start)
        statistics.gradient_squares = statistics.samples * replica.update(learning_rate, number)

    @property
    def _averaged_state(self) -> list[np.ndarray]:
        """Vectors of the optimiser's state that a round averages, too."""
        return list(self.replica.optimizer_state.values()) if self._options.inner_state == "average" else []

    def _average(self, statistics: StepStatistics) -> None:
        """Average parameters and state, and give `statistics` the sums since the last round.  *Collective*."""
        clock = self.telemetry.clock
        start = clock.now()
        summed = self.replica.sum
        nbytes = summed.sent_bytes + len(self._averaged_state) * summed.raw_bytes
        self._link.put(nbytes, start)
        self._link.inject_latency()
        statistics.values[:] = self._since.values
        all_reduce(self._world.comm, statistics.values)
        # The mean square, which unlike the sum is as large as that of one step.
        statistics.gradient_squares /= statistics.samples
        if self._world.size > 1:
            self._mean(self._since.samples / statistics.samples)
        clock.communicated("average of the parameters", start, nbytes=nbytes)
        if self._options.inner_state == "reset":
            for vector in self.replica.optimizer_state.values():
                vector[:] = 0.0
        self.replica.outer_step()
        self._since.clear()
        self._updates = 0
        self._rounds.ended()

    @np.errstate(over="ignore", invalid="ignore")
    def _mean(self, share: float) -> None:
        """Make the weighted mean of all ranks' parameters, and of their state if so asked for, everyone's."""
        replica = self.replica
        write_delta(replica.start, replica.parameters, share, out=replica.parameters)
        replica.sum()
        np.subtract(replica.start, replica.parameters, out=replica.parameters)
        for vector in self._averaged_state:
            vector *= share
            replica.sum.plain(vector)

    def close(self) -> None:
        """Free what MPI holds for messages of a codec."""
        self.replica.sum.close()

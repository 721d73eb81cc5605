"""Local SGD: ranks that train alone and meet now and then.

Each rank has parameters and optimiser state of its own and steps down the gradient of its slices of the batches.  After
a period all meet::

    every rank  w = sum of p_i w_i, p_i = n_i / n     the samples that rank i has seen since the last meeting
                w = outer step from the parameters of the last meeting to this mean

With a period of 1, no outer step and plain SGD this is `onotrain.strategies.flat`, where the mean of the steps is the
step of the mean.  What is sent is the way ``start - w_i``, which is small against ``w_i``: the sum over the ranks loses
nothing to rounding that one step does not lose.  Clipping, and LAMB's norms, are those of each rank's own gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

from onotrain.data.batches import Batch
from onotrain.memory import check_memory
from onotrain.nn import Model
from onotrain.optim import Shard
from onotrain.parallel.collectives import all_reduce, broadcast_vector
from onotrain.runs.metadata import OWN
from onotrain.strategies.base import BatchShape, Job
from onotrain.strategies.blocks import blocks
from onotrain.strategies.local_sgd.outer import OUTERS
from onotrain.strategies.local_sgd.periods import PERIODS
from onotrain.strategies.sliced import Sliced
from onotrain.strategies.sums.world_sum import WorldSum
from onotrain.strategies.tally import Tally


class LocalSgd(Sliced):
    """Each rank holds everything and makes updates of its own: see the module's text.

    Parameters
    ----------
    job
        Communicators, layout, optimiser and options.  *Collective*: the same job on all ranks.
    """

    def __init__(self, job: Job) -> None:
        layout, options = job.layout, job.options
        super().__init__(job)
        self._optimizer, self._options, self._injection = job.optimizer, options, job.injection
        self.finished: Callable[[int], None] | None = None
        self.settled, self.lockstep = True, True
        vectors = 5 + WorldSum.vectors(job) + len(job.optimizer.state_names)
        check_memory(
            vectors * layout.size * layout.dtype.itemsize * job.world.node.size,
            f"parameters on each of {job.world.node.size} ranks",
            hint="use fewer ranks on a node, or strategy: allreduce, which shares them",
        )
        self.parameters = layout.zeros()
        self.gradient = layout.zeros()
        #: Parameters of the last meeting.
        self._start = layout.zeros()
        self._state = {name: layout.zeros() for name in job.optimizer.state_names}
        everything = slice(0, layout.size)
        self._shard = Shard.of([tensor.range for tensor in layout], everything, self.parameters, self._state)
        self._sum_ways = WorldSum(job, self.parameters, self.traffic, "way")
        self._outer = OUTERS[options.outer.name](options.outer, layout.size, layout.dtype.name)
        self._period = PERIODS[options.period.name](options.period)
        #: This rank's numbers since the last meeting, and the steps since then: all ranks', and those that it made.
        self._since = Tally()
        self._steps = self._own_steps = 0
        #: Of the epoch.
        self._meetings = 0

    def prepare(self, model: Model, batch: BatchShape) -> None:
        """Give the model memory of its own, and this rank's parameters and gradient."""
        model.reserve(batch.rows)
        model.bind(self.parameters, self.gradient)

    def weight(self, samples: int) -> float:
        """Return what makes this rank's gradient that of the mean loss of its own slice."""
        return 1.0 / max(1, len(self.part(Batch(0, samples))))

    def begin_epoch(self, epoch: int, learning_rate: float, loss: float | None) -> None:
        """Choose the period."""
        self._period.observe(epoch, learning_rate, loss)

    def report(self) -> dict[str, Any]:
        """Return the number of meetings, the period, and what kept it from following its rule."""
        told: dict[str, Any] = {"meetings": self._meetings, "period": self._period.steps}
        if self._period.problem is not None:
            told["period_problem"] = self._period.problem
        self._meetings = 0
        return told

    def state(self) -> dict[str, np.ndarray]:
        """Return the optimiser's state on this rank, that of the outer step and what is left to send, everyone's."""
        outer = {f"{OWN}outer_{name}": flat for name, flat in self._outer.state().items()}
        return self._state | outer | self._sum_ways.state

    def notes(self) -> dict[str, Any]:
        """Return where the period's rule stands, and the meetings of the epoch so far."""
        return {"meetings": self._meetings, f"period/{self._options.period.name}": self._period.state()}

    def restore(self, notes: dict[str, Any]) -> None:
        """Go on from there; a rule of another name begins anew."""
        self._meetings = notes["meetings"]
        rule = notes.get(f"period/{self._options.period.name}")
        if rule is not None:
            self._period.restore(rule)

    def synchronize(self) -> None:
        """Copy rank 0's parameters and state to all ranks.  *Collective*."""
        for vector in (self.parameters, *self.state().values()):
            broadcast_vector(self.world.comm, vector)
        self._start[:] = self.parameters
        self._sum_ways.take()

    def close(self) -> None:
        """Give back what MPI holds for messages of a codec."""
        self._sum_ways.close()

    def step(self, learning_rate: float, number: int, samples: int, tally: Tally, *, settle: bool) -> None:
        """Make a step alone, and meet the others if it is time to.  *Collective* where they meet."""
        if tally.samples:  # none in a batch that is shorter than the ranks are many
            self._step_alone(learning_rate, number, tally)
        self._since.values += tally.values
        self._steps += 1
        meets = settle or self._steps >= self._period.steps
        tally.clear()
        if meets:
            self._meet(tally)
        self.settled = meets and not self._sum_ways.state

    def collect(self) -> None:
        """Sum what messages have left to send.  *Collective*."""
        self._sum_ways.collect()

    # Parameters that have diverged overflow here too; the run finds that out by its losses, and reports it.
    @np.errstate(over="ignore", invalid="ignore")
    def _step_alone(self, learning_rate: float, number: int, tally: Tally) -> None:
        """``w <- rule(w, g + mu (w - start))``."""
        self._own_steps += 1
        if self._options.inner_state == "reset":  # running means that began anew are corrected as at the beginning
            number = self._own_steps
        if self._options.proximal > 0.0:
            for gradient, w, start in blocks(self.gradient, self.parameters, self._start):
                gradient += self._options.proximal * (w - start)
        squares = self._optimizer.update(self._shard, self.gradient[np.newaxis], learning_rate, number, _nothing_to_sum)
        tally.gradient_squares = tally.samples * squares

    def _meet(self, tally: Tally) -> None:
        """Average parameters and state, and give `tally` the sums since the last meeting.  *Collective*."""
        begin = perf_counter()
        self._injection.inject_latency(begin)
        tally.values[:] = self._since.values
        all_reduce(self.world.comm, tally.values)
        # The mean square, which unlike the sum is as large as that of one step.
        tally.gradient_squares /= tally.samples
        if self.world.size > 1:
            self._average(self._since.samples / tally.samples)
        self.clock.communication += perf_counter() - begin
        if self._options.inner_state == "reset":
            for vector in self._state.values():
                vector[:] = 0.0
        self._outer.step(self._start, self.parameters)
        self._since.clear()
        self._steps = self._own_steps = 0
        self._meetings += 1

    @np.errstate(over="ignore", invalid="ignore")
    def _average(self, share: float) -> None:
        """Make the weighted mean of all ranks' parameters, and of their state if so asked for, everyone's."""
        for w, start in blocks(self.parameters, self._start):
            np.subtract(start, w, out=w)
            w *= share
        self._sum_ways()
        np.subtract(self._start, self.parameters, out=self.parameters)
        if self._options.inner_state == "average":
            for vector in self._state.values():
                vector *= share
                self._sum_ways.plain(vector)


def _nothing_to_sum(values: np.ndarray) -> None:
    """Do nothing: the one shard is the whole vector."""

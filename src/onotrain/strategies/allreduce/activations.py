"""Synchronous data parallelism on one node, whose ranks share activations instead of gradients.

The gradient of a dense layer's weight is a product, ``dw = dz^T x`` over the rows of the batch.  One step::

    every rank      x, dz of all layers for its rows of the batch, side by side with those of the others
    barrier
    owner of shard  g = dz^T x of the shard, over all rows, block by block in its caches
                    update parameters[shard] and state[shard] in place with each block
    barrier

It takes as many operations as sharing gradients, and no gradient is ever written to memory or read from another core.
The sum over the rows has one order for any number of ranks.  It needs an update without sums over the whole gradient
(neither clipping nor LAMB) and all rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np

from onotrain.data.batches import Batch
from onotrain.nn import Model
from onotrain.optim import Gradient, Shard
from onotrain.parallel.shared_memory import allocate
from onotrain.strategies.allreduce.arena import Arena
from onotrain.strategies.base import BatchShape, Job
from onotrain.strategies.lockstep import Lockstep
from onotrain.strategies.tally import Tally


class SharedActivations(Lockstep):
    """The node arena with the activations of the whole batch: see the module's text.

    Parameters
    ----------
    job
        Communicators, layout, optimiser and options, for which `possible` holds.  *Collective*: the same job on all
        ranks.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._layout, self._optimizer = job.layout, job.optimizer
        self._arena = Arena(job, self.clock, {})
        self.parameters = self._arena.parameters
        self.finished: Callable[[int], None] | None = None
        self._injection = job.injection
        self._model: Model | None = None
        #: What this rank updates, by the rows of the batch: a run has two numbers of them.
        self._pieces: dict[int, Sequence[tuple[Gradient, Shard]]] = {}
        self.cut_anew()

    @staticmethod
    def possible(job: Job) -> bool:
        """Whether ranks can share activations: on one node, if a parameter's step depends on its gradient alone."""
        return job.world.nodes == 1 and job.optimizer.elementwise and job.pieces == 1

    def prepare(self, model: Model, batch: BatchShape) -> None:
        """Give the model memory that all ranks read.  *Collective*."""
        fields = {name: (shape, model.dtype) for name, shape in model.factor_shapes(batch.samples).items()}
        model.reserve(batch.rows, allocate(self.world.node, fields))
        model.bind(self.parameters)
        self._model, self._pieces = model, {}

    def state(self) -> dict[str, np.ndarray]:
        """Return the node's optimiser state."""
        return self._arena.state

    def synchronize(self) -> None:
        """Let all ranks see what rank 0 wrote.  *Collective*."""
        self._arena.synchronize()

    def close(self) -> None:
        """Do nothing: MPI holds nothing."""

    def step(self, learning_rate: float, number: int, samples: int, tally: Tally, *, settle: bool) -> None:
        """Multiply, update and publish.  *Collective*."""
        pieces = self._pieces.get(samples)
        if pieces is None:
            pieces = self._pieces[samples] = self._cut(samples)
        self._arena.begin(number, tally)
        start = perf_counter()
        squares = self._optimizer.update_each(pieces, learning_rate, number)
        self._injection.inject_delay(number, perf_counter() - start)
        self._arena.end(number, squares, tally)

    def cut_anew(self) -> None:
        """Give each rank a part of the parameters that is to the whole as its slice is to a batch.

        All of them lie in memory that all ranks share, so that nothing is moved, and no bit of them depends on it.
        """
        part = self._slices.of(Batch(0, self._layout.size))
        self._part, self._pieces = self._layout.rows_within(part.begin, part.end), {}

    def _cut(self, samples: int) -> list[tuple[Gradient, Shard]]:
        """Return what this rank's part of each tensor is updated with."""
        assert self._model is not None  # noqa: S101 - for the type checker: a step comes after `prepare`
        factors, pieces = self._model.factors(samples), []
        for tensor in self._layout:
            whole = tensor.range
            begin, end = max(whole.start, self._part.start), min(whole.stop, self._part.stop)
            if begin < end:
                dz, x = factors[tensor.name]
                width = 1 if x is None else x.shape[1]
                outputs = slice((begin - whole.start) // width, (end - whole.start) // width)
                shard = Shard.of(
                    [], slice(begin, end), self.parameters, self._arena.state, shared=self.world.node.size > 1
                )
                pieces.append((Gradient(dz[:, outputs], x), shard))
        return pieces

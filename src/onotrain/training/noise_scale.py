"""How much the gradients of samples differ: the gradient noise scale, by which larger batches stop paying.

McCandlish et al., arXiv 1812.06162.  A batch of `B` samples is cut into `K` parts of `b` samples.  With `g` the
gradient of its mean loss, `s` the summand of a part in it, and ``S = sum (B / b) |s|^2``,

    variance = (S - |g|^2) B / (K - 1)        trace of the covariance of a sample's gradient
    square   = (K |g|^2 - S) / (K - 1)        square of the norm of the mean gradient

have no bias, whatever the sizes of the parts.  The noise scale is the quotient of their means over many batches.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from onotrain._kernels.recording import Program
from onotrain.config import Config
from onotrain.data.batches import Batch
from onotrain.data.feed import Feed
from onotrain.memory import check_memory
from onotrain.nn import Model
from onotrain.nn.workspace import private_bytes
from onotrain.parallel.collectives import all_reduce
from onotrain.parallel.world import World
from onotrain.seeds import key
from onotrain.strategies import Strategy
from onotrain.training.local_gradient import MicroBatch

#: Parts of a batch, over all ranks, at least; more of them would tell more of the variance, and take longer.
_FEWEST_PARTS = 4


class Noise(NamedTuple):
    """Estimates of a batch."""

    variance: float
    square: float

    @classmethod
    def of(cls, samples: int, parts: float, of_parts: float, of_batch: float) -> Noise:
        """Return the estimates of a batch of `samples`.

        Parameters
        ----------
        samples, parts
            `B` and `K`.
        of_parts, of_batch
            `S` and the square of the norm of `g`.
        """
        return cls((of_parts - of_batch) * samples / (parts - 1), (parts * of_batch - of_parts) / (parts - 1))


class NoiseScale:
    """Measures the parts of a batch with a model of its own, beside the training, which it does not touch.

    Parameters
    ----------
    config, world, strategy, feed
        Of the run, whose strategy has the same parameters on all ranks between two steps.
    model
        A second one of the same network.

    Raises
    ------
    ResourceError
        Its memory would be more than a node has.
    """

    def __init__(self, config: Config, world: World, model: Model, strategy: Strategy, feed: Feed) -> None:
        training = config.training
        self._comm, self._model, self._strategy = world.comm, model, strategy
        self._parts = max(training.gradient_accumulation, -(-_FEWEST_PARTS // strategy.batches.workers))
        rows = -(-strategy.batches.capacity(min(training.batch_size, feed.samples)) // self._parts)
        vectors = 2 * model.layout.size * model.dtype.itemsize
        check_memory(
            (private_bytes(model.plan, rows) + vectors) * world.node.size,
            f"metrics.noise_scale on each of {world.node.size} ranks",
            hint="leave metrics.noise_scale out",
        )
        self._summand, self._gradient = model.layout.zeros(), model.layout.zeros()
        self._micro_batch = MicroBatch(model, feed, rows, key(training.seed, "dropout"))
        model.reserve(rows)
        #: What the parameters are in, as the programs have it.
        self._bound: np.ndarray | None = None
        #: Of this rank's parts, by samples of the batch and how often the ranks' slices have changed.
        self._programs: dict[tuple[int, int], list[tuple[int, Program]]] = {}

    def __call__(self, batch: Batch, step: int) -> Noise | None:
        """Return the estimates of a batch, the same on all ranks; None if it cannot be cut.

        *Collective*: same batch and step on all ranks, before the step.  `step` counts from 0.
        """
        samples, gradient = len(batch), self._gradient
        gradient.fill(0.0)
        sums = np.zeros(2)
        for rows, program in self._of(samples):
            program.run(step, batch.begin)
            if rows:
                sums += samples / rows * self._model.kernels.sum_of_squares(self._summand), 1
                gradient += self._summand
        clock = self._strategy.telemetry.clock
        start = clock.now()
        all_reduce(self._comm, gradient)
        all_reduce(self._comm, sums)
        # An MPI library may add up in another order on each rank.
        of_parts, parts, of_batch = self._comm.bcast((*sums.tolist(), self._model.kernels.sum_of_squares(gradient)))
        clock.communicated("sums for the noise scale", start)
        return None if parts < 2 else Noise.of(samples, parts, of_parts, of_batch)

    def _of(self, samples: int) -> list[tuple[int, Program]]:
        """Return this rank's parts of a batch: how many rows they have, and what computes their summands."""
        parameters, slices = self._strategy.replica.parameters, self._strategy.batches
        if self._bound is not parameters:
            self._bound, self._programs = parameters, {}
            self._model.bind(parameters, self._summand)
        case = samples, slices.repartitions
        if case not in self._programs:
            self._programs = {known: each for known, each in self._programs.items() if known[1] == case[1]}
            self._programs[case] = [
                (len(part), self._model.kernels.program(self._micro_batch.record(samples, part, samples, np.zeros(2))))
                for part in slices.local(Batch(0, samples)).micro_batches(self._parts)
            ]
        return self._programs[case]


def scale_of(variance: float, square: float) -> float | None:
    """Return the noise scale [samples] by sums or means of both estimates; None where the noise hides the gradient."""
    return variance / square if square > 0.0 and variance > 0.0 else None


def noise_record(variance: float, square: float, batches: int) -> dict[str, Any]:
    """Return what the record of an epoch says, from the sums of the estimates of its batches.

    The noise scale is null where the noise hides the gradient.
    """
    scale = scale_of(variance, square)
    means = (variance / batches, square / batches) if batches else (None, None)
    return {"noise_scale": scale, "noise_variance": means[0], "noise_square": means[1], "noise_batches": batches}

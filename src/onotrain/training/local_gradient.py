"""The summand of a global batch's gradient that a rank computes, in micro-batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from onotrain._kernels.recording import Label, Program, place
from onotrain.config import Config
from onotrain.data.batches import Batch
from onotrain.data.feed import Feed
from onotrain.errors import DataError
from onotrain.memory import check_memory
from onotrain.nn import Model
from onotrain.nn.workspace import private_bytes
from onotrain.parallel.agreement import agreed
from onotrain.parallel.world import World
from onotrain.seeds import key
from onotrain.strategies import BatchShape, StepStatistics, Strategy
from onotrain.strategies.injection import Injection
from onotrain.text import count

#: Slices whose micro-batches are remembered: of a whole batch, of the last one of an epoch, and a few that a load
#: balance has left behind.
_SLICES = 8
#: What a pass through its program is, for those who watch.
GRADIENT = Label("pass", "gradient")


class _Slice(NamedTuple):
    """What a rank computes of a batch, and with what."""

    rows: int
    program: Program


class MicroBatch:
    """Buffers of a micro-batch, and how its gradient is computed with a model.

    Parameters
    ----------
    model, feed
        Of the run.
    rows
        The most that it has.
    dropout_seed
        Of the masks.
    """

    def __init__(self, model: Model, feed: Feed, rows: int, dropout_seed: int) -> None:
        self._model, self._feed, self._dropout_seed = model, feed, dropout_seed
        classes = model.loss.task == "multiclass"
        self._targets = np.empty(rows, np.int32) if classes else np.empty((rows, model.loss.targets), model.dtype)
        self._weights = np.empty(rows, model.dtype) if feed.weighted else None

    def record(
        self, samples: int, part: Batch, averaged: int, loss_sums: np.ndarray, *, accumulate: bool = False,
        gradient_ready: Callable[[int], None] | None = None,
    ) -> list[Any]:  # fmt: skip
        """Return the calls that fetch rows `part` of a batch of `samples` and compute their gradient, for a program.

        `averaged` is how many samples the gradient is a mean over; else as of `Model.record`.
        """
        x, targets = self._model.rows(part.begin, part.end), self._targets[: len(part)]
        weights = None if self._weights is None else self._weights[: len(part)]
        fetching = place(self._feed.record(samples, part, x, targets, weights), "data", rows=len(part))
        return [*fetching, *self._model.record(
            x, targets, averaged, loss_sums, seed=self._dropout_seed, begin=part.begin, accumulate=accumulate,
            gradient_ready=gradient_ready, row_weights=weights, output_weights=self._feed.output_weights,
        )]  # fmt: skip


class LocalGradient:
    """Buffers of a rank's micro-batches, and the gradient that it computes with them.

    Parameters
    ----------
    config, world, model, strategy, feed, injection
        Of the run; see `onotrain.training.trainer.Components`.
    statistics
        Of the step at hand: losses, correct samples and samples are added.

    Raises
    ------
    UsageError
        Samples or outputs have weights, or targets are missing, and the loss takes no such weights.
    """

    def __init__(
        self, config: Config, world: World, model: Model, strategy: Strategy, feed: Feed, injection: Injection,
        statistics: StepStatistics,
    ) -> None:  # fmt: skip
        training = config.training
        model.loss.check_weights(rows=feed.weighted, outputs=feed.output_weights is not None)
        self._world, self._model, self._strategy, self._feed = world, model, strategy, feed
        self._injection, self._count = injection, training.gradient_accumulation
        self._batch_size = min(training.batch_size, feed.samples)
        self._dropout_seed = key(training.seed, "dropout")
        self._micro_batch: MicroBatch
        self._statistics = statistics
        #: By samples of the batch, and how often the ranks' slices have changed.
        self._slices: dict[tuple[int, int], _Slice] = {}

    def allocate(self) -> None:
        """Allocate buffers as large as this rank's largest micro-batch, and bind the model to the strategy.

        *Collective*: at the beginning, and when replica or slices of the strategy have become others.

        Raises
        ------
        DataError
            A batch has too few samples for statistics over them.
        ResourceError
            The activations do not fit in the memory of a node.
        """
        model, strategy, node_size = self._model, self._strategy, self._world.node.size
        rows = -(-strategy.batches.capacity(self._batch_size) // self._count)
        samples, size = self._feed.samples, self._batch_size
        with agreed(self._world.comm):
            for each in (size, samples % size or size):
                self._check_batch(each)
            check_memory(
                private_bytes(model.plan, rows) * node_size,
                f"activations of {rows} samples on each of {node_size} ranks",
                hint="raise training.gradient_accumulation, or use fewer ranks on a node, smaller batches or layers",
            )
        self._micro_batch = MicroBatch(model, self._feed, rows, self._dropout_seed)
        strategy.bind(model, BatchShape(self._batch_size, rows, self._count))
        self._slices.clear()

    def _check_batch(self, samples: int) -> None:
        """Refuse a batch with fewer samples than the layers need, or what of it is a batch to this rank alone."""
        together, fewest = self._strategy.batches.averaged(samples), self._model.fewest_samples
        if self.rows(samples) and together < fewest:
            whole, size = count(self._feed.samples, "sample"), self._batch_size
            raise DataError(
                f"layers of this network normalise over a batch, and need {fewest} samples or more in each: {whole} "
                f"with batch_size {size} leave {together} to normalise over",
                hint="choose a training.batch_size that leaves more, for every rank where ranks train by themselves, "
                "or use layer_norm in place of batch_norm",
            )

    def __call__(self, batch: Batch, step: int) -> None:
        """Leave this rank's gradient of `batch` where the strategy wants it, and count its rows.

        *Collective*: same batch and step on all ranks.

        Parameters
        ----------
        batch
            The global batch, of the epoch that the feed is in.
        step
            Counted from 0.
        """
        slices, clock = self._strategy.batches, self._strategy.telemetry.clock
        start, elsewhere = clock.now(), clock.elsewhere
        rows, program = self._of(len(batch))
        program.run(step, batch.begin)
        self._statistics.samples = rows
        seconds = clock.now() - start - (clock.elsewhere - elsewhere)
        slices.observe(rows, self._injection.inject_delay(step + 1, seconds))

    def _of(self, samples: int) -> _Slice:
        """Return this rank's slice of a batch."""
        key = samples, self._strategy.batches.repartitions
        if key not in self._slices:
            if len(self._slices) == _SLICES:
                self._slices.clear()
            self._slices[key] = _Slice(self.rows(samples), self._model.kernels.program(self.record(samples), GRADIENT))
        return self._slices[key]

    def rows(self, samples: int) -> int:
        """Return how many rows of a batch this rank computes."""
        return len(self._strategy.batches.local(Batch(0, samples)))

    def record(self, samples: int) -> list[Any]:
        """Return the calls that compute this rank's gradient of a batch, for a program.

        Raises
        ------
        DataError
            A load balance has left too few samples for statistics over them.
        """
        self._check_batch(samples)
        slices = self._strategy.batches
        averaged, calls = slices.averaged(samples), list[Any]()
        for number, part in enumerate(slices.local(Batch(0, samples)).micro_batches(self._count)):
            ready = self._strategy.gradient_ready if number == self._count - 1 else None
            calls += self._micro_batch.record(
                samples, part, averaged, self._statistics.losses, accumulate=number > 0, gradient_ready=ready
            )
        return calls

"""Metrics of a model on a data set, computed by all ranks, with a result that does not depend on their number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onotrain._kernels import empty
from onotrain.data.normalization import Normalization
from onotrain.data.samples import Samples
from onotrain.evaluation.metrics import Metric
from onotrain.nn import Inference, Model
from onotrain.parallel.world import Comm, start_mpi

#: Rows of one chunk.  Fixed, because the bits of a matrix product depend on its number of rows.
PASS_ROWS = 512


class Evaluator:
    """Evaluates a model on the same samples again and again.

    Parameters
    ----------
    model
        Bound to the parameters to be judged.
    samples
        The data.
    normalization
        Of the training data.
    metrics
        What to compute.
    kernels
        Kernels of the model's dtype.
    """

    def __init__(
        self, model: Model, samples: Samples, normalization: Normalization, metrics: Sequence[Metric], kernels: Any
    ) -> None:
        self.metrics = metrics
        self._model, self._samples, self._kernels = model, samples, kernels
        self._inference = Inference(model, PASS_ROWS)
        self._x = empty((PASS_ROWS, model.inputs), model.dtype)
        self._affine = normalization.for_storage(samples.dtype, model.inputs, model.dtype)

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self._samples)

    def sums(self, comm: Comm | None) -> list[np.ndarray]:
        """Return every metric's sums over all samples.  *Collective* over `comm`; None for this process alone.

        Chunks go to the ranks in turn; their sums meet in one array with a row for each chunk, which is then added up
        in the order of the chunks, so that the result has the same bits for any number of ranks.
        """
        rank, size = (0, 1) if comm is None else (comm.rank, comm.size)
        chunks = -(-len(self._samples) // PASS_ROWS)
        table = np.zeros((chunks, sum(metric.size for metric in self.metrics)))
        for chunk in range(rank, chunks, size):
            self._chunk(chunk, table[chunk])
        if comm is not None and size > 1:
            comm.Allreduce(start_mpi().IN_PLACE, table)
        ends = np.cumsum([metric.size for metric in self.metrics])
        return np.split(table.sum(axis=0), ends[:-1])

    def __call__(self, comm: Comm | None) -> dict[str, float]:
        """Return the value of every metric, by name.  *Collective* over `comm`."""
        values = zip(self.metrics, self.sums(comm), strict=True)
        return {metric.name: metric.value(sums, len(self._samples)) for metric, sums in values}

    def _chunk(self, chunk: int, out: np.ndarray) -> None:
        begin, end = chunk * PASS_ROWS, min((chunk + 1) * PASS_ROWS, len(self._samples))
        x = self._x[: end - begin]
        features, rows = self._samples.features(begin, end)
        self._kernels.gather(features, rows, *self._affine, x)
        logits, targets = self._inference.logits(x), self._samples.targets(begin, end)
        loss, tally = self._model.loss, np.zeros(2)
        loss(logits, targets, 0.0, None, tally)
        seen = loss.predict(logits) if loss.task == "regression" else logits
        np.concatenate([metric.sums(seen, targets, tally) for metric in self.metrics], out=out)

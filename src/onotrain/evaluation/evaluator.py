"""Metrics of a model on a data set, computed by all ranks, with a result that does not depend on their number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onotrain._kernels import Kernels
from onotrain.data.normalization import Normalization
from onotrain.data.samples import Samples
from onotrain.data.target_scaling import TargetScaling
from onotrain.evaluation.forward_pass import PASS_ROWS, ForwardPass
from onotrain.evaluation.metrics import Metric
from onotrain.nn import Model
from onotrain.parallel.world import Comm, start_mpi

#: Memory for the sums of all chunks of one round, which a rank sends to the others [bytes].
TABLE_BYTES = 1 << 26


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
    scaling
        Of the targets: metrics are in the units of the data, the loss is that of the scaled ones.
    """

    def __init__(
        self, model: Model, samples: Samples, normalization: Normalization, metrics: Sequence[Metric], kernels: Kernels,
        scaling: TargetScaling | None = None,
    ) -> None:  # fmt: skip
        self.metrics = metrics
        self._loss, self._samples, self._scaling = model.loss, samples, scaling
        self._forward = ForwardPass(model, normalization, kernels)

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self._samples)

    def sums(self, comm: Comm | None) -> list[np.ndarray]:
        """Return every metric's sums over all samples.  *Collective* over `comm`; None for this process alone.

        Chunks go to the ranks in turn.  Every rank gets a table with a row for each chunk of a round, and adds it up in
        the order of the chunks, so that the result has the same bits for any number of ranks.
        """
        rank, size = (0, 1) if comm is None else (comm.rank, comm.size)
        ends = np.cumsum([metric.size for metric in self.metrics])
        chunks, step = -(-len(self._samples) // PASS_ROWS), max(1, TABLE_BYTES // (8 * int(ends[-1])))
        total = np.zeros(ends[-1])
        for begin in range(0, chunks, step):
            table = np.zeros((min(step, chunks - begin), len(total)))
            for row in range(rank, len(table), size):
                self._chunk(begin + row, table[row])
            if comm is not None and size > 1:
                comm.Allreduce(start_mpi().IN_PLACE, table)
            total += table.sum(axis=0)
        return np.split(total, ends[:-1])

    def __call__(self, comm: Comm | None) -> dict[str, float]:
        """Return the value of every metric, by name.  *Collective* over `comm`."""
        values = zip(self.metrics, self.sums(comm), strict=True)
        return {metric.name: metric.value(sums, len(self._samples)) for metric, sums in values}

    def _chunk(self, chunk: int, out: np.ndarray) -> None:
        begin, end = chunk * PASS_ROWS, min((chunk + 1) * PASS_ROWS, len(self._samples))
        logits, targets = self._forward.logits(*self._samples.features(begin, end)), self._samples.targets(begin, end)
        loss, loss_sums = self._loss, np.zeros(2)
        loss(logits, targets, 0.0, None, loss_sums)
        seen = loss.predict(logits) if loss.task == "regression" else logits
        if self._scaling is not None:
            seen, targets = self._scaling.undo(seen), self._scaling.undo(targets)
        np.concatenate([metric.sums(seen, targets, loss_sums) for metric in self.metrics], out=out)

"""Metrics of a model on a data set, computed by all ranks, with a result that does not depend on their number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from onotrain._kernels import Kernels
from onotrain.data.normalization import Normalization
from onotrain.data.samples import Samples
from onotrain.data.target_scaling import TargetScaling
from onotrain.data.weights import measured_weights
from onotrain.evaluation.forward_pass import PASS_ROWS, ForwardPass
from onotrain.evaluation.metrics import Measure
from onotrain.evaluation.ranking import Scores, check_size
from onotrain.evaluation.rows import OutputWeights, Rows
from onotrain.evaluation.statistics import Collection, Statistic
from onotrain.evaluation.warnings import warnings_of, watched
from onotrain.nn import Model
from onotrain.parallel.agreement import agreed
from onotrain.parallel.world import Comm, start_mpi

#: Memory for the sums of all chunks of one round, which a rank sends to the others [bytes].
TABLE_BYTES = 1 << 24

#: Chunks after which a collection may make less of what it has kept.
_COMPACT_EVERY = 256

#: What was summed or collected -> the sums, or what came of it.
Totals = dict[Any, Any]


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
    measures
        What to compute.
    kernels
        Kernels of the model's dtype.
    names
        Of the classes or outputs, for warnings; None: there are none.
    scaling
        Of the targets: metrics are in the units of the data, the loss is that of the scaled ones.
    output_weights
        How much each target counts in the loss, float64 ``(targets,)``; None: all alike.

    Raises
    ------
    UsageError
        A metric would keep too many scores, or the loss cannot leave out targets that are missing.
    """

    def __init__(
        self,
        model: Model,
        samples: Samples,
        normalization: Normalization,
        measures: Sequence[Measure],
        kernels: Kernels,
        *,
        names: Sequence[str] | None = None,
        scaling: TargetScaling | None = None,
        output_weights: np.ndarray | None = None,
    ) -> None:
        self.measures = measures
        #: What must not be overlooked in the last result.
        self.warnings: list[str] = []
        self._names, self._undo = names or (), None if scaling is None else scaling.undo
        origin = origin_of(samples, self._undo or np.asarray)
        self._watched = None if names is None else watched(model.loss.task, model.outputs, origin)
        self._output_weights = _output_weights(samples, output_weights, model.dtype)
        model.loss.check_weights(rows=False, outputs=self._output_weights.alike is not None)
        self._loss, self._samples = model.loss, samples
        self._forward = ForwardPass(model, normalization, kernels)
        for measure in measures:
            if isinstance(measure.statistic, Scores):
                check_size(measure.name, len(samples), model.outputs)

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self._samples)

    def totals(
        self,
        comm: Comm | None,
        statistics: Sequence[Statistic | Collection] | None = None,
        threshold: float | np.ndarray | None = None,
    ) -> Totals:
        """Return what all samples add up to.  *Collective* over `comm`; None for this process alone.

        Chunks go to the ranks in turn.  Every rank gets a table with a row of sums for each chunk of a round, and adds
        it up in the order of the chunks, so that the result has the same bits for any number of ranks.  What is
        collected goes to the first rank, in the order of the chunks too.

        Parameters
        ----------
        comm
            The ranks.
        statistics
            What is wanted; default: the statistics of the measures.
        threshold
            See `Rows`.

        Returns
        -------
        dict
            By statistic, float64 ``(size,)``; by collection, its result.
        """
        rank, size = (0, 1) if comm is None else (comm.rank, comm.size)
        wanted = dict.fromkeys([measure.statistic for measure in self.measures] if statistics is None else statistics)
        summed = [each for each in wanted if isinstance(each, Statistic)]
        kept: dict[Collection, list[tuple[int, Any]]] = {c: [] for c in wanted if isinstance(c, Collection)}
        ends = np.cumsum([statistic.size for statistic in summed], dtype=np.int64)
        width = int(ends[-1]) if len(ends) else 0
        chunks, step = -(-len(self._samples) // PASS_ROWS), max(1, TABLE_BYTES // (8 * max(1, width)))
        total = np.zeros(width)
        for begin in range(0, chunks, step):
            table = np.zeros((min(step, chunks - begin), width))
            for row in range(rank, len(table), size):
                rows = self._rows(begin + row, threshold)
                if summed:
                    np.concatenate([statistic.sums(rows) for statistic in summed], out=table[row])
                for collection, parts in kept.items():
                    parts.append((begin + row, collection.keep(rows)))
                    if len(parts) % _COMPACT_EVERY == 0:
                        _compact(collection, parts)
            if comm is not None and size > 1:
                comm.Allreduce(start_mpi().IN_PLACE, table)
            table[0] += total  # so that sums do not depend on how many chunks a round has
            total = table.sum(axis=0)
        sums = dict(zip(summed, np.split(total, ends[:-1]), strict=True)) if summed else {}
        return {**sums, **{collection: _gathered(comm, collection, parts) for collection, parts in kept.items()}}

    def values(self, totals: Totals) -> dict[str, float]:
        """Return the value of every measure, by name, from totals of this evaluator."""
        return {measure.name: measure.value(totals[measure.statistic]) for measure in self.measures}

    def __call__(self, comm: Comm | None) -> dict[str, float]:
        """Return the value of every measure, by name, and note warnings.  *Collective* over `comm`."""
        statistics = [measure.statistic for measure in self.measures]
        totals = self.totals(comm, statistics if self._watched is None else [*statistics, self._watched])
        scaled = self._undo is not None or self._loss.options.unfit_scaling("standard") is not None
        self.warnings = warnings_of(self._watched, totals.get(self._watched), self._names, scaled=scaled)
        return self.values(totals)

    def _rows(self, chunk: int, threshold: float | np.ndarray | None) -> Rows:
        begin, end = chunk * PASS_ROWS, min((chunk + 1) * PASS_ROWS, len(self._samples))
        logits = self._forward.logits(*self._samples.features(begin, end))
        targets, weights = self._samples.targets(begin, end), self._samples.weights(begin, end)
        return Rows(self._loss, logits, targets, weights, threshold, self._undo, self._output_weights)


def origin_of(samples: Samples, in_units: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the first target of each output that was measured, in the units of the data, ``(outputs,)``.

    Of one that is never measured it is 0.
    """
    origin = np.atleast_1d(in_units(samples.targets(0, 1))[0])
    for begin in range(1, len(samples), PASS_ROWS):
        if not np.isnan(origin).any():
            break
        for row in in_units(samples.targets(begin, min(begin + PASS_ROWS, len(samples)))):
            origin = np.where(np.isnan(origin), row, origin)
    return np.nan_to_num(origin)


def _output_weights(samples: Samples, own: np.ndarray | None, dtype: np.dtype) -> OutputWeights:
    """Return how much each output counts in the loss of these samples, so that its mean is over what was measured."""
    if samples.targets(0, 1).ndim == 1:
        return OutputWeights()
    places = [(begin, min(begin + PASS_ROWS, len(samples))) for begin in range(0, len(samples), PASS_ROWS)]
    alike = measured_weights(own, ((samples.targets(*place), None) for place in places))
    weighted = measured_weights(own, ((samples.targets(*place), samples.weights(*place)) for place in places))
    return OutputWeights(*(None if found is None else found.astype(dtype) for found in (alike, weighted)))


def _compact(collection: Collection, parts: list[tuple[int, Any]]) -> None:
    """Let a collection make less of what was kept."""
    kept = [part for _, part in parts]
    fewer = collection.compact(kept)
    if fewer is not kept:
        parts[:] = [(0, part) for part in fewer]


def _gathered(comm: Comm | None, collection: Collection, parts: list[tuple[int, Any]]) -> Any:
    """Return a collection's result on all ranks.  *Collective* over `comm`."""
    if comm is None or comm.size == 1:
        return collection.result([part for _, part in parts])
    everything, result = comm.gather(parts, root=0), None
    with agreed(comm):
        if everything is not None:
            in_order = sorted((part for rank in everything for part in rank), key=lambda part: part[0])
            result = collection.result([part for _, part in in_order])
    return comm.bcast(result, root=0)

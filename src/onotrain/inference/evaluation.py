"""All metrics of a trained network on labelled data."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from onotrain.config import metrics as known
from onotrain.data import DataSpec
from onotrain.data.reading import Progress, no_progress
from onotrain.data.samples import Samples
from onotrain.data.weights import output_weights
from onotrain.errors import UsageError
from onotrain.evaluation.class_scores import PerClass
from onotrain.evaluation.confusion import Confusion, ConfusionCounts
from onotrain.evaluation.curves import CurvesOf, PairsOf
from onotrain.evaluation.evaluator import Evaluator, origin_of
from onotrain.evaluation.metrics import has_confusion, make_metrics
from onotrain.evaluation.ranking import Scores, check_size
from onotrain.evaluation.value_scores import PerOutput
from onotrain.evaluation.warnings import warnings_of, watched
from onotrain.inference.evaluation_result import ClassScore, Evaluation, OutputScore
from onotrain.inference.loading import connect, load_everywhere, together
from onotrain.inference.predictor import Predictor
from onotrain.inference.source import Source, Wanted, open_source
from onotrain.known_names import Precision
from onotrain.parallel import threads
from onotrain.parallel.world import World

__all__ = ["ClassScore", "Evaluation", "OutputScore", "Threshold", "evaluate"]

#: A probability, or how to choose one; None: what is more probable.
Threshold = float | Literal["best_f1"] | None
#: Scores (samples x classes) beyond which measures of their order are computed only if they are asked for.
_FEW_SCORES = 1 << 22


def evaluate(
    run: str | os.PathLike[str],
    data: DataSpec,
    metrics: Sequence[str] | None = None,
    *,
    stream: Wanted = "auto",
    threshold: Threshold = None,
    units: Mapping[str, str] | None = None,
    drawable: bool = False,
    precision: Precision = "full",
    reading: Progress = no_progress,
) -> Evaluation:
    """Evaluate the network of `run` on all ranks of the job; the numbers are the same for any number of them.

    *Collective* if a launcher started several ranks; without one no MPI is started.

    Parameters
    ----------
    run
        Run directory or checkpoint file.
    data
        Samples with targets.
    metrics
        Names of metrics; default: all of the task, each class or output, and the confusion matrix, which is among
        metrics that are asked for if ``confusion`` is.  The loss always comes first.
    stream
        Leave an HDF5 file on the disk, and let each rank read what it evaluates; ``auto``: if it is large.
    threshold
        Probability above which the answer is yes, for networks that answer yes or no or tell two classes apart;
        ``best_f1``: the one with the largest F1 on these very data, for each label its own.
    units
        Of outputs of a regression, by name; default: as in the training file.
    drawable
        Keep what pictures are made of, up to `onotrain.evaluation.ranking.MOST_SCORES` numbers.
    precision
        What matrix products are computed in, as for `onotrain.load`.
    reading
        Learns, on rank 0, how many files have been read.

    Returns
    -------
    Evaluation
        On all ranks.

    Raises
    ------
    UsageError
        There is no such run, or a metric, a threshold or the precision does not fit the network.
    CheckpointError, DataError, ResourceError
        Network or data cannot be read or do not fit each other; a label is outside the classes.
    PlatformError
        The CPU of a rank does not fit the precision.
    """
    world = connect()
    predictor, warnings = load_everywhere(world, os.fspath(run), precision)
    loss, names = predictor.model.loss, predictor.output.shown_names
    with together(world):  # before the data are read
        wanted = None if metrics is None else [name for name in metrics if name != "confusion"]
        make_metrics(wanted or (), loss, np.zeros(loss.targets), of=names, weighted=True)
        _check_threshold(predictor, threshold)
        if "confusion" in (metrics or ()) and not has_confusion(loss.task):
            raise UsageError(f"metric 'confusion' needs one class a sample, which loss {loss.name!r} has not")
        known_units = _units(predictor, units or {})
    with ExitStack() as stack:
        source = open_source(stack, world, predictor.metadata, data, stream, labelled=True, progress=reading)
        with together(world):
            chosen = _default(predictor, source.samples) if wanted is None else wanted
            tables = metrics is None or "confusion" in metrics
            wide = tables or drawable
            job = _Job(world, predictor, source, chosen, tables=wide, threshold=threshold, drawable=drawable)
            if threshold == "best_f1":
                check_size("best_f1", len(source.samples), loss.outputs)
            if drawable:
                check_size("--plot", len(source.samples), loss.outputs)
        with threads.limit(1):
            return replace(job.run(warnings), output_units=known_units)


class _Job:
    """One evaluation: what is measured, and what is made of it.

    Parameters
    ----------
    world, predictor, source
        Of the evaluation.
    names
        Of the metrics.
    tables
        Whether each class, each output and the confusion matrix are wanted too.
    threshold
        As it was asked for.
    drawable
        Whether what pictures are made of is kept.
    """

    def __init__(
        self,
        world: World | None,
        predictor: Predictor,
        source: Source,
        names: Sequence[str],
        *,
        tables: bool,
        threshold: Threshold,
        drawable: bool,
    ) -> None:
        self._comm, self._predictor, self._source = None if world is None else world.comm, predictor, source
        self._tables, self._threshold, self._drawable = tables, threshold, drawable
        self._in_bf16 = predictor.kernels.precision == "bf16"
        loss, samples, metadata = predictor.model.loss, source.samples, predictor.metadata
        origin, outputs = origin_of(samples, metadata.codec.in_units), predictor.output.shown_names
        self._watched = watched(loss.task, loss.outputs, origin)
        measures = make_metrics(
            names, loss, origin, of=outputs,
            weighted=samples.weights(0, 1) is not None, threshold=threshold is not None,
        )  # fmt: skip
        self._evaluator = Evaluator(
            predictor.model, samples, metadata.normalization, measures, predictor.kernels,
            scaling=metadata.codec.scaling,
            output_weights=output_weights(getattr(metadata.config.loss, "output_weights", None), outputs, source.name),
        )  # fmt: skip

    def run(self, warnings: Sequence[str]) -> Evaluation:
        """Return the evaluation.  *Collective*."""
        evaluator = self._evaluator
        used = self._best() if self._threshold == "best_f1" else self._threshold
        task, names, watched = self._predictor.model.loss.task, self._predictor.output.shown_names, self._watched
        confusion = Confusion(len(names)) if self._tables and has_confusion(task) else None
        drawn = (PairsOf() if task == "regression" else CurvesOf(names)) if self._drawable else None
        others = [each for each in (watched, confusion, drawn) if each is not None]
        totals = evaluator.totals(self._comm, [*(m.statistic for m in evaluator.measures), *others], used)
        sums = None if watched is None else totals[watched]
        return Evaluation(
            source=self._source.name,
            samples=evaluator.samples,
            metrics=evaluator.values(totals),
            threshold=tuple(used.tolist()) if isinstance(used, np.ndarray) else used,
            warnings=(*warnings, *self._warnings(evaluator, sums)),
            notes=(*self._source.notes, *(["matrix products are computed in bf16"] if self._in_bf16 else [])),
            drawable=totals.get(drawn),
            **(self._of_values(sums) if task == "regression" else self._of_classes(sums, totals.get(confusion))),
        )

    def _best(self) -> float | np.ndarray:
        """Return the threshold with the largest F1, for several labels one each.  *Collective*."""
        scores = Scores()
        best = self._evaluator.totals(self._comm, [scores])[scores].best_threshold
        best = np.where(np.isnan(best), 0.5, best)  # of labels that never occur
        return best if self._predictor.output.task == "multilabel" else float(best[-1])

    def _warnings(self, evaluator: Evaluator, sums: np.ndarray | None) -> list[str]:
        if sums is None:
            return []
        names = self._predictor.output.shown_names
        loss = self._predictor.model.loss.options
        scaled = self._predictor.metadata.codec.scaling is not None or loss.unfit_scaling("standard") is not None
        return warnings_of(self._watched, sums, names, scaled=scaled)

    def _of_classes(self, sums: np.ndarray | None, counts: ConfusionCounts | None) -> dict[str, Any]:
        if counts is None or sums is None:
            return {}
        names = self._predictor.output.shown_names
        return {"class_names": names, "counts": counts, "per_class": PerClass.of(sums)}

    def _of_values(self, sums: np.ndarray | None) -> dict[str, Any]:
        if sums is None or not self._tables:
            return {}
        return {"output_names": self._predictor.output.shown_names, "per_output": PerOutput.of(sums)}


def _check_threshold(predictor: Predictor, threshold: Threshold) -> None:
    """Refuse a threshold that is no probability, or a network that has no use for one."""
    if isinstance(threshold, str):
        if threshold != "best_f1":
            raise UsageError(f"the threshold is {threshold!r}, expected a probability or best_f1")
        predictor.output.check_threshold()
    else:
        predictor.output.with_threshold(threshold)


def _units(predictor: Predictor, given: Mapping[str, str]) -> tuple[str, ...]:
    """Return the unit of each output of a regression: as given, or as in the training file; empty if none is known."""
    names, has_units = predictor.output.shown_names, predictor.output.regression
    for name in given:
        if not has_units or name not in names:
            expected = f"one of {', '.join(names[:20])}" if has_units else "none: classes have no units"
            raise UsageError(f"a unit is given for {name!r}, expected {expected}")
    stored = predictor.metadata.target_units or ()
    known = dict(zip(names, stored, strict=False)) if len(stored) == len(names) else {}
    units = tuple({**known, **given}.get(name, "") for name in names)
    return units if has_units and any(units) else ()


def _default(predictor: Predictor, samples: Samples) -> list[str]:
    """Return the task's metrics and those of the configuration; where there are weights, weighted ones too."""
    loss, configured = predictor.model.loss, predictor.metadata.config.training.metrics
    weighted = samples.weights(0, 1) is not None
    names = list(known.shown(loss.task, loss.name))
    if len(samples) * loss.outputs > _FEW_SCORES:
        names = [name for name in names if name not in ("roc_auc", "average_precision")]
    names += ["top_5"] if loss.task == "multiclass" and loss.outputs > 5 else []
    names += [f"weighted_{name}" for name in names] if weighted else []
    names += [] if isinstance(configured, str) else configured
    return [name for name in names if weighted or not name.startswith("weighted_")]

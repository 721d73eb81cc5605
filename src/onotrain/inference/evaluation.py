"""All metrics of a trained network on labelled data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from onotrain.config.metrics import automatic
from onotrain.data import DataSpec
from onotrain.evaluation.evaluator import Evaluator
from onotrain.evaluation.metrics import has_confusion, make_metrics
from onotrain.inference.loading import connect, load_everywhere, together
from onotrain.inference.predictor import Predictor
from onotrain.inference.source import Stream, open_source
from onotrain.nn.losses import Loss
from onotrain.parallel import threads


@dataclass(frozen=True)
class ClassScore:
    """How well one class is recognised; NaN where there is nothing to divide by."""

    name: str
    precision: float
    recall: float
    f1: float
    #: Number of samples of the class.
    support: int


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found out.

    Parameters
    ----------
    source
        Name of the data.
    samples
        Number of samples.
    metrics
        Values by name.
    class_names
        Names or numbers of the classes; empty where the network does not tell classes apart.
    confusion
        int64 ``(classes, classes)``: number of samples by true class (row) and predicted class (column); None likewise.
    warnings
        To be shown to the user.
    """

    source: str
    samples: int
    metrics: dict[str, float]
    class_names: tuple[str, ...]
    confusion: np.ndarray | None
    warnings: tuple[str, ...] = ()

    @property
    def scores(self) -> list[ClassScore]:
        """Precision, recall and F1 of every class."""
        if self.confusion is None:
            return []
        right = np.diagonal(self.confusion).astype(np.float64)
        support, predicted = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            precision, recall, f1 = right / predicted, right / support, 2 * right / (support + predicted)
        columns = (a.tolist() for a in (precision, recall, f1, support))
        return [ClassScore(*row) for row in zip(self.class_names, *columns, strict=True)]

    def to_mapping(self) -> dict[str, Any]:
        """Return it as data for JSON; what is not a number is None."""
        mapping: dict[str, Any] = {
            "data": self.source,
            "samples": self.samples,
            "metrics": {name: _number(value) for name, value in self.metrics.items()},
        }
        if self.confusion is not None:
            mapping["classes"] = [
                {
                    "name": score.name,
                    "precision": _number(score.precision),
                    "recall": _number(score.recall),
                    "f1": _number(score.f1),
                    "support": score.support,
                }
                for score in self.scores
            ]
            mapping["confusion"] = self.confusion.tolist()
        return mapping


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None


def evaluate(
    run: str | os.PathLike[str], data: DataSpec, metrics: Sequence[str] | None = None, *, stream: Stream = "auto"
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
        Names of metrics; default: all of the task.  The loss always comes first; a confusion matrix is always added.
    stream
        Leave an HDF5 file on the disk, and let each rank read what it evaluates; ``auto``: if it is large.

    Returns
    -------
    Evaluation
        On all ranks.

    Raises
    ------
    UsageError
        There is no such run, or a metric that does not fit the task.
    CheckpointError, DataError, ResourceError
        Network or data cannot be read or do not fit each other; a label is outside the classes.
    """
    world = connect()
    predictor, warnings = load_everywhere(world, os.fspath(run))
    loss = predictor.model.loss
    with together(world):
        make_metrics(_names(loss, predictor, metrics), loss, np.zeros(loss.outputs))  # before the data are read
    with ExitStack() as stack:
        source = open_source(stack, world, predictor.metadata, data, stream, labelled=True)
        samples = source.samples
        metadata = predictor.metadata
        origin = metadata.codec.in_units(samples.targets(0, 1))[0]
        found = make_metrics(_names(loss, predictor, metrics), loss, origin)
        evaluator = Evaluator(
            predictor.model, samples, metadata.normalization, found, predictor.kernels, metadata.codec.scaling
        )
        with threads.limit(1):
            sums = evaluator.sums(None if world is None else world.comm)
    values = {m.name: m.value(s, len(samples)) for m, s in zip(found, sums, strict=True) if m.name != "confusion"}
    matrix = next((s for m, s in zip(found, sums, strict=True) if m.name == "confusion"), None)
    names = () if matrix is None else predictor.output.shown_names
    confusion = None if matrix is None else matrix.astype(np.int64).reshape(len(names), len(names))
    return Evaluation(source.name, len(samples), values, names, confusion, tuple(warnings))


def _names(loss: Loss, predictor: Predictor, wanted: Sequence[str] | None) -> list[str]:
    """Return the names of the metrics to compute: those wanted, or those of the task and of the configuration."""
    names = list(wanted or ())
    if wanted is None:
        configured = predictor.metadata.config.training.metrics
        top = ["top_5"] if loss.task == "multiclass" and loss.outputs > 5 else []
        names = [*automatic(loss.task), *top, *([] if isinstance(configured, str) else configured)]
    names = [name for name in names if name != "confusion"]
    return [*names, "confusion"] if has_confusion(loss.task) else names

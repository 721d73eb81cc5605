"""Metrics by their names: each is a formula of a statistic, which ranks add up from their samples.

So any split of the samples over ranks has the same value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from onotrain.config import metrics as known
from onotrain.config.options import Task
from onotrain.errors import UsageError
from onotrain.evaluation import class_scores, value_scores
from onotrain.evaluation.ranking import Ranking, Scores
from onotrain.evaluation.rows import Rows
from onotrain.evaluation.statistics import (
    CALIBRATION_BINS,
    Calibration,
    ClassCounts,
    Collection,
    Errors,
    Means,
    ProbabilityErrors,
    QuantileErrors,
    Statistic,
    TopRight,
)
from onotrain.known_names import place_of
from onotrain.nn.losses import Loss


class Metric(Protocol):
    """One metric of another package; ``size`` sums describe any set of rows.

    It is a class that is called with the `Loss` and any row of the targets.  It has these members, and as attributes of
    the class ``tasks``, a tuple of what networks must do for it (see `Loss.task`), and ``mode``, ``min`` or ``max``; an
    entry point of the group ``onotrain.metrics`` gives it its name.  It has no weighted form.
    """

    name: str
    size: int

    def sums(self, logits: np.ndarray, targets: np.ndarray, loss_sums: np.ndarray) -> np.ndarray:
        """Return the float64 sums over these rows.

        Parameters
        ----------
        logits
            Shape ``(r, outputs)``; of a regression what is predicted, ``(r, targets)``: of quantiles the one that is
            nearest to the median, of a distribution the mean.
        targets
            As the loss takes them; NaN where one was not measured, with ``data.missing_targets: mask`` alone.
        loss_sums
            Sum of losses and number of right rows.
        """
        ...

    def value(self, sums: np.ndarray, samples: int) -> float:
        """Return the metric from the sums over `samples` rows."""
        ...


@dataclass(frozen=True)
class Measure:
    """A metric that is made: what is summed or collected, and the value of that."""

    name: str
    statistic: Statistic | Collection
    value: Callable[[Any], float]


class Subject(NamedTuple):
    """What metrics are made for."""

    loss: Loss
    #: Any target of each output.
    origin: np.ndarray
    #: Names of the classes (two for ``binary``), labels or outputs; their numbers where they have none.
    names: tuple[str, ...]
    #: Whether answers are judged by a threshold of their own.
    threshold: bool = False

    @property
    def classes(self) -> int:
        """Number of classes or labels."""
        return max(2, self.loss.outputs) if has_confusion(self.loss.task) else self.loss.outputs


@dataclass(frozen=True, eq=False)
class _Foreign(Statistic):
    """The sums of a metric of another package, and their number of samples."""

    metric: Metric

    @property
    def size(self) -> int:
        """One more than those of the metric."""
        return int(self.metric.size) + 1

    def sums(self, rows: Rows) -> np.ndarray:
        """Return the metric's sums, then the number of rows."""
        seen = np.ascontiguousarray(rows.predictions) if rows.loss.task == "regression" else rows.logits
        return np.append(self.metric.sums(seen, rows.values, rows.loss_sums), len(rows))

    def value(self, sums: np.ndarray) -> float:
        """Return what the metric makes of its sums."""
        return self.metric.value(sums[:-1], int(sums[-1]))


_Made = tuple[Statistic | Collection, Callable[[Any], float]]
#: Makes the statistic and the formula of a metric: of what, how it is called, and the number of the class it is about.
_Make = Callable[[Subject, known.Name, "int | None"], _Made]


def _mean(entry: int, over: int) -> _Make:
    def make(subject: Subject, name: known.Name, number: int | None) -> _Made:
        statistic = Means(name.weighted, subject.threshold and entry == 2)
        return statistic, lambda sums: float(sums[entry]) / float(sums[over])

    return make


def _top_k(subject: Subject, name: known.Name, number: int | None) -> _Made:
    return TopRight(name.k or 1, name.weighted), lambda sums: float(sums[1]) / float(sums[0])


def _counts(formula: Callable[[np.ndarray], float]) -> _Make:
    return lambda subject, name, number: (ClassCounts(subject.classes, name.weighted), formula)


def _score(ratio: str) -> _Make:
    """Return what makes a macro mean over classes, or the score of one class."""

    def make(subject: Subject, name: known.Name, number: int | None) -> _Made:
        each = class_scores.RATIOS[ratio]
        labels = subject.loss.task == "multilabel"
        formula = class_scores.macro(each, labels=labels) if number is None else class_scores.of_class(each, number)
        return ClassCounts(subject.classes, name.weighted), formula

    return make


def _ranking(entry: str) -> _Make:
    """Return what makes a measure of scores: the mean over classes that have one, or that of one class."""

    def make(subject: Subject, name: known.Name, number: int | None) -> _Made:
        two = has_confusion(subject.loss.task) and subject.classes == 2
        if number is None and two:  # the second class is the one that is looked for
            number = 1
        if subject.loss.task == "binary":
            if number == 0:
                raise UsageError(
                    f"metric {entry}[{name.of}]: the network has a score of {subject.names[1]!r} alone",
                    hint=f"use {entry}[{subject.names[1]}]",
                )
            number = 0
        return Scores(name.weighted), partial(_of_ranking, entry, slice(None) if number is None else number)

    return make


def _of_ranking(entry: str, chosen: Any, ranking: Ranking) -> float:
    values = np.atleast_1d(getattr(ranking, entry)[chosen])
    found = values[~np.isnan(values)]
    return float(found.mean()) if len(found) else float("nan")


def _probabilities(entry: int) -> _Make:
    return lambda subject, name, number: (
        ProbabilityErrors(name.weighted),
        lambda sums: float(sums[entry]) / float(sums[0]),
    )


def _calibration(subject: Subject, name: known.Name, number: int | None) -> _Made:
    def value(sums: np.ndarray) -> float:
        count, confidence, right = sums.reshape(3, CALIBRATION_BINS)
        return float(np.abs(confidence - right).sum() / count.sum())

    return Calibration(name.weighted), value


def _values(entry: str, mean: Callable[[np.ndarray], float]) -> _Make:
    def make(subject: Subject, name: known.Name, number: int | None) -> _Made:
        statistic = errors(subject.origin, name.weighted)
        if number is None:
            return statistic, mean
        return statistic, lambda sums: float(getattr(value_scores.PerOutput.of(sums), entry)[number])

    return make


def _quantiles(entry: int) -> _Make:
    """Return what makes a mean over all targets, or over one of them."""

    def make(subject: Subject, name: known.Name, number: int | None) -> _Made:
        statistic = QuantileErrors(subject.loss.options.quantiles, subject.loss.targets, name.weighted)

        def value(sums: np.ndarray) -> float:
            each = sums.reshape(3, -1)[:, slice(None) if number is None else [number]].sum(axis=1)
            return float(each[entry] / each[0]) if each[0] else float("nan")

        return statistic, value

    return make


_BUILT_IN: dict[str, _Make] = {
    "loss": _mean(1, over=0),
    "accuracy": _mean(2, over=3),
    "top_k": _top_k,
    "balanced_accuracy": _counts(class_scores.balanced_accuracy),
    **{ratio: _score(ratio) for ratio in class_scores.RATIOS},
    **{f"{ratio}_micro": _counts(class_scores.micro(made)) for ratio, made in class_scores.RATIOS.items()},
    **{f"{ratio}_weighted": _counts(class_scores.by_support(made)) for ratio, made in class_scores.RATIOS.items()},
    "mcc": _counts(class_scores.matthews),
    "roc_auc": _ranking("roc_auc"),
    "average_precision": _ranking("average_precision"),
    "log_loss": _probabilities(1),
    "brier": _probabilities(2),
    "calibration_error": _calibration,
    "mae": _values("mae", value_scores.mae),
    "rmse": _values("rmse", value_scores.rmse),
    "r2": _values("r2", value_scores.r2),
    "pinball": _quantiles(1),
    "coverage": _quantiles(2),
}


def errors(origin: np.ndarray, weighted: bool = False) -> Errors:
    """Return the statistic of errors of values; `origin` is any target of each output."""
    return Errors(tuple(np.asarray(origin, np.float64).reshape(-1).tolist()), weighted)


def make_metrics(
    names: Sequence[str],
    loss: Loss,
    origin: np.ndarray,
    *,
    of: Sequence[str] | None = None,
    weighted: bool = False,
    threshold: bool = False,
) -> list[Measure]:
    """Return the metrics called `names`, the loss always among them.

    Parameters
    ----------
    names
        See `onotrain.config.metrics`.
    loss
        Of the network.
    origin
        Any target of each output.
    of
        Names of the classes (two for ``binary``), labels or outputs; None for their numbers.
    weighted
        Whether the samples have weights.
    threshold
        Whether answers are judged by another threshold than a probability of one half.

    Raises
    ------
    UsageError
        A name is unknown or does not fit the task, there is no such class or output or there are no weights, or its
        package does not work.
    """
    count = 2 if loss.task == "binary" else loss.targets
    subject = Subject(loss, origin, tuple(of or map(str, range(count))), threshold)
    return [_measure(name, subject, weighted) for name in dict.fromkeys(("loss", *names))]


def has_confusion(task: Task) -> bool:
    """Tell whether a network tells classes apart of which a sample has one."""
    return task in ("multiclass", "binary")


def _measure(name: str, subject: Subject, weighted: bool) -> Measure:
    loss, facts, parsed = subject.loss, known.facts(name), known.parse(name)
    if facts is None or not facts.fit(loss.task, loss.name) or (known.top_k(name) or 0) > loss.outputs:
        raise _unfit(name, loss)
    if parsed is None:
        foreign = _Foreign(known.PLUGINS.load(name)(loss, subject.origin))
        return Measure(name, foreign, foreign.value)
    if parsed.weighted and not weighted:
        raise UsageError(
            f"metric {name!r} needs weights of the samples, and these have none",
            hint=f"name their column with data.weights, or use {name.removeprefix('weighted_')}",
        )
    statistic, value = _BUILT_IN[parsed.base](subject, parsed, _number(name, parsed, subject))
    return Measure(name, statistic, value)


def _number(name: str, parsed: known.Name, subject: Subject) -> int | None:
    """Return the number of the class, label or output that a metric is about; None for all."""
    if parsed.of is None:
        return None
    place = place_of(parsed.of, subject.names)
    if place is None:
        kind = {"regression": "output", "multilabel": "label"}.get(subject.loss.task, "class")
        shown = ", ".join(subject.names[:10]) + (", ..." if len(subject.names) > 10 else "")
        raise UsageError(f"metric {name!r}: there is no {kind} {parsed.of!r}; expected one of {shown}")
    return place


def _unfit(name: str, loss: Loss) -> UsageError:
    """Return the error of a metric that is unknown, broken, or without a meaning for the task."""
    broken = known.broken(name)
    if broken is not None:
        return UsageError(f"metric {name!r}: {broken}")
    fitting = [each for each in known.built_in(loss.task, loss.name) if known.top_k(each) is None]
    return UsageError(
        f"metric {name!r} does not fit loss {loss.name!r} with {loss.outputs} output(s)",
        hint=f"use some of: {', '.join(fitting)}"
        + (f", top_1 to top_{loss.outputs}" if loss.task == "multiclass" else ""),
    )

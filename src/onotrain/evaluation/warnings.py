"""What a person must not overlook in the figures of a network: that it has learned nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onotrain.config.options import Task
from onotrain.evaluation.class_scores import PerClass
from onotrain.evaluation.metrics import errors, has_confusion
from onotrain.evaluation.statistics import ClassCounts, Statistic
from onotrain.evaluation.value_scores import PerOutput
from onotrain.text import figure

#: Names of a list in a message.
_MOST_NAMES = 5


def watched(task: Task, outputs: int, origin: np.ndarray) -> Statistic | None:
    """Return the sums that warnings are made of, None without warnings; `origin` is any target of each output."""
    if has_confusion(task):
        return ClassCounts(max(2, outputs))
    return errors(origin) if task == "regression" else None


def warnings_of(
    statistic: Statistic | None, sums: np.ndarray | None, names: Sequence[str], *, scaled: bool = False
) -> list[str]:
    """Return warnings, each with what it means and what to do.

    Parameters
    ----------
    statistic
        Of `watched`.
    sums
        Its sums over all samples; None if there is no statistic.
    names
        Of the classes or outputs.
    scaled
        Whether targets are scaled already, or cannot be, so that this is no advice.
    """
    if statistic is None or sums is None:
        return []
    if isinstance(statistic, ClassCounts):
        found = [_one_class(PerClass.of(sums), names), _few_samples(PerClass.of(sums), names)]
    else:
        found = [_worse_than_mean(sums, names, scaled=scaled), _constant(sums, names)]
    return [warning for warning in found if warning is not None]


def _few_samples(counts: PerClass, names: Sequence[str]) -> str | None:
    few = np.flatnonzero(counts.support < 2)
    if not len(few) or counts.samples < 2:
        return None
    shown = ", ".join(f"{names[number]!r} ({int(counts.support[number])})" for number in few[:_MOST_NAMES])
    more = f" and {len(few) - _MOST_NAMES} more" if len(few) > _MOST_NAMES else ""
    return (
        f"classes with fewer than two of these samples: {shown}{more}; metrics say nothing of them.  What to do: add "
        "samples, hold back a larger part, or join classes that are alike"
    )


def _constant(sums: np.ndarray, names: Sequence[str]) -> str | None:
    constant = [names[int(number)] for number in np.flatnonzero(np.isnan(PerOutput.of(sums).r2))]
    if not constant:
        return None
    what = "is the mean over the other outputs" if len(constant) < len(names) else "has no value"
    return (
        f"r2 {what}: the targets of {', '.join(constant[:_MOST_NAMES])} do not vary in these samples, or are missing.  "
        "What to do: go by mae or rmse, or take samples in which they vary"
    )


def _one_class(counts: PerClass, names: Sequence[str]) -> str | None:
    predicted = np.flatnonzero(counts.predicted)
    if len(predicted) != 1 or np.count_nonzero(counts.support) < 2:
        return None
    number = int(predicted[0])
    share = counts.support[number] / counts.samples
    return (
        f"ALL PREDICTIONS ARE ONE CLASS: each of {int(counts.samples):,} samples is taken for class {names[number]!r}, "
        f"right for {figure(share)} of them, and that is all the accuracy says.  The network tells no classes apart.  "
        "What to do: loss.class_weights: balanced where classes are rare, early stopping by "
        "validation_balanced_accuracy or validation_f1, a lower learning rate, normalised features"
    )


def _worse_than_mean(sums: np.ndarray, names: Sequence[str], *, scaled: bool) -> str | None:
    each = PerOutput.of(sums).r2
    bad = np.flatnonzero(each < 0)
    if not len(bad):
        return None
    shown = ", ".join(f"{names[number]} ({figure(each[number])})" for number in bad[:_MOST_NAMES])
    more = f" and {len(bad) - _MOST_NAMES} more" if len(bad) > _MOST_NAMES else ""
    advice = (
        "train longer, change the learning rate, or see whether the features say anything about these targets"
        if scaled
        else "scale the targets (data.normalize_targets: standard), train longer, or change the learning rate"
    )
    return (
        f"R2 IS BELOW 0 for {shown}{more}: the mean of the targets would be a better prediction than the network's.  "
        f"What to do: {advice}"
    )

"""Names of the metrics: for which tasks each is, and whether more of it is better."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args

from onotrain.config.options import Task
from onotrain.config.plugins import PluginError, Plugins
from onotrain.config.wording import any_of

Mode = Literal["min", "max"]


class Facts(NamedTuple):
    """What is known of a metric before anything is measured."""

    #: What networks must do for it to have a meaning.
    tasks: tuple[Task, ...]
    #: Whether less or more is better; None: neither.
    mode: Mode | None = "min"
    #: Whether it is measured after every epoch if no metrics are asked for.
    automatic: bool = False
    #: Whether `onotrain evaluate` shows it if no metrics are asked for.
    shown: bool = True
    #: Whether ``name[class]``, of a regression ``name[output]``, is a metric too.
    of_one: bool = False
    #: Names of the losses that it is for; empty: all.
    losses: tuple[str, ...] = ()

    def fit(self, task: Task, loss: str) -> bool:
        """Return whether the metric has a meaning for a network of this task, trained with this loss."""
        return task in self.tasks and (not self.losses or loss in self.losses)


class Name(NamedTuple):
    """A metric's name, taken apart: ``weighted_f1[rose]``, ``top_5``."""

    #: Key of the table; ``top_k`` for any number k.
    base: str
    #: Whether samples count by their weights.
    weighted: bool = False
    #: The class, label or output in brackets.
    of: str | None = None
    #: Of ``top_k``.
    k: int | None = None


_ALL: tuple[Task, ...] = get_args(Task)
_VALUES: tuple[Task, ...] = ("regression",)
_CLASSES = tuple(task for task in _ALL if task not in _VALUES)
_ONE_CLASS: tuple[Task, ...] = ("multiclass", "binary")
_TOP_K = re.compile(r"top_([1-9][0-9]{0,8})")
_NAME = re.compile(r"(weighted_)?([^\[\]]+)(?:\[(.+)\])?")

_BUILT_INS: dict[str, Facts] = {
    "loss": Facts(_ALL, automatic=True),
    "accuracy": Facts(_CLASSES, "max", automatic=True),
    "top_k": Facts(("multiclass",), "max", shown=False),
    "balanced_accuracy": Facts(_ONE_CLASS, "max"),
    "precision": Facts(_CLASSES, "max", of_one=True),
    "precision_micro": Facts(_CLASSES, "max", shown=False),
    "precision_weighted": Facts(_CLASSES, "max", shown=False),
    "recall": Facts(_CLASSES, "max", of_one=True),
    "recall_micro": Facts(_CLASSES, "max", shown=False),
    "recall_weighted": Facts(_CLASSES, "max", shown=False),
    "f1": Facts(_CLASSES, "max", of_one=True),
    "f1_micro": Facts(_CLASSES, "max", shown=False),
    "f1_weighted": Facts(_CLASSES, "max", shown=False),
    "mcc": Facts(_ONE_CLASS, "max"),
    "roc_auc": Facts(_CLASSES, "max", of_one=True),
    "average_precision": Facts(_CLASSES, "max", of_one=True),
    "log_loss": Facts(_CLASSES),
    "brier": Facts(_CLASSES),
    "calibration_error": Facts(_CLASSES),
    "mae": Facts(_VALUES, automatic=True, of_one=True),
    "rmse": Facts(_VALUES, automatic=True, of_one=True),
    "r2": Facts(_VALUES, "max", automatic=True, of_one=True),
    "pinball": Facts(_VALUES, of_one=True, losses=("quantile",)),
    "coverage": Facts(_VALUES, None, of_one=True, losses=("quantile",)),
}
#: What is measured on the training data while training.
TRAINING = ("loss", "accuracy")


def _complaint(name: str, found: Any) -> str | None:
    tasks, mode = getattr(found, "tasks", None), getattr(found, "mode", None)
    if isinstance(tasks, tuple) and tasks and set(tasks) <= set(_ALL) and mode in get_args(Mode):
        return None
    return (
        f"must be a class with `tasks`, a tuple of some of {', '.join(_ALL)}, and `mode`, min or max "
        f"(got tasks {tasks!r}, mode {mode!r})"
    )


#: Metrics of other packages: with the attributes of `Facts` and the members of `onotrain.evaluation.metrics.Metric`.
PLUGINS = Plugins("onotrain.metrics", _complaint)


def top_k(name: str) -> int | None:
    """Return k if `name` is ``top_k`` with a number for k, weighted or not, else None."""
    match = _TOP_K.fullmatch(name.removeprefix("weighted_"))
    return int(match[1]) if match else None


def parse(name: str) -> Name | None:
    """Return what the name of a built-in metric says; None if there is none of this name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    k = top_k(name)
    found = Name(match[2] if k is None else "top_k", match[1] is not None, match[3], k)
    facts = None if found.base == "top_k" and k is None else _BUILT_INS.get(found.base)
    if facts is None or (found.of is not None and not facts.of_one):
        return None
    return found


def facts(name: str) -> Facts | None:
    """Return what is known of the metric of this name; None if there is none, or it is `broken`."""
    built_in = parse(name)
    if built_in is not None:
        return _BUILT_INS[built_in.base]
    if name not in PLUGINS.names or broken(name) is not None:
        return None
    found = PLUGINS.load(name)
    return Facts(found.tasks, found.mode)


def broken(name: str) -> str | None:
    """Return why the metric of this name, one of another package, cannot be used; None if it can, or is none."""
    try:
        if parse(name) is None and name in PLUGINS.names:
            PLUGINS.load(name)
    except PluginError as error:
        return error.message
    return None


def known() -> Iterator[str]:
    """Yield all names, ``top_5`` for any k, those of other packages last."""
    yield from map(_example, _BUILT_INS)
    yield from PLUGINS.names


def built_in(task: Task, loss: str) -> tuple[str, ...]:
    """Return the built-in metrics that a network of this task and loss has; ``top_5`` for any k, no variants of one."""
    return tuple(
        _example(name)
        for name, facts in _BUILT_INS.items()
        if facts.fit(task, loss) and (facts.shown or name == "top_k")
    )


def automatic(task: Task, loss: str = "") -> tuple[str, ...]:
    """Return the metrics that are measured after every epoch if none are asked for."""
    return tuple(name for name, facts in _BUILT_INS.items() if facts.fit(task, loss) and facts.automatic)


def shown(task: Task, loss: str) -> tuple[str, ...]:
    """Return the metrics that `onotrain evaluate` computes if none are asked for."""
    return tuple(name for name, facts in _BUILT_INS.items() if facts.fit(task, loss) and facts.shown)


def _example(name: str) -> str:
    return "top_5" if name == "top_k" else name


def shown_automatic() -> str:
    """Return what is measured if nothing else is asked for, for the documentation."""
    return f"{any_of(automatic(_CLASSES[0]), 'and')} for classes; {any_of(automatic(*_VALUES), 'and')} for values"


def mode_of(monitored: str) -> Mode:
    """Return which direction is better for a metric such as ``validation_loss``; min if there is no such metric."""
    found = facts(monitored.removeprefix("validation_").removeprefix("train_"))
    return "min" if found is None or found.mode is None else found.mode

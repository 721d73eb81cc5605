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
    #: Whether less or more is better.
    mode: Mode = "min"


_ALL: tuple[Task, ...] = get_args(Task)
_VALUES: tuple[Task, ...] = ("regression",)
_CLASSES = tuple(task for task in _ALL if task not in _VALUES)
_TOP_K = re.compile(r"top_([1-9][0-9]{0,8})")

#: ``top_5`` stands for any ``top_k``.
_BUILT_INS: dict[str, Facts] = {
    "loss": Facts(_ALL),
    "accuracy": Facts(_CLASSES, "max"),
    "top_5": Facts(("multiclass",), "max"),
    "mae": Facts(_VALUES),
    "rmse": Facts(_VALUES),
    "r2": Facts(_VALUES, "max"),
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
    """Return k if `name` is ``top_k`` with a number for k, else None."""
    match = _TOP_K.fullmatch(name)
    return int(match[1]) if match else None


def _is_built_in(name: str) -> bool:
    return name in _BUILT_INS or top_k(name) is not None


def facts(name: str) -> Facts | None:
    """Return what is known of the metric of this name; None if there is none, or it is `broken`."""
    if _is_built_in(name):
        return _BUILT_INS["top_5" if top_k(name) else name]
    if name not in PLUGINS.names or broken(name) is not None:
        return None
    found = PLUGINS.load(name)
    return Facts(found.tasks, found.mode)


def broken(name: str) -> str | None:
    """Return why the metric of this name, one of another package, cannot be used; None if it can, or is none."""
    try:
        if not _is_built_in(name) and name in PLUGINS.names:
            PLUGINS.load(name)
    except PluginError as error:
        return error.message
    return None


def known() -> Iterator[str]:
    """Yield all names, those of other packages last."""
    yield from _BUILT_INS
    yield from PLUGINS.names


def built_in(task: Task) -> tuple[str, ...]:
    """Return the built-in metrics that a network of this task has."""
    return tuple(name for name, facts in _BUILT_INS.items() if task in facts.tasks)


def automatic(task: Task) -> tuple[str, ...]:
    """Return the metrics that are measured if none are asked for."""
    return tuple(name for name in built_in(task) if top_k(name) is None)


def shown() -> str:
    """Return the built-in metrics, for the documentation."""
    return ", ".join(f"`{name}`{' (or any other number)' if top_k(name) else ''}" for name in _BUILT_INS)


def shown_automatic() -> str:
    """Return what is measured if nothing else is asked for, for the documentation."""
    return f"{any_of(automatic(_CLASSES[0]), 'and')} for classes; {any_of(automatic(*_VALUES), 'and')} for values"


def shown_maximized() -> str:
    """Return the built-in metrics of which more is better, for the documentation."""
    names = [name for name, facts in _BUILT_INS.items() if facts.mode == "max"]
    return any_of(["top_k" if top_k(name) else name for name in names], "and")


def mode_of(monitored: str) -> Mode:
    """Return which direction is better for a metric such as ``validation_loss``; min if there is no such metric."""
    found = facts(monitored.removeprefix("validation_").removeprefix("train_"))
    return "min" if found is None else found.mode

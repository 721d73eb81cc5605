"""A study: one configuration trained in several methods, on several numbers of ranks, with several seeds."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, Strict

from onotrain.config import loading
from onotrain.config.base import Count, CountOrZero, NotEmpty, Positive, Problem, Section, Text
from onotrain.config.cluster import Cluster
from onotrain.config.root import Root
from onotrain.config.schema import Config, load_config
from onotrain.errors import ConfigError

#: Most cells of a study.
_MOST_CELLS = 10_000
#: How changes begin that are of the cluster, not of the configuration.
_OF_CLUSTER = "cluster."

Counts = Annotated[tuple[Count, ...], Strict(False), NotEmpty]


class Target(Section):
    """What a run is to reach."""

    metric: Text = Field(description="Value of an epoch's record, such as `validation_accuracy`.")
    value: float = Field(description="To be reached: from below, or for losses and errors from above.")


class Study(Root):
    """Which trainings there are."""

    config: Text = Field(description="Path of the configuration, relative to the study's file.")
    workers: Counts | None = Field(
        None, description="Numbers of ranks that compute, to which those of servers are added; instead of `ranks`."
    )
    ranks: Counts | None = Field(None, description="Numbers of ranks, servers among them; instead of `workers`.")
    seeds: Annotated[tuple[CountOrZero, ...], Strict(False), NotEmpty] = Field(
        (0,), description="Seeds; each method is trained with each of them."
    )
    set: dict[Text, Any] = Field({}, description="Changes of the configuration for all trainings, by `key.path`.")
    matrix: dict[Text, Any] = Field(
        {},
        description="Methods to train: every combination is one.  An axis is a mapping from labels to changes of the "
        "configuration by `key.path`; or a `key.path` with a list of its values.  A `key.path` that begins with "
        "`cluster.` changes the section `cluster`.",
    )
    target: Target | None = Field(None, description="What it takes time and bytes to reach.")
    minutes: Positive | None = Field(None, description="Longest time of a training; null: any.")
    cluster: Cluster | None = Field(
        None, description="The machine on which `onotrain simulate` lets the trainings take place; null: there is none."
    )

    @property
    def counted(self) -> str:
        """What the numbers of ranks count."""
        return "workers" if self.workers else "ranks"

    def problems(self) -> Iterator[Problem]:
        """Yield axes of another form, and numbers of ranks that are given twice or never."""
        if (self.workers is None) == (self.ranks is None):
            yield Problem(("ranks",), "one of ranks and workers must be given", is_key=True)
        for axis, methods in self.matrix.items():
            good = isinstance(methods, Mapping) and all(isinstance(changes, Mapping) for changes in methods.values())
            if not methods or not (good or isinstance(methods, list)):
                text = "must be a mapping from labels to mappings of changes, or a list of values"
                yield Problem(("matrix", axis), text)


@dataclass(frozen=True)
class Cell:
    """One training of a study.

    Attributes
    ----------
    method
        What tells it from trainings of other methods, by axis.
    ranks
        That it is launched on.
    count
        How many of them the study counts: all, or those that compute.
    seed
        Its seed.
    overrides
        Changes of the configuration, ``key.path=value``.
    config
        With these.
    cluster
        The machine, with changes of its own; None if the study has none.
    changes_cluster
        Whether it has such changes, so that it can only be simulated.
    """

    method: Mapping[str, str]
    ranks: int
    count: int
    seed: int
    overrides: tuple[str, ...]
    config: Config
    cluster: Cluster | None = None
    changes_cluster: bool = False

    @property
    def label(self) -> str:
        """The method in words."""
        return ", ".join(self.method.values()) or self.config.strategy.name

    @property
    def name(self) -> str:
        """Name of its folder: of any number of cells each has another one."""
        words = self.method.values() or ["run"]
        slug = "--".join(re.sub(r"[^\w.]+", "-", word).strip("-.") or "x" for word in words)
        return f"{slug}/{self.count}-ranks/seed-{self.seed}"


def load_study(path: str | os.PathLike[str]) -> Study:
    """Read a study; errors as of `onotrain.config.load_config`."""
    return loading.from_file(Study, path)


def cells_of(study: Study, path: str | os.PathLike[str]) -> list[Cell]:
    """Return the trainings of a study: seeds within numbers of ranks within methods.

    Parameters
    ----------
    study
        The study.
    path
        Of its file.

    Raises
    ------
    ConfigError
        The configuration of one is wrong, or two would have the same folder; or there are too many.
    """
    base = Path(path).parent / study.config
    axes = [list(_methods(axis, methods)) for axis, methods in study.matrix.items()]
    counts, found = study.workers or study.ranks or (), list[Cell]()
    cluster_with = cache(lambda changes: loading.from_file(Study, path, changes).cluster)
    for combination in itertools.product(*axes):
        method = {axis: label for axis, label, _ in combination}
        changes = [*study.set.items(), *(change for *_, changed in combination for change in changed.items())]
        given, of_cluster = _overrides(changes, of_cluster=False), _overrides(changes, of_cluster=True)
        cluster = cluster_with(of_cluster) if of_cluster else study.cluster
        for count, seed in itertools.product(counts, study.seeds):
            overrides = (*given, f"training.seed={seed}")
            config = _config(base, overrides, method)
            ranks = count + (config.strategy.serving_ranks if study.workers else 0)
            found.append(Cell(method, ranks, count, seed, overrides, config, cluster, bool(of_cluster)))
            if len(found) > _MOST_CELLS:
                raise ConfigError(f"{path}: has more than {_MOST_CELLS:,} trainings", hint="leave some out")
    names = [cell.name for cell in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{path}: two trainings would be called {name}", hint="use other labels in the matrix")
    return found


def _methods(axis: str, methods: Any) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield an axis, a label, and the changes of it."""
    if isinstance(methods, Mapping):
        yield from ((axis, str(label), changes) for label, changes in methods.items())
    else:
        shown: Sequence[str] = [value if isinstance(value, str) else json.dumps(value) for value in methods]
        yield from ((axis, f"{axis} {label}", {axis: value}) for label, value in zip(shown, methods, strict=True))


def _overrides(changes: Sequence[tuple[str, Any]], *, of_cluster: bool) -> tuple[str, ...]:
    """Return the changes of the cluster, or of the configuration, as overrides."""
    chosen = ((key, value) for key, value in changes if key.startswith(_OF_CLUSTER) == of_cluster)
    return tuple(f"{key}={json.dumps(value)}" for key, value in chosen)


def _config(base: Path, overrides: Sequence[str], method: Mapping[str, str]) -> Config:
    try:
        return load_config(base, overrides)
    except ConfigError as error:
        raise ConfigError(
            f"{', '.join(method.values()) or 'all trainings'}:\n{error.message}", hint=error.hint
        ) from error

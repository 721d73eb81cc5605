"""Training on samples in memory."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from onotrain.config import Config, load_config
from onotrain.config.yaml_reader import read_yaml
from onotrain.data.dataset import Dataset, DataSpec
from onotrain.data.in_memory import SOURCE, InMemory, check_rows
from onotrain.data.tables.table import Table
from onotrain.data.template import facts_of, template
from onotrain.errors import LostRankError, NumericsError, UsageError
from onotrain.inference.loading import load_everywhere
from onotrain.inference.predictor import Predictor
from onotrain.parallel.agreement import agreed, broadcast
from onotrain.parallel.world import Comm, World
from onotrain.training.job import run
from onotrain.training.observers import Observer
from onotrain.training.own_rows import of_all_ranks


@dataclass(frozen=True)
class Fitted:
    """A trained network, the same on all ranks."""

    predictor: Predictor
    #: As `summary.json` of a run directory.
    summary: Mapping[str, Any]
    #: Run directory; None if none was asked for.
    output: Path | None

    def predict(self, x: Any) -> np.ndarray:
        """Return probabilities or values, one row for each sample: see `onotrain.Predictor.predict`."""
        return self.predictor.predict(x)


def fit(
    x: Any,
    y: Any = None,
    config: Config | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    *,
    weights: Any = None,
    validation: tuple[Any, ...] | float | None = None,
    comm: Comm | None = None,
    rows: Literal["same", "own"] = "same",
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    observers: Sequence[Observer] = (),
    **changes: Any,
) -> Fitted:
    """Train a network on samples in memory.

    *Collective* over `comm`: every rank calls it; `config`, `output`, `overwrite`, `observers` and `changes` of rank 0
    count.

    Parameters
    ----------
    x
        An array of numbers ``(n, ...)``; or a table: a mapping of names to columns, a data frame, a structured array,
        or an array ``(n, columns)`` of text or mixed values.
    y
        Targets ``(n,)`` or ``(n, outputs)``; columns as of `x`; or, of a table, the name of one of its columns, a tuple
        of names, or None for the column that looks like the target.
    config
        A `Config`, a mapping of the same shape, or the path of a YAML file, whose ``data`` may leave out where the
        samples are; None: what ``onotrain init`` writes for such data.
    weights
        How much each sample counts in the loss: numbers ``(n,)``, finite and not negative; or, of a table, the name of
        one of its columns; None: all count alike, unless the configuration names a column (``data.weights``).
    validation
        Samples ``(x, y)`` or ``(x, y, weights)`` to validate on, or the fraction that is cut off for it; None: as
        `config` says.
    comm
        Communicator of the ranks to train on; default: all of the job, or this process alone without ``mpirun``.
    rows
        ``same``: all ranks have the same samples; ``own``: each has its own rows of all of them, which are gathered
        once on every node, in the order of the ranks.
    output
        Run directory to make; None: nothing is left behind.
    overwrite
        Replace a run in `output`.
    observers
        Told of the run's progress, on rank 0.
    changes
        Sections that change the configuration, such as ``training={"epochs": 5}``.

    Returns
    -------
    Fitted
        The network of the best or last epoch, and the summary.

    Raises
    ------
    OnotrainError
        As of `onotrain.train`.
    """
    with ExitStack() as stack:
        world = stack.enter_context(World.connect(comm))
        with agreed(world.comm):
            check_rows(rows)
        parts = _parts(world, (x, y, weights), validation, rows)
        resolved = _agree(world, parts, validation, config, changes, rows, keep=output is not None)
        place = Path(output) if output is not None else _temporary(world, stack)
        held = {part: samples.held for part, samples in parts.items() if samples.held is not None}
        try:
            result = run(resolved, world.comm, output=place, overwrite=overwrite, observers=observers, held=held)
        except NumericsError as error:
            if output is None:
                error.hint = "use a lower rate, as with optimizer={'learning_rate': ...}, or normalise the data"
            raise
        if result.comm is not world.comm:  # ranks have died
            world = stack.enter_context(World.connect(result.comm))
            if output is None and world.rank == 0:
                stack.callback(shutil.rmtree, place, ignore_errors=True)
        predictor, _ = load_everywhere(world, result.output)
        return Fitted(predictor, result.summary, None if output is None else result.output)


class _Part(NamedTuple):
    """Samples of a part."""

    #: None on a rank for which another one prepares them.
    held: Dataset | Table | None
    #: Of the columns to be predicted.
    names: tuple[str, ...]
    #: Of the column with weights.
    weights: str | None


def _parts(world: World, train: tuple[Any, Any, Any], validation: Any, rows: str) -> dict[str, _Part]:
    """Return the samples of each part.  *Collective*: the same parts on all ranks."""
    given: dict[str, tuple[Any, ...]] = {"train": train}
    with agreed(world.comm):
        if not isinstance(validation, tuple | int | float | np.integer | np.floating | None):
            raise UsageError(
                f"validation is a {type(validation).__name__}, expected (x, y), (x, y, weights) or a fraction",
                hint="give samples as a tuple, also of a table: validation=(table, 'target')",
            )
        if isinstance(validation, tuple):
            if len(validation) not in (2, 3):
                raise UsageError(
                    f"validation is a tuple of {len(validation)}, expected (x, y), (x, y, weights) or a fraction"
                )
            given["validation"] = validation
    found = {}
    for part, samples in given.items():
        with agreed(world.comm):
            mine = InMemory.of(*samples)
        whole = of_all_ranks(world, mine, rows)
        with agreed(world.comm):  # a rank that is not the first of its node may have no rows of its own
            held = whole.held() if rows == "same" or world.node.rank == 0 else None
            found[part] = _Part(held, whole.names, whole.weight_column)
    return found


def _agree(
    world: World, parts: Mapping[str, _Part], validation: Any, config: Any, changes: Mapping[str, Any], rows: str, *,
    keep: bool,
) -> Config:  # fmt: skip
    """Return the configuration, which rank 0 makes.  *Collective*."""

    def make() -> Config:
        samples, names, weights = parts["train"]
        if config is None:
            spec = DataSpec(SOURCE, held=samples, targets=names or None, weights=weights)
            mapping = read_yaml(template(spec, facts_of(spec))).data
        elif isinstance(config, str | os.PathLike):
            mapping = load_config(config).to_mapping()
        elif isinstance(config, Config | Mapping):
            mapping = config.to_mapping() if isinstance(config, Config) else dict(config)
        else:
            raise UsageError(f"config is a {type(config).__name__}, expected a Config, a mapping or a path")
        data = {key: value for key, value in dict(mapping.get("data") or {}).items() if key not in _OF_FILES}
        data |= {"train": SOURCE, "stream": False}
        if isinstance(samples, Table) and names:
            data["targets"] = list(names)
        if weights is not None:
            data["weights"] = weights
        elif isinstance(samples, Dataset) and samples.weights is not None:  # they take the place of a named array
            data.pop("weights", None)
        if validation is not None:
            data["validation"] = SOURCE if isinstance(validation, tuple) else float(validation)
        made = changed(dict(mapping) | {"data": data}, changes)
        if not keep:  # nobody could go on from them
            made = changed(made, {"checkpoint": {"every_epochs": _NEVER, "every_steps": None, "every_seconds": None}})
        resolved = Config.from_mapping(made)
        if resolved.data.weights is not None and not isinstance(samples, Table):
            raise UsageError(
                f"data.weights names {resolved.data.weights!r}, but an array of features has no columns with names",
                hint="give the weights to fit: fit(x, y, config, weights=...)",
            )
        if rows == "own" and resolved.simulate is not None and resolved.simulate.ranks_per_node is not None:
            raise UsageError("simulate.ranks_per_node needs rows='same': samples are gathered on real nodes")
        return resolved

    return broadcast(world.comm, make)


#: More epochs than any run has.
_NEVER = 10**6
#: Keys of ``data`` that say where samples are and how a file is written.
_OF_FILES = ("train", "format", "csv", "stream", "window_mib")


def changed(mapping: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with other values for some keys of its sections.

    A section that is given another name, or that is no mapping, is replaced as a whole.
    """
    result = dict(mapping)
    for key, value in changes.items():
        old = result.get(key)
        if isinstance(value, Mapping) and isinstance(old, str) and "name" not in value:
            old = {"name": old}  # its short form
        if isinstance(value, Mapping) and isinstance(old, Mapping) and value.get("name") in (None, old.get("name")):
            value = changed(old, value)  # noqa: PLW2901
        result[key] = value
    return result


def _temporary(world: World, stack: ExitStack) -> Path:
    """Return a directory for the time of the training.  *Collective*."""

    def make() -> Path:
        path = Path(tempfile.mkdtemp(prefix="onotrain-"))
        stack.callback(shutil.rmtree, path, ignore_errors=True)
        return path

    place = broadcast(world.comm, make)
    if world.rank > 0:
        stack.push(partial(_remove_after_loss, place))
    return place


def _remove_after_loss(place: Path, _: Any, error: BaseException | None, __: Any) -> None:
    """Remove a directory whose rank has died, when the others have come to their end as well."""
    if isinstance(error, LostRankError):
        shutil.rmtree(place, ignore_errors=True)

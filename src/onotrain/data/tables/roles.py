"""Which columns of a table are features, which are targets, and which are neither."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from onotrain.config.columns import (
    BooleanColumn,
    CategoricalColumn,
    ColumnOptions,
    DateColumn,
    IdColumn,
    IgnoredColumn,
    NumericColumn,
)
from onotrain.data.dataset import DataSpec, listed
from onotrain.data.tables.kinds import Guess, guess_kinds, is_numbers
from onotrain.data.tables.seasons import with_parts
from onotrain.data.tables.table import Table, matching
from onotrain.data.tables.values import numbers
from onotrain.errors import DataError

#: Names that say what is to be predicted; ``y`` does not where it stands between x and z.
TARGET_NAMES = ("target", "targets", "label", "labels", "y")
#: Such a column is taken if it is the first or the last one.
_PERHAPS = "class"
_SECTIONS: dict[str, type[ColumnOptions]] = {
    "numeric": NumericColumn, "categorical": CategoricalColumn, "boolean": BooleanColumn, "date": DateColumn,
    "id": IdColumn, "ignore": IgnoredColumn,
}  # fmt: skip


@dataclass(frozen=True)
class Roles:
    """What the columns of a table are there for.

    Parameters
    ----------
    kinds
        Of the columns that are no targets, in the order of the features; ids and what is ignored among them.
    targets
        Columns to be predicted.
    guesses
        By name, why a column that nobody named is what it is taken for.
    why_targets
        How the targets were found, in words; empty if they were named.
    weights
        Column that says how much each sample counts.
    """

    kinds: Mapping[str, ColumnOptions]
    targets: tuple[str, ...]
    guesses: Mapping[str, Guess]
    why_targets: str = ""
    weights: str | None = None

    @property
    def features(self) -> tuple[str, ...]:
        """Columns that are learned from."""
        return tuple(name for name, kind in self.kinds.items() if not isinstance(kind, (IdColumn, IgnoredColumn)))

    def notes(self) -> list[str]:
        """Return what was decided for the user, in words."""
        notes = [f"target: {', '.join(self.targets)} ({self.why_targets})"] if self.why_targets else []
        for name, guess in self.guesses.items():
            if guess.kind in ("ignore", "id"):
                notes.append(f"column {name!r} is not learned from: {guess.why}")
            elif guess.why:
                notes.append(f"column {name!r}: {guess.why}")
        other = [f"{name} ({guess.kind})" for name, guess in self.guesses.items()
                 if guess.kind in ("categorical", "boolean", "date")]  # fmt: skip
        if other:
            notes.append(f"columns that are no numbers: {', '.join(other)}")
        return notes


def choose_roles(table: Table, spec: DataSpec, given: Mapping[str, ColumnOptions], *, anyway: bool = False) -> Roles:
    """Return what each column is there for.

    Parameters
    ----------
    table
        All columns.
    spec
        Names features and targets, or leaves them open.
    given
        What is known of columns, by name or pattern (``data.columns``).
    anyway
        Accept a table of which no column is left to learn from.

    Raises
    ------
    DataError
        A column is not there, is feature and target, or none is left.
    """
    names, source = table.names, table.source
    kinds_given = _by_name(names, given, source)
    wanted = listed(spec.features)
    features = None if wanted is None else matching(names, wanted, source, "features")
    excluded = set(matching(names, spec.exclude, source, "exclude")) if spec.exclude else set()
    if spec.weights is not None:
        excluded |= set(matching(names, (spec.weights,), source, "weights"))
    named = listed(spec.targets)
    why = ""
    if named is not None:
        if not spec.labelled:
            named = tuple(name for name in named if name in names)
        targets = tuple(matching(names, named, source, "targets"))
    else:
        free = [name for name in names if name not in excluded and name not in (features or ())]
        unlearned = {name for name, kind in kinds_given.items() if isinstance(kind, (IdColumn, IgnoredColumn))}
        targets, why = _guess_targets(free, names, unlearned | excluded)
    both = [name for name in targets if features is not None and name in features]
    if both:
        raise DataError(f"{source}: column {both[0]!r} is both a feature and a target")
    candidates = [name for name in (features or names) if name not in targets and name not in excluded]
    open_names = [name for name in candidates if name not in kinds_given]
    guesses = guess_kinds(table.select([*open_names, *targets]), targets)
    with suppress(DataError):  # of targets that are wrong others say so
        values = target_values(table, targets, kinds_given)
        guesses = guesses if values is None else with_parts(guesses, table, values)
    if features is not None:  # who names a column wants it
        guesses = {name: _wanted(guess, table, name) for name, guess in guesses.items()}
    kinds: dict[str, ColumnOptions] = {
        name: kinds_given[name] if name in kinds_given else _options_of(guesses[name]) for name in candidates
    }
    for name in names:  # an id may be named beside the features
        if name not in kinds and name not in targets and isinstance(kinds_given.get(name), IdColumn):
            kinds[name] = kinds_given[name]
    roles = Roles(kinds, targets if spec.labelled else (), guesses, why, spec.weights)
    if not roles.features and not anyway:
        raise no_features(source)
    return roles


def no_features(source: str) -> DataError:
    """Return the error for a table of which no column is left to learn from."""
    return DataError(
        f"{source}: no column is left for the features", hint="name them with data.features (of a command: --features)"
    )


def section_of(kind: str) -> ColumnOptions:
    """Return the options of a kind of column, all at their defaults."""
    return _SECTIONS[kind](name=kind)


def _options_of(guess: Guess) -> ColumnOptions:
    options = section_of(guess.kind)
    return options.model_copy(update={"parts": guess.parts}) if isinstance(options, DateColumn) else options


def _wanted(guess: Guess, table: Table, name: str) -> Guess:
    if guess.kind not in ("ignore", "id"):
        return guess
    column = table[name]
    return Guess("categorical" if column.is_text and not is_numbers(column) else "numeric")


def _by_name(names: Sequence[str], given: Mapping[str, ColumnOptions], source: str) -> dict[str, ColumnOptions]:
    """Return what is known by the names of columns: an exact name counts before a pattern."""
    found: dict[str, ColumnOptions] = {}
    for word, options in given.items():
        hits = [word] if word in names else [name for name in names if fnmatchcase(name, word)]
        if not hits and not isinstance(options, (IgnoredColumn, IdColumn)):
            matching(names, [word], source, "columns")
        for name in hits:
            if name == word or name not in found:
                found[name] = options
    return found


def _guess_targets(free: Sequence[str], names: Sequence[str], unlearned: set[str]) -> tuple[tuple[str, ...], str]:
    """Return the column that is to be predicted, and why it is taken."""
    lower = {name.lower() for name in names}
    coordinates = {"x", "z"} <= lower
    usual = [
        name for name in free if name.lower() in TARGET_NAMES and not (coordinates and name.lower() == "y")
    ]  # fmt: skip
    if usual:
        return (usual[0],), "by its name"
    if len(names) < 2:
        return (), ""
    for end in (names[-1], names[0]):
        if end.lower() == _PERHAPS and end in free:
            return (end,), "by its name"
    last = next((name for name in reversed(names) if name not in unlearned), None)
    if last is None or last not in free:
        return (), ""
    return (last,), "the last column"


def formats_of(given: Mapping[str, ColumnOptions]) -> dict[str, str]:
    """Return how numbers are written, by column, where ``data.columns`` says so."""
    return {name: kind.format for name, kind in given.items() if isinstance(kind, NumericColumn) and kind.format}


def target_values(table: Table, names: Sequence[str], given: Mapping[str, ColumnOptions]) -> np.ndarray | None:
    """Return the values of target columns as `onotrain.data.dataset.Dataset` has them; None if there are none.

    Missing ones are NaN, or empty text.

    Raises
    ------
    DataError
        Several targets that are not all numbers, or a few entries of a column of numbers that are none.
    """
    if not names:
        return None
    columns = [table[name] for name in names]
    if len(columns) == 1:
        column = columns[0]
        as_text = isinstance(given.get(column.name), CategoricalColumn)
        if as_text or column.is_date or column.values.dtype.kind == "b" or not is_numbers(column):
            return column.texts()
        return _whole(numbers(table, column, missing=True))
    return np.stack([numbers(table, column, missing=True) for column in columns], axis=1)


def _whole(values: np.ndarray) -> np.ndarray:
    """Return whole numbers as int64, others as they are."""
    if np.isfinite(values).all() and (np.floor(values) == values).all() and np.abs(values).max(initial=0) < 2.0**53:
        return values.astype(np.int64)
    return values

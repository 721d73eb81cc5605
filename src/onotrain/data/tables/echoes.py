"""Columns that say what the target is: in other units, by other names, or as its siblings in one-hot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onotrain.data.tables.table import Column

#: Share of the variance of a column that may not be on a straight line of the target: what rounding leaves.
_ROUNDING = 1e-6
#: Relative to its size, what rounding leaves of a constant.
_CONSTANT = 1e-12
#: Targets of more different values are no classes.
_MOST_CLASSES = 50
#: Samples for each class, below which chance makes columns that say the same.
_FOR_EACH = 10
#: Samples that show at once that most columns say something else.
_FIRST = 1000


def echoes(columns: Sequence[Column], targets: Sequence[Column]) -> dict[str, str]:
    """Return the columns that give a target away without learning, by name, and why.

    Parameters
    ----------
    columns
        That would be learned from.
    targets
        That they are compared with.
    """
    found: dict[str, str] = {}
    if len(targets) == 1:
        siblings = _siblings(columns, targets[0])
        every = ",".join([*siblings, targets[0].name])
        found = {name: f"one-hot together with the target; --targets {every} takes them all" for name in siblings}
    for target in targets:
        known = np.flatnonzero(~target.missing)
        classes = _Classes.of(target, known)
        for column in columns:
            if column.name in found or column.is_date:
                continue
            if classes is not None and classes.has_own_values(column):
                found[column.name] = f"each of its values stands for one of the target {target.name!r}"
            elif _is_line(column, target, known[:_FIRST]) and _is_line(column, target, known):
                found[column.name] = f"it is the target {target.name!r} times a number, plus a number"
    return found


class _Classes:
    """Which class each sample has, and where each occurs first."""

    def __init__(self, rows: np.ndarray, first: np.ndarray, codes: np.ndarray) -> None:
        self.rows, self.first, self.codes = rows, first, codes

    @classmethod
    def of(cls, target: Column, known: np.ndarray) -> _Classes | None:
        if len(np.unique(target.values[known[:_FIRST]])) > _MOST_CLASSES:
            return None
        _, first, codes = np.unique(target.values[known], return_index=True, return_inverse=True)
        if not 2 <= len(first) <= _MOST_CLASSES or len(known) < _FOR_EACH * len(first):
            return None
        return cls(known, first, codes)

    def has_own_values(self, column: Column) -> bool:
        """Return whether each class has a value of its own in a column."""
        values, missing = column.values[self.rows], column.missing[self.rows]
        representative = values[self.first]
        if missing.any() or len(np.unique(representative)) < len(representative):
            return False
        some = slice(0, _FIRST)
        return all(bool((values[part] == representative[self.codes[part]]).all()) for part in (some, slice(None)))


def _is_line(column: Column, target: Column, rows: np.ndarray) -> bool:
    if column.is_text or target.is_text or target.is_date:
        return False
    rows = rows[~column.missing[rows]]
    if len(rows) < _FOR_EACH:
        return False
    x, y = (_centred(each.values[rows].astype(np.float64)) for each in (column, target))
    return x is not None and y is not None and float(x @ y) ** 2 >= (1 - _ROUNDING) * float(x @ x) * float(y @ y)


def _centred(values: np.ndarray) -> np.ndarray | None:
    """Return values less their mean, the largest of size 1; None of what is constant or infinite."""
    if not np.isfinite(values).all():
        return None
    largest = np.abs(values).max()
    values = values / largest if largest > 0 else values
    values = values - values.mean()
    spread = np.abs(values).max()
    return None if spread <= _CONSTANT else values / spread


def _siblings(columns: Sequence[Column], target: Column) -> list[str]:
    """Return the columns beside the target of which, with it, exactly one is 1 in each sample and the others 0."""
    if not _is_flag(target):
        return []
    flags = [column for column in columns if _is_flag(column)]
    total = target.values.astype(np.int64)
    names: list[str] = []
    for column in sorted(flags, key=lambda flag: abs(flag.field - target.field)):
        if abs(column.field - target.field) != len(names) + 1:
            return []  # no neighbour of those before
        total = total + column.values.astype(np.int64)
        names.insert(0, column.name)
        if total.max() > 1:
            return []
        if total.min() == 1:
            return names if len(names) > 1 else []
    return []


def _is_flag(column: Column) -> bool:
    if column.is_text or column.is_date or column.missing.any() or len(column) < _FOR_EACH:
        return False
    return bool(((column.values == 0) | (column.values == 1)).all())

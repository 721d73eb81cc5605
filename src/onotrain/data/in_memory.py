"""Samples that a program has in memory, in the forms that files are read to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onotrain.data.dataset import Dataset, make_dataset
from onotrain.data.tables.memory import array_of, column_of, named_columns
from onotrain.data.tables.table import Column, Table
from onotrain.errors import DataError, UsageError

#: Takes the place of a path, in messages and in ``data.train``.
SOURCE = "samples in memory"
#: Name of targets that have none.
_TARGET = "target"


@dataclass(frozen=True)
class InMemory:
    """Samples and targets.

    Parameters
    ----------
    features
        An array of numbers ``(n, ...)``, or the columns of a table.
    targets
        Columns to be predicted, beside those of the features or among them; empty if none is named.
    names
        Of these columns.
    values
        Targets of an array of features, ``(n,)`` or ``(n, outputs)``; None if there are none.
    weights
        How much each sample counts: of an array of features float64 ``(n,)``, of a table the name of a column; None if
        all count alike.
    """

    features: np.ndarray | tuple[Column, ...]
    targets: tuple[Column, ...] = ()
    names: tuple[str, ...] = ()
    values: np.ndarray | None = None
    weights: np.ndarray | str | None = None

    @classmethod
    def of(cls, x: Any, y: Any, weights: Any = None) -> InMemory:
        """Return what a program hands over.

        Parameters
        ----------
        x
            An array of numbers ``(n, ...)``; or a table: a mapping of names to columns, a data frame, a structured
            array, or an array ``(n, columns)`` of text or mixed values.
        y
            Targets: ``(n,)`` or ``(n, outputs)``, numbers or text; a mapping or data frame of columns; the name of a
            column of `x`, or a tuple of names; or None: a column of `x` that looks like it.
        weights
            How much each sample counts, ``(n,)``; or the name of a column of `x`; or None: all count alike.

        Raises
        ------
        DataError
            Neither, lengths that differ, or no such column.
        """
        columns = _columns_of(x)
        if columns is None:
            made = cls._of_arrays(array_of(x), y)
            return made if weights is None else replace(made, weights=_numbers(weights, len(made.features)))
        if isinstance(weights, str) and weights not in [column.name for column in columns]:
            shown = ", ".join(column.name for column in columns[:20])
            raise DataError(f"{SOURCE}: no column {weights!r} with weights", hint=f"columns: {shown}")
        if weights is not None and not isinstance(weights, str):
            name = _free("weights", [column.name for column in columns])
            columns, weights = (*columns, column_of(name, _numbers(weights, len(columns[0])))), name
        return replace(cls._of_table(columns, y), weights=weights)

    @classmethod
    def _of_table(cls, columns: tuple[Column, ...], y: Any) -> InMemory:
        known = [column.name for column in columns]
        if y is None or isinstance(y, str | tuple | int | np.integer):
            names = () if y is None else tuple(str(name) for name in (y if isinstance(y, tuple) else (y,)))
            lost = [name for name in names if name not in known]
            if lost:
                raise DataError(f"{SOURCE}: no column {lost[0]!r} to predict", hint=f"columns: {', '.join(known[:20])}")
            return cls(columns, (), names)
        targets = _columns_of(y)
        if targets is None:
            values = _plain(y)
            if values.dtype.kind == "U" and len(values) != len(columns[0]) and set(values.flat) <= set(known):
                raise DataError(
                    f"{SOURCE}: {len(values):,} targets for {len(columns[0]):,} samples",
                    hint=f"give names of columns as a tuple: y={tuple(values.ravel().tolist())!r}",
                )
            each = values[:, None] if values.ndim == 1 else values
            name = str(getattr(y, "name", None) or _TARGET)
            names = (name,) if each.shape[1] == 1 else tuple(f"{name}_{k}" for k in range(each.shape[1]))
            targets = tuple(column_of(_free(n, known), each[:, k]) for k, n in enumerate(names))
        both = [column.name for column in targets if column.name in known]
        if both:
            raise DataError(f"{SOURCE}: column {both[0]!r} is both a feature and a target")
        _check_lengths(len(columns[0]), len(targets[0]))
        return cls(columns, targets, tuple(column.name for column in targets))

    @classmethod
    def _of_arrays(cls, x: np.ndarray, y: Any) -> InMemory:
        if isinstance(y, str) or y is None:
            raise DataError(
                f"{SOURCE}: an array of features has no columns with names, so its targets must be an array too "
                f"(got {'no targets' if y is None else repr(y)})"
            )
        if not x.ndim:
            raise DataError(f"{SOURCE}: features are a single number, expected an array (samples, ...)")
        columns = _columns_of(y)
        names = () if columns is None else tuple(column.name for column in columns)
        if columns is None:
            values = _plain(y)
        else:
            each = [column.texts() if column.is_text else column.values for column in columns]
            values = each[0] if len(each) == 1 else np.stack(each, axis=1)
        _check_lengths(len(x), len(values))
        return cls(x, (), names, values)

    @property
    def is_table(self) -> bool:
        """Whether the features are columns of a table."""
        return isinstance(self.features, tuple)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all values as arrays along the samples, text as text, by names of which none occurs twice."""
        if not isinstance(self.features, tuple):
            rest = {"y": self.values, "weights": self.weights}
            return {"x": self.features} | {name: each for name, each in rest.items() if isinstance(each, np.ndarray)}
        columns = (*self.features, *self.targets)
        return {column.name: column.texts() if column.is_text else column.values for column in columns}

    def texts(self, name: str) -> np.ndarray:
        """Return one of these arrays as text."""
        if not isinstance(self.features, tuple):
            return self.arrays()[name].astype(str)
        return next(column for column in (*self.features, *self.targets) if column.name == name).texts()

    def with_arrays(self, change: Callable[[str], np.ndarray]) -> InMemory:
        """Return the same with what `change` makes of the name of each of the `arrays`."""
        if not isinstance(self.features, tuple):
            values = None if self.values is None else change("y")
            weights = None if self.weights is None else change("weights")
            return replace(self, features=change("x"), values=values, weights=weights)
        features, targets = (
            tuple(column_of(column.name, change(column.name)) for column in columns)
            for columns in (self.features, self.targets)
        )
        return replace(self, features=features, targets=targets)

    def held(self) -> Dataset | Table:
        """Return what is read in place of a file.

        Raises
        ------
        DataError
            Features or targets are of a type that cannot be learned from.
        """
        if isinstance(self.features, tuple):
            return Table((*self.features, *self.targets), SOURCE)
        weights = None if isinstance(self.weights, str) else self.weights
        return make_dataset(self.features, self.values, SOURCE, target_names=self.names or None, weights=weights)

    @property
    def weight_column(self) -> str | None:
        """Column of a table that says how much each sample counts."""
        return self.weights if isinstance(self.weights, str) else None


def _columns_of(x: Any) -> tuple[Column, ...] | None:
    """Return the columns of a table; None for an array of numbers."""
    columns = named_columns(x)
    if columns is None:
        array = array_of(x)
        if array.ndim != 2 or array.dtype.kind not in "OUSM":
            return None
        columns = {f"column_{k}": array[:, k] for k in range(array.shape[1])}
    found = tuple(column_of(name, values) for name, values in columns.items())
    if not found:
        raise DataError(f"{SOURCE}: a table without columns")
    for column in found:
        _check_lengths(len(found[0]), len(column), f"column {column.name!r}")
    return found


def _plain(y: Any) -> np.ndarray:
    """Return targets as numbers or text."""
    values = array_of(y)
    if not values.ndim:
        raise DataError(f"{SOURCE}: targets are a single value, expected one for each sample")
    if values.dtype.kind != "O":
        return values
    column = column_of(_TARGET, values.reshape(-1))
    return (column.texts() if column.is_text else column.values).reshape(values.shape)


def _numbers(weights: Any, samples: int) -> np.ndarray:
    """Return weights as float64 ``(n,)``."""
    if isinstance(weights, str):
        raise DataError(
            f"{SOURCE}: weights is {weights!r}, but an array of features has no columns with names; give an array"
        )
    try:
        found = array_of(weights).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{SOURCE}: weights are no numbers: {error}") from error
    if found.ndim != 1:
        raise DataError(f"{SOURCE}: weights have shape {found.shape}, expected one number for each sample")
    _check_lengths(samples, len(found), "weights")
    return found


def _free(name: str, taken: list[str]) -> str:
    return name if name not in taken else _free(f"{name}_", taken)


def _check_lengths(samples: int, targets: int, what: str = "targets") -> None:
    if samples != targets:
        raise DataError(f"{SOURCE}: {targets:,} {what} for {samples:,} samples", hint="give as many of both")


def check_rows(rows: str) -> None:
    """Refuse another word than ``same`` and ``own``."""
    if rows not in ("same", "own"):
        raise UsageError(f"rows is {rows!r}, expected 'same' (all ranks have the same samples) or 'own'")

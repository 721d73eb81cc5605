"""A table to the matrix that a network takes: an encoder for each column, fitted on the training part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onotrain.config.columns import (
    BooleanColumn,
    CategoricalColumn,
    Categories,
    ColumnOptions,
    DateColumn,
    IdColumn,
    NumericColumn,
)
from onotrain.data.tables.encoders import (
    ENCODERS,
    BooleanEncoder,
    CategoricalEncoder,
    DateEncoder,
    Encoder,
    NumericEncoder,
)
from onotrain.data.tables.table import Column, Table, shown
from onotrain.data.units import other_unit
from onotrain.errors import DataError
from onotrain.text import count, cut, quoted

_BLOCK_ROWS = 1 << 16
#: Of a category in a message.
_VALUE_CHARACTERS = 24


@dataclass(frozen=True)
class Preparation:
    """What becomes of the columns of a table.

    Parameters
    ----------
    encoders
        By the name of the column, in the order of the features.
    ids
        Columns that name the samples.
    units
        By column, where the training data say so.
    columns
        All that the training file has, in its order: what those of a file without a header stand for.
    """

    encoders: tuple[tuple[str, Encoder], ...]
    ids: tuple[str, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls, table: Table, kinds: Mapping[str, ColumnOptions], scale: Any, rows: np.ndarray | None = None,
        *, embedded: bool = False,
    ) -> Preparation:  # fmt: skip
        """Return the preparation for the training part of a table.

        Parameters
        ----------
        table
            All samples.
        kinds
            What the columns are that may be learned from; ids and what is ignored among them.
        scale
            Of numeric columns that do not say: a scaling, or (means, standard deviations).
        rows
            int64 numbers of the training samples, or None for all.
        embedded
            Whether the network has embeddings, so that columns of categories become codes unless they say otherwise.

        Raises
        ------
        DataError
            An entry is not what its column's kind says, or no column is left.
        """
        encoders: list[tuple[str, Encoder]] = []
        units: dict[str, str] = {}
        for number, (name, options) in enumerate(kinds.items()):
            column = table[name]
            if isinstance(options, NumericColumn):
                of_column = _of_column(scale, number, len(kinds)) if options.scale is None else options.scale
                encoders.append((name, NumericEncoder.fit(options, of_column, table, column, rows)))
            elif isinstance(options, CategoricalColumn):
                encoders.append((name, CategoricalEncoder.fit(options, table, column, rows, embedded=embedded)))
            elif isinstance(options, BooleanColumn):
                encoders.append((name, BooleanEncoder.fit(options, table, column, rows)))
            elif isinstance(options, DateColumn):
                encoders.append((name, DateEncoder.fit(options, table, column, rows)))
            if column.units and isinstance(options, NumericColumn):
                units[name] = column.units
        if not encoders:
            raise DataError(f"{table.source}: no column is left for the features")
        ids = tuple(name for name, kind in kinds.items() if isinstance(kind, IdColumn))
        return cls(tuple(encoders), ids, units, table.names)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the columns that are learned from."""
        return tuple(name for name, _ in self.encoders)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of the matrix."""
        return tuple(written for name, encoder in self.encoders for written in encoder.names(name))

    @property
    def categories(self) -> dict[int, Categories]:
        """The features that are codes, by their numbers."""
        found, number = dict[int, Categories](), 0
        for name, encoder in self.encoders:
            if isinstance(encoder, CategoricalEncoder) and encoder.code:
                found[number] = Categories(name, encoder.count)
            number += len(encoder.names(name))
        return found

    @property
    def coded(self) -> dict[str, tuple[str, ...]]:
        """What the codes of each column stand for, by the column."""
        codes = ((name, encoder) for name, encoder in self.encoders if isinstance(encoder, CategoricalEncoder))
        return {name: encoder.categories for name, encoder in codes if encoder.code}

    def encodes(self, kinds: Mapping[str, ColumnOptions], embedded: bool) -> bool:
        """Return whether columns of categories are codes, or not, as a network with embeddings or without wants."""
        return all(
            encoder.code == options.is_code(embedded)
            for name, encoder in self.encoders
            if isinstance(encoder, CategoricalEncoder) and isinstance(options := kinds.get(name), CategoricalColumn)
        )

    @property
    def texts(self) -> tuple[str, ...]:
        """Columns that must be read as text: what stands in the file is what counts."""
        return (*self.ids, *(name for name, encoder in self.encoders if encoder.kind in ("categorical", "boolean")))

    @property
    def formats(self) -> dict[str, str]:
        """How numbers are written, by column."""
        numeric = ((name, encoder) for name, encoder in self.encoders if isinstance(encoder, NumericEncoder))
        return {name: encoder.written for name, encoder in numeric if encoder.written}

    @property
    def complete(self) -> tuple[str, ...]:
        """Columns that may have no missing values."""
        numeric = ((name, encoder) for name, encoder in self.encoders if isinstance(encoder, NumericEncoder))
        return tuple(name for name, encoder in numeric if encoder.fill is None)

    def check_units(self, table: Table) -> None:
        """Refuse a table that says a column to be in another unit than in the training data."""
        for name, known in self.units.items():
            unit = table[name].units
            if unit and unit != known:
                raise other_unit(table.source, f"column {name!r}", unit, known)

    def unseen(self, table: Table) -> tuple[str, ...]:
        """Return a line for each column of categories that has values which the training data lacked."""
        found = []
        for name, encoder in self.encoders:
            if isinstance(encoder, CategoricalEncoder):
                samples, values = encoder.unseen(table[name])
                if samples:
                    found.append(_unseen(name, samples, values, other=encoder.other))
        return tuple(found)

    def transform(self, table: Table, dtype: Any, *, lenient: bool = False) -> np.ndarray:
        """Return the matrix ``(n, d)`` of a table that has the `inputs` among its columns.

        Parameters
        ----------
        table
            In the units of the file.
        dtype
            float32 or float64, of the result; all arithmetic before is in float64.
        lenient
            Give NaN where a value is missing that must not be, instead of an error.

        Raises
        ------
        DataError
            An entry is not what its column's kind says; names its place.
        """
        out = np.empty((len(table), len(self.names)), dtype)
        begin = 0
        for name, encoder in self.encoders:
            end = begin + len(encoder.names(name))
            with np.errstate(over="ignore", invalid="ignore"):
                encoder.encode(table, table[name], out[:, begin:end], lenient=lenient)
            if not lenient and not np.isfinite(out[:, begin:end]).all():
                raise _too_large(table, table[name], out[:, begin:end])
            begin = end
        return out

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        columns = [{"column": name, "kind": encoder.kind, **encoder.to_dict()} for name, encoder in self.encoders]
        units = {"units": dict(self.units)} if self.units else {}
        return {"columns": columns, "ids": list(self.ids), "file_columns": list(self.columns), **units}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Preparation:
        """Return the preparation that `to_dict` wrote.

        Raises
        ------
        KeyError, ValueError, TypeError
            `data` is something else.
        """
        encoders = tuple((str(each["column"]), ENCODERS[each["kind"]].from_dict(each)) for each in data["columns"])
        units = {str(name): str(unit) for name, unit in data.get("units", {}).items()}
        ids, columns = (tuple(str(name) for name in data.get(key, ())) for key in ("ids", "file_columns"))
        return cls(encoders, ids, units, columns)


def _unseen(name: str, samples: int, values: Sequence[str], *, other: bool) -> str:
    have, they = ("has a value", "it is") if samples == 1 else ("have values", "they are")
    shown_values = shown([cut(value, _VALUE_CHARACTERS) for value in values])
    return (
        f"{count(samples, 'sample')} {have} of {quoted(name)} that the training data lacked: {shown_values}; "
        f"{they} taken for {'`other`' if other else 'none of those that are known'}"
    )


def _too_large(table: Table, column: Column, out: np.ndarray) -> DataError:
    row = int(np.argmin(np.isfinite(out).all(axis=1)))
    return DataError(
        f"{table.where(row, column)}: column {column.name!r} is {column.texts(np.array([row]))[0]}, which {out.dtype} "
        "does not hold",
        hint="scale the column (data.normalize: standard), or use training.dtype: float64",
    )


def _of_column(scale: Any, number: int, columns: int) -> Any:
    """Return the scaling of one column, where mean and standard deviation may be given for each."""
    if isinstance(scale, str):
        return scale
    means, stds = scale
    for what, values in (("mean", means), ("std", stds)):
        if len(values) not in (1, columns):
            raise DataError(f"data.normalize.{what}: {len(values)} values, expected 1 or {columns} (one per feature)")
    return _at(means, number), _at(stds, number)


def _at(values: Sequence[float], number: int) -> float:
    return values[number] if len(values) > 1 else values[0]

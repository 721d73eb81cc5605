"""Tables of several files, one below the other."""

from __future__ import annotations

import difflib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from onotrain.config.number_format import NumberFormat
from onotrain.data.tables.columns import as_text
from onotrain.data.tables.table import MISSING_CODE, Column, Places, Table, shown
from onotrain.errors import DataError
from onotrain.memory import check_memory

__all__ = ["Origins", "FilePlaces", "as_type", "check_columns", "concatenate", "name_of_all"]


@dataclass(frozen=True)
class Origins:
    """Finds the part that a row of the whole came from, and its place there."""

    ends: tuple[int, ...]

    def find(self, row: int) -> tuple[int, int]:
        """Return the number of the part, and the row in it."""
        part = bisect_right(self.ends, row)
        return part, row - (self.ends[part - 1] if part else 0)


@dataclass(frozen=True)
class FilePlaces:
    """Places in the tables that a whole one was made of (`onotrain.data.tables.table.Places`)."""

    origins: Origins
    names: tuple[str, ...]
    sources: tuple[str, ...]
    places: tuple[Places | None, ...]
    #: Of each table, the number that each column of the whole has there.
    fields: tuple[tuple[int, ...], ...]

    def place(self, row: int, column: int) -> str:
        """Return ``file:line:column``, or ``file: row R, column NAME`` where a file has no lines."""
        part, row = self.origins.find(row)
        places = self.places[part]
        if places is not None:
            return places.place(row, self.fields[part][column])
        return f"{self.sources[part]}: row {row}, column {self.names[column]!r}"


def concatenate(tables: Sequence[Table]) -> Table:
    """Put tables one below the other.

    Parameters
    ----------
    tables
        With the same columns in any order; at least one.  The columns of the first give the order.

    Returns
    -------
    Table
        Numbers of the type that holds those of all tables, text with the categories of all.  Its columns are numbered
        anew.  A column that is text in one table and numbers in another is text; one that is empty in a table takes the
        type of the others.

    Raises
    ------
    DataError
        A column is missing or too many, is a time in one table and something else in another, or has other units;
        names file and column.
    ResourceError
        Larger than the memory that is left.
    """
    first = tables[0]
    if len(tables) == 1:
        return first
    check_columns(tables)
    sources = tuple(table.source for table in tables)
    name = name_of_all(sources)
    check_memory(sum(column.values.nbytes for table in tables for column in table), name)
    columns = [_joined([table[label] for table in tables], field, sources) for field, label in enumerate(first.names)]
    fields = tuple(tuple(table[name].field for name in first.names) for table in tables)
    origins = Origins(tuple(accumulate(len(table) for table in tables)))
    places = FilePlaces(origins, first.names, sources, tuple(table.places for table in tables), fields)
    notes = tuple(dict.fromkeys(note for table in tables for note in table.notes))
    return Table(tuple(columns), name, places, notes, first.csv)


def name_of_all(sources: Sequence[str]) -> str:
    """Return a name for several files in messages."""
    return f"{sources[0]} and {len(sources) - 1} more" if len(sources) > 1 else sources[0]


def check_columns(tables: Sequence[Table]) -> None:
    """Refuse tables that have not the columns of the first one, in any order."""
    first = tables[0]
    for table in tables[1:]:
        missing = [name for name in first.names if name not in table.names]
        extra = [name for name in table.names if name not in first.names]
        if missing or extra:
            what = f"no column {missing[0]!r}, which {first.source} has" if missing else (
                f"a column {extra[0]!r}, which {first.source} does not have"
            )  # fmt: skip
            near = difflib.get_close_matches(missing[0], extra, n=1) if missing else []
            raise DataError(
                f"{table.source}: {what}; its columns are {shown(table.names)}",
                hint=f"did it mean {near[0]!r}?"
                if near
                else "files of one data set have the same columns, in any order",
            )


def _joined(columns: Sequence[Column], field: int, sources: Sequence[str]) -> Column:
    """Return one column of those of several tables."""
    units = [column.units for column in columns]
    known = {unit for unit in units if unit}
    if len(known) > 1:
        at = next(k for k, unit in enumerate(units) if unit and unit != units[0])
        raise DataError(
            f"{sources[at]}: column {columns[0].name!r} is in {units[at]}, but in {units[0] or known} in {sources[0]}",
            hint="convert it to the same units",
        )
    unit = next(iter(known), None)
    written = _written(columns, sources)
    full = [column for column in columns if not column.missing.all()]
    dates = [column.is_date for column in full]
    if any(dates) and not all(dates):
        at = columns.index(full[dates.index(not dates[0])])
        kinds = ("a time", "not a time")
        raise DataError(
            f"{sources[at]}: column {columns[0].name!r} is {kinds[dates[0]]}, but {kinds[not dates[0]]} in "
            f"{sources[columns.index(full[0])]}"
        )
    if any(column.is_text for column in full):
        return replace(_joined_text(columns, field, unit), written=written)
    dtype = np.result_type(*(column.values.dtype for column in full or columns))
    if len(full) < len(columns) and dtype.kind in "biu":  # a column of nothing but missing values
        dtype = np.dtype(np.float64)
    values = np.empty(sum(map(len, columns)), dtype)
    begin = 0
    for column in columns:
        rows = slice(begin, begin + len(column))
        begin = rows.stop
        values[rows] = as_type(column, dtype).values
    return Column(columns[0].name, values, units=unit, field=field, written=written)


def _written(columns: Sequence[Column], sources: Sequence[str]) -> str | None:
    """Return how the numbers of a column are written in all files that say so, with or without thousands marked.

    Raises
    ------
    DataError
        The decimal marks differ, so that 1.250 is one number here and another there.
    """
    known = [(column.written, source) for column, source in zip(columns, sources, strict=True) if column.written]
    forms = [NumberFormat.of_example(written) for written, _ in known]
    for form, (written, source) in zip(forms, known, strict=True):
        if form is not None and forms[0] is not None and form.decimal != forms[0].decimal:
            raise DataError(
                f"{source}: column {columns[0].name!r} is written as {written!r}, "
                f"but as {known[0][0]!r} in {known[0][1]}",
                hint="say how 1234.5 is written with `format` of this column (data.columns)",
            )
    return max((written for written, _ in known), key=len, default=None)


def as_type(column: Column, dtype: np.dtype | None) -> Column:
    """Return a column with values of a type, which is that of the column or holds them all; None: as text."""
    if dtype is None:
        return as_text(column)
    if len(column) and column.missing.all():
        return replace(
            column, values=np.full(len(column), "NaT" if dtype.kind == "M" else np.nan, dtype), categories=None
        )
    return replace(column, values=column.values.astype(dtype, copy=False))


def _joined_text(columns: Sequence[Column], field: int, units: str | None) -> Column:
    """Return one column of text of those of several tables, some of which may be numbers."""
    parts = [(text.values, text.categories or ()) for text in map(as_text, columns)]
    # The same text may be written in two ways only where it is a number, and then stands for the same number.
    number_of: dict[str, float] = {}
    for (_, names), column in zip(parts, columns, strict=True):
        if column.numbers is not None:
            number_of.update(zip(names, column.numbers.tolist(), strict=True))
    names = tuple(sorted({name for _, own in parts for name in own}))
    code_of = {name: code for code, name in enumerate(names)}
    codes = np.empty(sum(map(len, columns)), np.int32)
    begin = 0
    for own_codes, own_names in parts:
        renamed = np.array([*(code_of[name] for name in own_names), MISSING_CODE], np.int32)
        codes[begin : begin + len(own_codes)] = renamed[own_codes]
        begin += len(own_codes)
    numbers = None
    if number_of:
        plain = Column("", np.arange(len(names), dtype=np.int32), names).as_numbers()[0]
        numbers = np.array([number_of.get(name, value) for name, value in zip(names, plain, strict=True)], np.float64)
    return Column(columns[0].name, codes, names, units, field, numbers)

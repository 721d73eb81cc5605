"""The values of a column as numbers, or an error that names the place of the first that is none."""

from __future__ import annotations

import json
import re

import numpy as np

from onotrain.data.tables.table import Column, Table
from onotrain.errors import DataError
from onotrain.text import cut, quoted

#: Characters of an entry that a message shows.
_CHARACTERS = 43
#: So many rows at the end may be totals.
_LAST = 3
#: Different entries that a hint names.
_WORDS = 3

_MISSING_HINT = (
    "set `missing` of this column to mean, median or a constant (data.columns), or remove these samples; "
    "`onotrain data info` counts them per column"
)


def numbers(table: Table, column: Column, *, missing: bool = False) -> np.ndarray:
    """Return a column as float64.

    Parameters
    ----------
    table
        That the column is of, for the message.
    column
        Numbers, or text that stands for numbers.
    missing
        Whether values may be missing (NaN).

    Raises
    ------
    DataError
        An entry is something else; names the place of the first.
    """
    if column.is_date:
        raise DataError(f"{table.where(0, column)}: column {column.name!r} is a date, expected a number")
    values, bad = column.as_numbers()
    if bad.any():
        row, count = int(np.argmax(bad)), int(np.count_nonzero(bad))
        raise DataError(
            f"{table.where(row, column)}: column {column.name!r} is {_shown(column, row)}, "
            f"expected a number{first_of(count)}",
            hint=_not_a_number(table, column, count),
        )
    infinite = np.isinf(values)
    if infinite.any():
        row, count = int(np.argmax(infinite)), int(np.count_nonzero(infinite))
        raise DataError(
            f"{table.where(row, column)}: column {column.name!r} is {values[row]}, expected a finite number"
            f"{first_of(count)}",
            hint="remove these samples; `onotrain data info` counts them per column",
        )
    if not missing and np.isnan(values).any():
        lost = np.isnan(values)
        row, count = int(np.argmax(lost)), int(np.count_nonzero(lost))
        raise DataError(
            f"{table.where(row, column)}: column {column.name!r} has a missing value{first_of(count)}",
            hint=_MISSING_HINT,
        )
    return values


def _not_a_number(table: Table, column: Column, count: int) -> str:
    if 2 * count >= len(column):
        return (
            "make it a category or leave it out: data.columns, --exclude; `onotrain init` writes a kind for each column"
        )
    return remedy(table, column)


def remedy(table: Table, column: Column) -> str:
    """Return what to do about entries of a column of numbers that are none."""
    categories = "a column of categories is `categorical` in data.columns"
    if table.csv is None:
        return f"correct them in the file; {categories}"
    bad = column.as_numbers()[1]
    if len(bad) > 4 * _LAST and not bad[:-_LAST].any():
        return f"remove the last lines if they are no samples, such as totals; {categories}"
    codes = dict.fromkeys(column.values[bad].tolist())
    words = [(column.categories or ())[code] for code in list(codes)[:_WORDS]]
    in_quotes = [json.dumps(word, ensure_ascii=False) for word in words]
    plain = (word if re.fullmatch(r"[^,'\"\s]+", word) else text for word, text in zip(words, in_quotes, strict=True))
    return (
        f"correct them, or take them for missing values: `csv: {{missing: [default, {', '.join(in_quotes)}]}}` in the "
        f"data section, --csv 'missing=[default, {', '.join(plain)}]' on the command line; {categories}"
    )


def _shown(column: Column, row: int) -> str:
    return quoted(entry(str(column.texts(np.array([row]))[0])))


def entry(text: str) -> str:
    """Return an entry for a message, the beginning of a long one."""
    return cut(text, _CHARACTERS)


def first_of(count: int) -> str:
    """Return what to add to the place of the first of several."""
    return "" if count == 1 else f" (the first of {count:,})"

"""Columns that are filled part by part, in memory that is allocated once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onotrain.data.tables.naming import nfc
from onotrain.data.tables.table import MISSING_CODE, Column

__all__ = ["NumberColumn", "TextColumn", "as_text"]


class NumberColumn:
    """A column of numbers, truth values or points in time.

    Parameters
    ----------
    rows
        Length of the column.
    dtype
        Of its values.  Integers become float64 when the first missing value comes, truth values text.
    """

    def __init__(self, rows: int, dtype: np.dtype) -> None:
        self._values = np.empty(rows, dtype.newbyteorder("="))
        self._missing: np.ndarray | None = None  # of truth values only
        self._filled = 0

    def add(self, values: np.ndarray, missing: np.ndarray | None = None) -> None:
        """Append values ``(m,)``; `missing`, bool ``(m,)``, says which are none (None: all are there)."""
        rows = slice(self._filled, self._filled + len(values))
        self._filled = rows.stop
        if missing is None or not missing.any():
            self._values[rows] = values
            return
        if self._values.dtype.kind in "iu":
            self._values = self._values.astype(np.float64)
        self._values[rows] = values
        if self._values.dtype.kind == "b":
            if self._missing is None:
                self._missing = np.zeros(len(self._values), bool)
            self._missing[rows] = missing
        else:
            self._values[rows][missing] = np.datetime64("NaT") if self._values.dtype.kind == "M" else np.nan

    def column(self, name: str, field: int, units: str | None) -> Column:
        """Return the column; truth values of which some are missing as the text ``False`` and ``True``."""
        _check_filled(self._filled, len(self._values))
        if self._missing is None:
            return Column(name, self._values, units=units, field=field)
        codes = np.where(self._missing, MISSING_CODE, self._values.astype(np.int32)).astype(np.int32)
        return Column(name, codes, ("False", "True"), units=units, field=field)


class TextColumn:
    """A column of text: codes, and what they stand for.

    Text is composed (NFC) and loses the blanks around it; what is then empty is missing.

    Parameters
    ----------
    rows
        Length of the column.
    """

    def __init__(self, rows: int) -> None:
        self._codes = np.empty(rows, np.int32)
        self._code_of: dict[str, int] = {}
        self._filled = 0

    def add(self, words: Sequence[str | None], places: np.ndarray) -> None:
        """Append the texts ``words[places]``; a place of -1 is a missing value.

        Parameters
        ----------
        words
            Different texts, or None for a missing one.
        places
            Integers ``(m,)``.
        """
        codes = np.array([*(self._code(word) for word in words), MISSING_CODE], np.int32)
        end = self._filled + len(places)
        self._codes[self._filled : end] = codes[places]
        self._filled = end

    def add_texts(self, texts: np.ndarray) -> None:
        """Append text ``(m,)``."""
        words, places = np.unique(texts, return_inverse=True)
        self.add(words.tolist(), places.reshape(-1))

    def _code(self, word: str | None) -> int:
        word = nfc(word).strip() if word else ""
        return self._code_of.setdefault(word, len(self._code_of)) if word else MISSING_CODE

    def column(self, name: str, field: int, units: str | None) -> Column:
        """Return the column; its categories are sorted, and each occurs."""
        _check_filled(self._filled, len(self._codes))
        used = np.zeros(len(self._code_of) + 1, bool)
        used[self._codes] = True
        names = tuple(self._code_of)
        order = [code for code in sorted(range(len(names)), key=names.__getitem__) if used[code]]
        rank = np.full(len(names) + 1, MISSING_CODE, np.int32)
        rank[order] = np.arange(len(order), dtype=np.int32)
        return Column(name, rank[self._codes], tuple(names[code] for code in order), units=units, field=field)


def as_text(column: Column) -> Column:
    """Return a column as text: that of the shortest text for each number, truth value or time, in sorted order."""
    if column.is_text:
        return column
    values, places = np.unique(column.values, return_inverse=True)
    text = TextColumn(len(column))
    text.add(Column(column.name, values).texts().tolist(), places.reshape(-1))
    return text.column(column.name, column.field, column.units)


def _check_filled(filled: int, rows: int) -> None:
    if filled != rows:
        raise ValueError(f"{filled} rows, expected {rows}")

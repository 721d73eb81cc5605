"""Columns that grow block by block, of a file whose number of rows is known when it ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from onotrain.data.tables.columns import TextColumn
from onotrain.data.tables.table import MISSING_CODE, Column

#: By how much an array grows that turns out too short.
_GROWTH = 1.3
#: An array may keep this share of memory that it does not need.
_SLACK = 0.02
#: Columns share arrays of about this size [bytes]: NumPy asks for huge pages for those, which are much faster to fill.
_SHARED_BYTES = 1 << 25


class _Array:
    """An array that is longer than what is in it; memory that was never written takes no space."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values
        self.filled = 0

    def extend(self, rows: int) -> np.ndarray:
        """Return the place of further rows."""
        end = self.filled + rows
        if end > len(self._values):
            longer = np.empty(max(end, int(_GROWTH * len(self._values))), self._values.dtype)
            longer[: self.filled] = self._values[: self.filled]
            self._values = longer
        place = self._values[self.filled : end]
        self.filled = end
        return place

    def values(self) -> np.ndarray:
        """Return what was filled in."""
        kept = self._values[: self.filled]
        return kept if self.filled >= (1 - _SLACK) * len(self._values) else kept.copy()


def arrays_of_numbers(rows: int) -> Iterator[np.ndarray]:
    """Yield arrays of float64 for one column after the other."""
    while True:
        yield from np.empty((max(_SHARED_BYTES // (8 * rows), 1), rows))


class GrowingNumbers:
    """A column of float64, first in an array that is given; nulls are NaN."""

    def __init__(self, values: np.ndarray) -> None:
        self._array = _Array(values)

    def add(self, chunk: Any) -> None:
        """Append an Arrow array of float64."""
        self._array.extend(len(chunk))[:] = chunk.to_numpy(zero_copy_only=False)

    def column(self, name: str, field: int) -> Column:
        """Return the column."""
        return Column(name, self._array.values(), field=field)


class GrowingText:
    """A column of text, as codes of what is in it."""

    def __init__(self, rows: int) -> None:
        self._array = _Array(np.empty(rows, np.int32))
        self._code_of: dict[str | None, int] = {}

    def add(self, chunk: Any, is_missing: Any) -> None:
        """Append an Arrow dictionary array of text; `is_missing` says of a text whether it stands for no value."""
        words = [word.strip() for word in chunk.dictionary.to_pylist()]
        codes = [
            MISSING_CODE if is_missing(word) else self._code_of.setdefault(word, len(self._code_of)) for word in words
        ]
        indices = chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        self._array.extend(len(chunk))[:] = np.array([*codes, MISSING_CODE], np.int32)[indices]

    def column(self, name: str, field: int) -> Column:
        """Return the column; its categories are sorted."""
        codes = self._array.values()
        text = TextColumn(len(codes))
        text.add(list(self._code_of), codes)
        return text.column(name, field, None)

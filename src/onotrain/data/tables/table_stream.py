"""The samples of a table that stays in Parquet files, prepared when they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Any, Self

import numpy as np
import pyarrow as pa

from onotrain.config.number_format import NumberFormat
from onotrain.data import streams
from onotrain.data.paths import reason
from onotrain.data.streams import OpenFiles, check_rows, joined_blocks, spans
from onotrain.data.tables.arrow import BATCH_ROWS, Parquet, columns_of, opened
from onotrain.data.tables.columns import as_text
from onotrain.data.tables.joining import as_type
from onotrain.data.tables.naming import nfc_names
from onotrain.data.tables.number_formats import with_format
from onotrain.data.tables.preparation import Preparation
from onotrain.data.tables.stored import StoredFile, StoredTable
from onotrain.data.tables.table import Column, Table
from onotrain.errors import DataError

__all__ = ["TableStream"]


class TableStream:
    """Reads samples of Parquet files as a network takes them (`onotrain.data.streams.Stream`).

    A block is a row group, or several small ones: Parquet files are not read from the middle of a row group.

    Parameters
    ----------
    table
        The samples.
    preparation
        What becomes of the columns.
    types
        Of the columns in all of the data that are read, as `Table.type_of` gives them: a part that lacks the missing
        values of another one may have another type.  Those that are not in it are taken as they are.
    dtype
        Compute dtype.
    lenient
        Give NaN where a value is missing that must not be.
    """

    def __init__(
        self, table: StoredTable, preparation: Preparation, types: Mapping[str, np.dtype | None], dtype: str,
        *, lenient: bool = False,
    ) -> None:  # fmt: skip
        self.source, self.rows, self.dtype = table.source, len(table), np.dtype(dtype)
        self.features = len(preparation.names)
        self._preparation, self._types, self._lenient = preparation, types, lenient
        self._inputs = frozenset(preparation.inputs)
        forms = {name: NumberFormat.of_example(form) for name, form in preparation.formats.items()}
        self._formats = {name: form for name, form in forms.items() if form is not None}
        self._texts, self._kept, self._stored = table.texts, table.kept, table.files
        #: Of each row group: number of its file, number in it, and its first row there.
        self._groups = [
            (number, group, begin)
            for number, file in enumerate(table.files)
            for group, begin in enumerate(accumulate(file.groups[:-1], initial=0))
        ]
        sizes = [rows for file in table.files for rows in file.groups]
        self._ends = list(accumulate(sizes))
        wanted = max(1, streams.BLOCK_BYTES // (self.features * self.dtype.itemsize))
        edges = joined_blocks(sizes, wanted)
        self.edges = edges if self._kept is None else np.unique(np.searchsorted(self._kept, edges))
        self.block_rows = min(int(np.diff(self.edges).max()), max(wanted, BATCH_ROWS))
        self._files = OpenFiles(partial(_opened, self._stored), [file.path for file in self._stored])
        self._last: _Reader | None = None

    @property
    def nbytes(self) -> int:
        """Size that the features would have in memory [bytes]."""
        return self.rows * self.features * self.dtype.itemsize

    def read(self, begin: int, end: int, out_features: np.ndarray) -> None:
        """Read and prepare the samples ``[begin, end)``, batch by batch.

        Parameters
        ----------
        begin, end
            Numbers of samples.
        out_features
            `dtype` ``(end - begin, features)``, written.

        Raises
        ------
        DataError
            A file is damaged there, or another one than before, or an entry is not what its column's kind says.
        """
        check_rows(self, begin, end, out_features)
        if begin == end:
            return
        first, last = (begin, end) if self._kept is None else (int(self._kept[begin]), int(self._kept[end - 1]) + 1)
        for unit, low, high in spans(self._ends, first, last):
            number, group, _ = self._groups[unit]
            try:
                for table in self._tables(unit, low, high):
                    out, out_features = out_features[: len(table)], out_features[len(table) :]
                    out[:] = self._preparation.transform(table, self.dtype, lenient=self._lenient)
            except (pa.ArrowException, OSError, IndexError) as error:
                self._files.check(number)
                raise DataError(
                    f"{self._stored[number].path}: row group {group} cannot be read: {reason(error)}",
                    hint="copy or create the file again",
                ) from error
            self._files.check(number)

    def _tables(self, unit: int, begin: int, end: int) -> Iterator[Table]:
        """Yield the samples among the rows ``[begin, end)`` of a row group, batch by batch."""
        before = self._ends[unit - 1] if unit else 0
        for start, table in self._reader(unit, begin).read(begin, end):
            low, high = max(begin, start), min(end, start + len(table))
            rows = np.arange(low, high)
            if self._kept is not None:
                rows = self._kept[slice(*np.searchsorted(self._kept, (before + low, before + high)))] - before
            if len(rows):
                yield table.take(rows - start)

    def _reader(self, unit: int, begin: int) -> _Reader:
        """Return what reads row `begin` of a row group, and those behind it: going on from the last row, if it can."""
        if self._last is None or self._last.unit != unit or self._last.begin > begin:
            self._last = _Reader(unit, self._batches(*self._groups[unit]))
        return self._last

    def _batches(self, number: int, group: int, begin: int) -> Iterator[Table]:
        """Yield the batches of a row group, which begins with row `begin` of its file, as parts of the whole table."""
        file, parquet = self._stored[number], self._files[number]
        fields = self._fields(file)
        for batch in parquet.batches(list(fields), group):
            columns = columns_of([batch], parquet.schema, fields, batch.num_rows)
            as_whole = tuple(replace(self._as_in_all_files(each), field=place) for place, each in enumerate(columns))
            yield Table(as_whole, file.path, _RowsFrom(file.path, begin, tuple(fields.values())))
            begin += batch.num_rows

    def _fields(self, file: StoredFile) -> dict[int, str]:
        """Return the columns that are prepared, by their numbers in a file."""
        return {field: name for field, name in file.fields.items() if name in self._inputs}

    def _as_in_all_files(self, column: Column) -> Column:
        """Return a column of the type that it has in the whole table, if that holds the values; else as it is."""
        if column.name in self._formats:
            return with_format(as_text(column), self._formats[column.name])
        if column.name in self._texts:
            return as_type(column, None)
        if column.name not in self._types:
            return column
        dtype = self._types[column.name]
        fits = dtype is None or column.missing.all() or (
            not column.is_text and np.can_cast(column.values.dtype, dtype, "safe")
        )  # fmt: skip
        return as_type(column, dtype) if fits else column

    def again(self) -> Self:
        """Return the same with open files of its own."""
        other = copy(self)
        other._files, other._last = self._files.again(), None
        return other

    def close(self) -> None:
        """Close the files."""
        self._last = None
        self._files.close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_last": None}


@contextmanager
def _opened(files: Sequence[StoredFile], number: int) -> Iterator[Parquet]:
    """Open one of several files, which must be what it was."""
    file = files[number]
    with opened(file.path) as source:
        names = dict(enumerate(nfc_names(source.schema.names)))
        same = isinstance(source, Parquet) and source.groups == file.groups and file.fields.items() <= names.items()
        if not isinstance(source, Parquet) or not same:
            raise DataError(
                f"{file.path}: has other columns, or row groups of other lengths, than when the run began",
                hint="files must stay as they are while they are streamed",
            )
        yield source


class _Reader:
    """The batches of a row group, from its beginning on; `begin` is the first row of the one at hand."""

    def __init__(self, unit: int, batches: Iterator[Table]) -> None:
        self.unit, self.begin, self._batches = unit, 0, batches
        self._batch: Table | None = None

    def read(self, begin: int, end: int) -> Iterator[tuple[int, Table]]:
        """Yield the batches that hold the rows ``[begin, end)``, each with its first row."""
        while self.begin < end:
            rows = 0 if self._batch is None else len(self._batch)
            if self._batch is not None and self.begin + rows > begin:
                yield self.begin, self._batch
                if self.begin + rows >= end:
                    return
            self.begin += rows
            self._batch = next(self._batches, None)
            if self._batch is None:
                raise pa.ArrowInvalid("it ends too early")


@dataclass(frozen=True)
class _RowsFrom:
    """Places of the rows of a file from one on (`onotrain.data.tables.table.Places`)."""

    path: str
    begin: int
    names: tuple[str, ...]

    def place(self, row: int, column: int) -> str:
        """Return the place of an entry."""
        return f"{self.path}: row {self.begin + row}, column {self.names[column]!r}"

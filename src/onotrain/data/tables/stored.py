"""A table that stays in Parquet files: its columns are loaded when they are asked for, a few at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import numpy as np

from onotrain.data.dataset import DataSpec
from onotrain.data.tables.arrow import Parquet, choose_fields, no_samples, opened, width
from onotrain.data.tables.joining import FilePlaces, Origins, check_columns, concatenate, name_of_all
from onotrain.data.tables.loading import read_table
from onotrain.data.tables.table import Column, Places, SomeRows, Table, text_columns

__all__ = ["StoredFile", "StoredTable", "stored"]

#: Columns that are loaded at once, if each alone is smaller [bytes].
_LOADED_BYTES = 1 << 27


@dataclass(frozen=True)
class StoredFile:
    """What a Parquet file says of itself.

    Parameters
    ----------
    path
        Of the file.
    groups
        Rows of its row groups.
    fields
        Names of the columns, as they are known, by their numbers in the file.
    """

    path: str
    groups: tuple[int, ...]
    fields: dict[int, str]


@dataclass(frozen=True, eq=False)
class StoredTable(Table):
    """A `Table` that keeps few of its columns in memory.

    Parameters
    ----------
    files
        One below the other.
    labels
        Names of the columns.
    widths
        Bytes of a value of each column in memory.
    texts
        Columns that are read as text.
    formats
        How numbers are written, by column, where it is known.
    kept
        int64 numbers of the rows that are samples, or None for all.
    types
        Of the columns that were loaded; see `type_of`.
    """

    files: tuple[StoredFile, ...] = ()
    labels: tuple[str, ...] = ()
    widths: dict[str, int] = field(default_factory=dict)
    texts: frozenset[str] = frozenset()
    formats: Mapping[str, str] = field(default_factory=dict)
    kept: np.ndarray | None = None
    types: dict[str, np.dtype | None] = field(default_factory=dict)
    _loaded: dict[str, Column] = field(default_factory=dict)
    _noted: dict[str, None] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.stored_rows if self.kept is None else len(self.kept)

    def __iter__(self) -> Iterator[Column]:
        return (self[name] for name in self.labels)

    def __getitem__(self, name: str) -> Column:
        if name not in self._loaded:
            columns = self._load(self._together_with(name))
            self._loaded.clear()
            self._loaded.update(columns)
        return self._loaded[name]

    @property
    def on_disk(self) -> bool:
        """Whether most columns are on the disk."""
        return True

    @property
    def all_notes(self) -> tuple[str, ...]:
        """Notes, those on the columns that were loaded so far included."""
        return (*self.notes, *(note for note in self._noted if note not in self.notes))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return self.labels

    @property
    def stored_rows(self) -> int:
        """Rows of the files, samples or not."""
        return sum(sum(file.groups) for file in self.files)

    @property
    def nbytes(self) -> int:
        """Size that the columns would have in memory [bytes]."""
        return self.stored_rows * sum(self.widths[name] for name in self.labels)

    def select(self, names: Sequence[str]) -> StoredTable:
        """Return a table of these columns."""
        return replace(self, labels=tuple(names))

    def take(self, rows: np.ndarray) -> StoredTable:
        """Return some rows, whose places are still those of the files."""
        places = None if self.places is None else SomeRows(self.places, rows)
        kept = rows if self.kept is None else self.kept[rows]
        return replace(self, kept=kept, places=places, _loaded={})

    def type_of(self, name: str) -> np.dtype | None:
        """Return the type of the values of a column in all files; None for text."""
        if name not in self.types:
            self[name]
        return self.types[name]

    def _together_with(self, name: str) -> list[str]:
        """Return a column and those behind it that are loaded with it, so that small files are not opened for each."""
        behind = self.labels[self.labels.index(name) :]
        ends = accumulate(self.stored_rows * self.widths[each] for each in behind)
        return [each for each, end in zip(behind, ends, strict=True) if each == name or end <= _LOADED_BYTES]

    def _load(self, names: Collection[str]) -> dict[str, Column]:
        tables = [
            read_table(DataSpec(file.path), "parquet", wanted=names, texts=self.texts, formats=self.formats)
            for file in self.files
        ]
        numbers = {name: number for number, name in enumerate(self.files[0].fields.values())}
        found: dict[str, Column] = {}
        for column in concatenate(tables):
            self.types[column.name] = None if column.is_text else column.values.dtype
            if len(self.files) > 1:  # their columns are numbered anew
                column = replace(column, field=numbers[column.name])
            found[column.name] = column if self.kept is None else column.take(self.kept)
        self._noted.update(dict.fromkeys(note for table in tables for note in table.notes))
        return found


def stored(
    paths: Sequence[str], texts: Collection[str], wanted: Collection[str] | None, formats: Mapping[str, str]
) -> StoredTable | None:
    """Look at Parquet files, and read nothing but what they say of themselves; None if one is no Parquet file.

    Parameters
    ----------
    paths
        Of the files, which have the same columns in any order.
    texts, wanted, formats
        See `onotrain.data.tables.loading.read_table`.

    Raises
    ------
    DataError
        One is missing, damaged or without samples, or has other columns than the first.
    """
    files, widths = [], list[dict[str, int]]()
    notes: dict[str, None] = {}
    for path in paths:
        with opened(path) as source:
            fields, noted = choose_fields(source.schema, path, wanted)
            if not isinstance(source, Parquet):
                return None
            file = StoredFile(path, source.groups, fields)
            widths.append({name: width(source.schema.field(number).type) for number, name in fields.items()})
        if not sum(file.groups):
            raise no_samples(path)
        notes |= dict.fromkeys(noted)
        files.append(file)
    check_columns([Table(tuple(_empty(name) for name in file.fields.values()), file.path) for file in files])
    labels = tuple(files[0].fields.values())
    places: Places | None = None
    if len(files) > 1:
        origins = Origins(tuple(accumulate(sum(file.groups) for file in files)))
        numbers = tuple(range(len(labels)))
        places = FilePlaces(origins, labels, tuple(paths), (None,) * len(files), (numbers,) * len(files))
    most = {name: max(each[name] for each in widths) for name in labels}
    return StoredTable(
        (), name_of_all(paths), places, tuple(notes), files=tuple(files), labels=labels, widths=most,
        texts=frozenset(text_columns(labels, texts)), formats=formats,
    )  # fmt: skip


def _empty(name: str) -> Column:
    return Column(name, np.empty(0))

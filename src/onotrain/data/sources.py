"""Data sets as users name them: one file, several, a pattern or a directory; arrays or a table."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial

from onotrain.data import readers
from onotrain.data.dataset import Dataset, DataSpec
from onotrain.data.reading import ReadFiles, in_turn
from onotrain.data.several import concatenate_datasets, expand, is_several
from onotrain.data.tables.joining import concatenate
from onotrain.data.tables.loading import read_table as read_one_table
from onotrain.data.tables.table import Table


def expanded(spec: DataSpec) -> DataSpec:
    """Return a spec that names its files one by one, so that all who are given it mean the same files.

    Raises
    ------
    DataError
        A pattern that no file matches, or a directory of several formats.
    """
    names = [spec.path, *spec.more]
    if spec.expanded or (len(names) == 1 and not is_several(spec.path)):
        return replace(spec, expanded=True)
    first, *more = expand(names if spec.more else spec.path)
    return replace(spec, path=first, more=tuple(more), expanded=True)


def files_of(spec: DataSpec) -> list[DataSpec]:
    """Return a spec for each file that `spec` stands for; errors as of `expanded`."""
    spec = expanded(spec)
    return [replace(spec, path=path, more=()) for path in (spec.path, *spec.more)]


def format_of(spec: DataSpec) -> str:
    """Return the format of the (first) file; see `onotrain.data.readers.detect_format`."""
    return readers.detect_format(files_of(spec)[0])


def is_table(spec: DataSpec) -> bool:
    """Return whether the data are columns, and not arrays of features and targets."""
    return readers.is_table(files_of(spec)[0])


def load_dataset(spec: DataSpec, reader: ReadFiles = in_turn) -> Dataset:
    """Read a whole data set, of one file or several, into memory; see `onotrain.data.readers.load_dataset`."""
    return concatenate_datasets(reader(readers.load_dataset, files_of(spec)))


def read_table(
    spec: DataSpec, *, wanted: Collection[str] | None = None, texts: Collection[str] = (),
    formats: Mapping[str, str] | None = None, reader: ReadFiles = in_turn,
) -> Table:  # fmt: skip
    """Read a table, of one file or several; see `onotrain.data.tables.loading.read_table`."""
    files = files_of(spec)
    tables = reader(partial(_read_file, wanted=wanted, texts=texts, formats=formats), files)
    note = readers.format_note(files[0])
    table = tables[0] if len(tables) == 1 else concatenate(tables)
    return table if note is None else replace(table, notes=(note, *table.notes))


def _read_file(
    spec: DataSpec, *, wanted: Collection[str] | None, texts: Collection[str], formats: Mapping[str, str] | None
) -> Table:
    """Read the table in one file."""
    return read_one_table(spec, readers.detect_format(spec), wanted=wanted, texts=texts, formats=formats)

"""A table to a file of another format, with the kinds of its columns: text stays text, dates are points in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.feather as feather
import pyarrow.parquet as pq

from onotrain.data.tables.date import dates_of
from onotrain.data.tables.dates import are_times, other_order
from onotrain.data.tables.dialect import MISSING
from onotrain.data.tables.kinds import guess_kind
from onotrain.data.tables.table import Column, Table, shown
from onotrain.errors import DataError
from onotrain.files import AtomicFile
from onotrain.known_names import format_of_file

#: Whole numbers up to this one are exact in float64.
_EXACT = 2.0**53


def with_kinds(table: Table) -> tuple[Table, list[str]]:
    """Return a table whose dates are points in time, and notes on what was decided for it.

    Days and months that may be either are read as elsewhere (`onotrain.data.tables.dates`); a time of day stays text.
    """
    columns, notes = [], list(table.notes)
    for column in table:
        if not column.is_date and guess_kind(column).kind == "date":
            dates = dates_of(table, column, None)
            if not are_times(dates):
                orders = other_order(column.categories or ())
                if orders:
                    notes.append(f"column {column.name!r}: read as {orders[0]}, though {orders[1]} fits as well")
                column = replace(column, values=dates, categories=None, numbers=None)
        columns.append(column)
    return replace(table, columns=tuple(columns)), notes


def write_table(table: Table, path: Path, compression: str | None = None) -> list[str]:
    """Write a table as CSV, TSV, Parquet, Arrow or HDF5, as the name of the file says.

    Parameters
    ----------
    table
        With its kinds (`with_kinds`).
    path
        Of the new file, which replaces an old one only when it is complete.
    compression
        ``gzip`` or None; of Parquet None is snappy.

    Returns
    -------
    list of str
        What was not kept, in words.

    Raises
    ------
    DataError
        The format cannot hold a text of the table.
    ResourceError
        The disk is full, or the file cannot be made.
    """
    kind = format_of_file(str(path))
    if kind in ("csv", "tsv"):
        _check_words(table)
    with AtomicFile(path, anonymous=False) as new:
        if kind == "hdf5":
            from onotrain.data.hdf5_writer import write_columns

            write_columns(new.temporary, [(c.name, *_plain(c)) for c in table])
        elif kind == "parquet":
            pq.write_table(_arrow(table), new.temporary, compression=compression or "snappy")
        elif kind == "arrow":
            feather.write_feather(_arrow(table), str(new.temporary), compression="uncompressed")
        else:
            codec = {".gz": "gzip", ".bz2": "bz2"}.get(path.suffix.lower())
            with pa.output_stream(str(new.temporary), compression=codec) as stream:
                options = pacsv.WriteOptions(delimiter="\t" if kind == "tsv" else ",", quoting_style="needed")
                pacsv.write_csv(_arrow(table), stream, options)
        new.commit()
    united = [column.name for column in table if column.units]
    return [f"units are not kept: {shown(united)}"] if united and kind in ("csv", "tsv") else []


def _check_words(table: Table) -> None:
    """Refuse text that would be read as a missing value."""
    for column in table:
        lost = [word for word in column.categories or () if word.lower() in MISSING]
        if lost:
            raise DataError(
                f"{table.source}: column {column.name!r} has the text {lost[0]!r}, which stands for a missing value in "
                "a text table",
                hint="write Parquet, which tells them apart",
            )


def _arrow(table: Table) -> pa.Table:
    fields, arrays = [], []
    for column in table:
        arrays.append(_array(column, from_text=table.csv is not None))
        metadata = {"units": column.units} if column.units else None
        fields.append(pa.field(column.name, arrays[-1].type, metadata=metadata))
    return pa.table(arrays, schema=pa.schema(fields))


def _array(column: Column, *, from_text: bool) -> pa.Array:
    if column.categories is not None:
        codes = pa.array(column.values, mask=column.missing)
        return pa.DictionaryArray.from_arrays(codes, pa.array(column.categories, pa.string())).cast(pa.string())
    known = column.values[~column.missing]
    whole = from_text and known.dtype.kind == "f" and (np.floor(known) == known).all() and len(known)
    if whole and np.abs(known).max() < _EXACT:
        values = np.where(column.missing, 0, column.values).astype(np.int64)
        return pa.array(values, mask=column.missing)
    return pa.array(column.values, from_pandas=True)


def _plain(column: Column) -> tuple[np.ndarray, str | None]:
    """Return a column as numbers or text, for HDF5, and its units."""
    is_text = column.is_text or column.values.dtype.kind in "bM"
    return column.texts() if is_text else column.values, column.units


def selected(table: Table, names: Sequence[str] | None, excluded: Sequence[str]) -> Table:
    """Return the table of some columns: those that are named, if any are, without those that are excluded."""
    return table.select([name for name in (names or table.names) if name not in excluded])

"""Parquet and Arrow (Feather) files to columns, batch by batch."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from onotrain.data.paths import check_unpacked, existing_file, reason
from onotrain.data.tables.columns import NumberColumn, TextColumn
from onotrain.data.tables.naming import nfc_names, places_of
from onotrain.data.tables.table import Column, Table, shown
from onotrain.errors import DataError
from onotrain.files import open_regular
from onotrain.memory import check_memory

__all__ = ["Parquet", "choose_fields", "columns_of", "no_samples", "opened", "read_arrow", "width"]

#: Rows that are decoded at once.
BATCH_ROWS = 1 << 15
_BUFFER_BYTES = 1 << 16
_PARQUET_MAGIC, _FILE_MAGIC = b"PAR1", b"ARROW1"


class Source(Protocol):
    """A file that yields batches of some of its columns."""

    @property
    def schema(self) -> pa.Schema: ...
    def rows(self, fields: list[int]) -> int: ...
    def batches(self, fields: list[int]) -> Iterator[pa.RecordBatch]: ...


@dataclass(frozen=True)
class Parquet:
    """A Parquet file."""

    file: pq.ParquetFile
    schema: pa.Schema

    def rows(self, fields: list[int]) -> int:
        """Return the number of rows."""
        return self.file.metadata.num_rows

    @property
    def groups(self) -> tuple[int, ...]:
        """Rows of the row groups."""
        metadata = self.file.metadata
        return tuple(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))

    def batches(self, fields: list[int], group: int | None = None) -> Iterator[pa.RecordBatch]:
        """Yield batches of some columns, of all row groups or of one."""
        groups = range(self.file.num_row_groups) if group is None else [group]
        # A name also stands for those that begin with it and a point, so what comes is looked up once more.
        names = [self.schema.field(field).name for field in fields]
        first = {name: place for place, name in reversed(list(enumerate(self.schema.names)))}
        if any(first[self.schema.field(field).name] != field for field in fields):  # a name that occurs twice
            for batch in self.file.iter_batches(BATCH_ROWS, groups):
                yield batch.select(fields)
        else:
            for batch in self.file.iter_batches(BATCH_ROWS, groups, names):
                yield batch.select(names)


@dataclass(frozen=True)
class _Ipc:
    path: str
    of_file: bool
    schema: pa.Schema

    def rows(self, fields: list[int]) -> int:
        return sum(batch.num_rows for batch in self._read(fields[:1]))

    def batches(self, fields: list[int]) -> Iterator[pa.RecordBatch]:
        names = [self.schema.field(field).name for field in fields]
        for batch in self._read(fields):
            batch.validate(full=True)
            if batch.schema.names != names:
                raise pa.ArrowInvalid(f"a batch has the columns {batch.schema.names}, expected {names}")
            yield batch

    def _read(self, fields: list[int]) -> Iterator[pa.RecordBatch]:
        options = pa.ipc.IpcReadOptions(included_fields=sorted(fields))
        with pa.OSFile(self.path) as file:
            if self.of_file:
                with pa.ipc.open_file(file, options=options) as reader:
                    for number in range(reader.num_record_batches):
                        yield reader.get_batch(number)
            else:
                with pa.ipc.open_stream(file, options=options) as stream:
                    yield from stream


@contextlib.contextmanager
def opened(path: str) -> Iterator[Source]:
    """Open a file for reading.

    Raises
    ------
    DataError
        Missing, damaged, or neither Parquet nor Arrow; also for errors of the library while the file is open.
    """
    file = existing_file(path)
    with open_regular(file) as raw:
        magic = raw.read(6)
    try:
        if magic[:4] == _PARQUET_MAGIC:
            schema = pq.read_schema(file)
            words = [field.name for field in schema if _is_text(field.type)]
            # Without a buffer of its own for each column, whole row groups, which may be the whole file, are held.
            with pq.ParquetFile(file, read_dictionary=words, buffer_size=_BUFFER_BYTES, pre_buffer=False) as parquet:
                yield Parquet(parquet, schema)
        else:
            of_file = magic == _FILE_MAGIC
            read = pa.ipc.open_file if of_file else pa.ipc.open_stream
            with pa.OSFile(str(file)) as stream, read(stream) as reader:
                schema = reader.schema
            yield _Ipc(str(file), of_file, schema)
    except (pa.ArrowException, OSError, ValueError, IndexError) as error:
        raise DataError(
            f"{path}: not a usable Parquet or Arrow file: {reason(error)}", hint="copy or create the file again"
        ) from error


def read_arrow(path: str, wanted: Collection[str] | None = None) -> Table:
    """Read a Parquet file, or an Arrow (Feather) file or stream.

    Parameters
    ----------
    path
        Of the file; its first bytes say which it is.
    wanted
        Columns to read; those that the file does not have are left out.  None: all, but for nested ones, which a note
        of the table then names.

    Returns
    -------
    Table
        Text and dictionaries of text as text; timestamps and dates as datetime64[us], with a time zone in UTC; times of
        day and durations as float64 in seconds; decimals as float64; truth values as bool; integers and floats as they
        are, integers of which some are missing as float64.  Units are those of the field's metadata.

    Raises
    ------
    DataError
        Missing, damaged, no samples, or a wanted column is nested.
    ResourceError
        Larger than the memory that is left.
    """
    with opened(path) as source:
        fields, notes = choose_fields(source.schema, path, wanted)
        rows = source.rows(list(fields)) if fields else 0
        if fields and not rows:
            raise no_samples(path)
        hint = "stream the data: set data.stream to true" if isinstance(source, Parquet) else None
        nbytes = rows * sum(width(source.schema.field(field).type) for field in fields)
        check_unpacked(nbytes, existing_file(path).stat().st_size, path)
        check_memory(nbytes, path, hint=hint)
        return Table(columns_of(source.batches(list(fields)) if fields else (), source.schema, fields, rows), path,
                     notes=notes)  # fmt: skip


def choose_fields(
    schema: pa.Schema, path: str, wanted: Collection[str] | None
) -> tuple[dict[int, str], tuple[str, ...]]:
    """Return the names of the columns to read by their numbers in the file, and what there is to be noted.

    Raises
    ------
    DataError
        A wanted column, or every one, is nested.
    """
    names = nfc_names(schema.names)
    fields = places_of(names, wanted)
    nested = [field for field in fields if _refused(schema.field(field).type)]
    if nested and (wanted is not None or nested == fields):
        field = nested[0]
        raise DataError(
            f"{path}: the column {names[field]!r} is of type {schema.field(field).type}, "
            "expected numbers, text, truth values or times",
            hint="write its parts as columns of their own, or leave it out",
        )
    notes = (f"left out, because their types are nested: {shown([names[f] for f in nested])}",) if nested else ()
    return {field: names[field] for field in fields if field not in nested}, notes


def no_samples(path: str) -> DataError:
    """Return the error for a file without rows."""
    return DataError(f"{path}: no samples")


def columns_of(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, fields: Mapping[int, str], rows: int
) -> tuple[Column, ...]:
    """Return the columns of batches, which hold `fields` (number in the file, and name) and `rows` in all."""
    types = [_plain(schema.field(field).type) for field in fields]
    columns = [TextColumn(rows) if _is_text(kind) else NumberColumn(rows, _dtype(kind)) for kind in types]
    for batch in batches:
        for column, array, kind in zip(columns, batch.columns, types, strict=True):
            _append(column, array, kind)
    return tuple(
        column.column(name, field, _units(schema.field(field)))
        for column, (field, name) in zip(columns, fields.items(), strict=True)
    )


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values, of dictionaries and extensions too."""
    while pa.types.is_dictionary(kind) or isinstance(kind, pa.BaseExtensionType) or pa.types.is_run_end_encoded(kind):
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind.value_type
    return kind


def _is_text(kind: pa.DataType) -> bool:
    kind = _plain(kind)
    types = pa.types
    return (
        types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_binary(kind)
        or types.is_large_binary(kind) or types.is_binary_view(kind) or types.is_fixed_size_binary(kind)
    )  # fmt: skip


def _refused(kind: pa.DataType) -> bool:
    kind = _plain(kind)
    return pa.types.is_nested(kind) or not (_is_text(kind) or _dtype(kind) is not None)


def _dtype(kind: pa.DataType) -> Any:
    """Return the type that values of a column get; None for text and what is refused."""
    types = pa.types
    if types.is_timestamp(kind) or types.is_date(kind):
        return np.dtype("datetime64[us]")
    if types.is_boolean(kind):
        return np.dtype(bool)
    if types.is_integer(kind) or types.is_floating(kind):
        return np.dtype(kind.to_pandas_dtype())
    if types.is_decimal(kind) or types.is_time(kind) or types.is_duration(kind) or types.is_null(kind):
        return np.dtype(np.float64)
    return None


def width(kind: pa.DataType) -> int:
    """Return the bytes of a column's value in memory."""
    kind = _plain(kind)
    return 4 if _is_text(kind) else int(_dtype(kind).itemsize)


def _append(column: NumberColumn | TextColumn, array: pa.Array, kind: pa.DataType) -> None:
    """Append the values of a batch to a column."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if isinstance(column, TextColumn):
        if not pa.types.is_dictionary(array.type):
            array = pc.dictionary_encode(pc.cast(array, pa.large_string()))
        words = pc.cast(array.dictionary, pa.large_string()).to_pylist()
        places = pc.fill_null(pc.cast(array.indices, pa.int64()), -1).to_numpy(zero_copy_only=False)
        if len(places) and not -1 <= places.min() <= places.max() < len(words):
            raise pa.ArrowInvalid("a dictionary does not have all entries that occur")
        column.add(words, places)
        return
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    elif pa.types.is_run_end_encoded(array.type):
        array = pc.run_end_decode(array)
    missing = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    column.add(_numbers(array, kind), missing)


def _numbers(array: pa.Array, kind: pa.DataType) -> np.ndarray:
    """Return the values of numbers or times; anything where one is missing."""
    types = pa.types
    if types.is_null(kind):
        return np.full(len(array), np.nan)
    if types.is_decimal(kind):
        array = pc.cast(array, pa.float64())
    elif types.is_timestamp(kind) or types.is_date(kind):
        options = pc.CastOptions(target_type=pa.timestamp("us", getattr(kind, "tz", None)), allow_time_truncate=True)
        array = pc.cast(array, options=options)
    elif types.is_time(kind) or types.is_duration(kind):
        unit = kind.unit if not types.is_time32(kind) and not types.is_time64(kind) else str(kind)[7:-1]
        whole = pc.cast(array, pa.int32() if types.is_time32(kind) else pa.int64())
        return np.asarray(pc.fill_null(whole, 0), np.float64) * {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}[unit]
    if array.null_count and not types.is_timestamp(array.type):
        array = pc.fill_null(array, pa.scalar(0).cast(array.type) if not types.is_boolean(kind) else False)
    return array.to_numpy(zero_copy_only=False)


def _units(field: pa.Field) -> str | None:
    """Return the units that a field's metadata gives, or those that its type has."""
    for key in (b"units", b"unit"):
        if field.metadata and key in field.metadata:
            return str(field.metadata[key].decode(errors="replace"))
    return "s" if pa.types.is_time(field.type) or pa.types.is_duration(field.type) else None

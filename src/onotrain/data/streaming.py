"""Which data stay on the disk: arrays in HDF5 files, and tables in Parquet files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from onotrain.data.dataset import DataSpec
from onotrain.data.hdf5_stream import Hdf5Stream, not_streamed
from onotrain.data.paths import existing_file
from onotrain.data.readers import detect_format, format_note
from onotrain.data.sources import files_of, is_table
from onotrain.data.streams import Stream
from onotrain.data.tables.preparation import Preparation
from onotrain.data.tables.table import Table
from onotrain.memory import available_bytes

if TYPE_CHECKING:
    from onotrain.data.tables.stored import StoredTable

#: A thousand files are opened to know their size only if this many times the size that they seem to have is large.
_SURELY = 4
#: A window of fewer blocks than this mixes them badly.
_FEW_BLOCKS = 8


def open_stream(spec: DataSpec, wanted: bool | str, memory: int | None = None) -> Hdf5Stream | None:
    """Return arrays that are to be read in blocks, opened; None if they are to be read whole.

    Parameters
    ----------
    spec
        Any files or built-in data set.
    wanted
        True, False, or ``auto``: HDF5 files that would take more than half of the memory that is left.
    memory
        What is left [bytes]; default: of this machine, now.

    Raises
    ------
    DataError
        Streaming is asked for, and the files are not arrays in HDF5.
    """
    if wanted is False or (wanted == "auto" and (_formats(spec) != {"hdf5"} or is_table(spec))):
        return None
    if is_table(spec):
        raise not_streamed(spec)
    if wanted == "auto" and not is_large(_SURELY * _estimate(files_of(spec)), memory):
        return None
    stream = Hdf5Stream(spec)
    if wanted is True or is_large(stream.nbytes, memory):
        return stream
    stream.close()
    return None


def stored_table(
    spec: DataSpec, wanted: bool | str, *, texts: Collection[str] = (), columns: Collection[str] | None = None,
    formats: Mapping[str, str] | None = None,
) -> StoredTable | None:  # fmt: skip
    """Return a table that may stay on the disk; None if it is to be read whole.

    Parameters
    ----------
    spec
        Of any table.
    wanted
        True, False, or ``auto``: whether it stays is then a question of the memory (`is_large`).
    texts, columns, formats
        See `onotrain.data.tables.loading.read_table`.

    Raises
    ------
    DataError
        Streaming is asked for, and the files are not Parquet; or they are damaged.
    """
    if wanted is False:
        return None
    table = None
    if _formats(spec) == {"parquet"}:
        from onotrain.data.tables.stored import stored

        table = stored([each.path for each in files_of(spec)], texts, columns, formats or {})
        note = format_note(files_of(spec)[0])
        if table is not None and note is not None:
            table = replace(table, notes=(note, *table.notes))
    if table is None and wanted is True:
        raise not_streamed(spec)
    return table


def table_stream(
    table: Table, preparation: Preparation, dtype: str, types: Mapping[str, Any] | None = None, *, lenient: bool = False
) -> Stream:
    """Return what reads the samples of a table that stays on the disk; see `onotrain.data.tables.table_stream`."""
    from onotrain.data.tables.stored import StoredTable
    from onotrain.data.tables.table_stream import TableStream

    if not isinstance(table, StoredTable):
        raise TypeError(f"{table.source} is in memory")
    return TableStream(table, preparation, types or {}, dtype, lenient=lenient)


def notes_on(stream: Stream | None, window_mib: int) -> Iterator[str]:
    """Yield a note if blocks are so large that a window (`window_mib`) holds few of them."""
    if stream is not None and len(stream.edges) > _FEW_BLOCKS:
        mib = int(np.diff(stream.edges).max()) * stream.features * stream.dtype.itemsize / 2**20
        if mib * _FEW_BLOCKS > window_mib:
            yield (
                f"row groups are read whole and take up to {mib:,.0f} MiB, so few of them are shuffled together "
                f"(data.window_mib is {window_mib}); write files with smaller row groups"
            )


def is_large(nbytes: int, memory: int | None = None) -> bool:
    """Return whether so many bytes are more than half of the memory that is left; see `open_stream`."""
    return nbytes > (available_bytes() if memory is None else memory) // 2


def _estimate(files: Sequence[DataSpec]) -> int:
    """Return about how many bytes HDF5 files would be in memory, if all are stored as the first one is."""
    with Hdf5Stream(files[0]) as first:
        nbytes = first.nbytes
    sizes = [existing_file(each.path).stat().st_size for each in files]
    return nbytes * sum(sizes) // sizes[0]


def _formats(spec: DataSpec) -> set[str]:
    return {detect_format(each) for each in files_of(spec)}

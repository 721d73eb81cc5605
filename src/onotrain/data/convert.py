"""Any data set to HDF5, in order or shuffled, in bounded memory where the source is HDF5 itself; tables to tables."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from onotrain.data.dataset import Dataset, DataSpec, listed
from onotrain.data.samples import ArraySamples, Samples, StreamSamples, blocks_of
from onotrain.data.sources import expanded, format_of, is_table, load_dataset, read_table
from onotrain.data.tables.kinds import is_numbers
from onotrain.data.tables.roles import choose_roles
from onotrain.errors import DataError
from onotrain.known_names import TABLES, format_of_file
from onotrain.memory import available_bytes

#: Size of a chunk in the file [bytes]: large enough to read quickly, small enough that many fit in a shuffle window.
CHUNK_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 26

#: Called with (rows done, rows in all).
Progress = Callable[[int, int], None]


@contextlib.contextmanager
def _opened(data: DataSpec | Dataset) -> Iterator[tuple[Samples, Dataset]]:
    """Open samples, with a data set that has their targets and names."""
    data = expanded(data) if isinstance(data, DataSpec) else data
    if isinstance(data, DataSpec) and format_of(data) == "hdf5" and not is_table(data):
        from onotrain.data.hdf5_stream import Hdf5Stream

        with Hdf5Stream(data, finite=False) as stream:
            yield StreamSamples(stream, np.empty(0)), stream.targets_only()
    else:
        dataset = load_dataset(data) if isinstance(data, DataSpec) else data
        yield ArraySamples(dataset.features, np.empty(0)), dataset


def convert(
    data: DataSpec | Dataset,
    out_path: str | os.PathLike[str],
    *,
    shuffle_seed: int | None = None,
    chunk_rows: int | None = None,
    compression: str | None = None,
    progress: Progress | None = None,
    memory_bytes: int | None = None,
) -> int:
    """Write a data set as HDF5 (``x``, ``y``, names and units as attributes); `docs/data.md` describes the file.

    Parameters
    ----------
    data
        What to convert: a file or a data set in memory.
    out_path
        Of the new file, which replaces an old one only when it is complete.
    shuffle_seed
        Write the samples in a random order, a function of this seed; None keeps the order.
    chunk_rows
        Samples of a chunk; None means about 1 MiB.
    compression
        ``gzip`` or None.
    progress
        Called with (rows done, rows in all).
    memory_bytes
        Most memory for a shuffle [bytes]; None means half of what is left.  A larger file is read several times.

    Returns
    -------
    int
        Number of samples written.

    Raises
    ------
    DataError
        The source cannot be read, or the file cannot be made.
    ResourceError
        Disk or memory is too small.
    """
    from onotrain.data import hdf5_writer

    if compression not in (None, "gzip"):
        raise DataError(f"compression is {compression!r}, expected gzip or none")
    path = Path(out_path).expanduser()
    with _opened(data) as (samples, dataset):
        row_bytes = math.prod(dataset.feature_shape) * samples.dtype.itemsize
        chunk = chunk_rows or max(1, CHUNK_BYTES // row_bytes)
        with hdf5_writer.new_file(path, len(samples), samples.dtype, dataset, chunk, compression) as writer:
            order = None if shuffle_seed is None else shuffled(len(samples), shuffle_seed)
            if dataset.targets is not None:
                writer.write_targets(dataset.targets if order is None else dataset.targets[order], dataset.target_units)
            memory = (available_bytes() // 2 if memory_bytes is None else memory_bytes) // row_bytes
            if order is None:
                memory = _BLOCK_BYTES // row_bytes
            # Whole chunks: one that is cut in two is compressed twice.
            for begin, block in _blocks(samples, row_bytes, order, max(memory // chunk, 1) * chunk):
                writer.write_features(begin, block)
                if progress is not None:
                    progress(begin + len(block), len(samples))
        return len(samples)


def convert_table(
    spec: DataSpec, out_path: str | os.PathLike[str], *, shuffle_seed: int | None = None, compression: str | None = None
) -> tuple[int, list[str]]:
    """Write the columns of a table in another format, with their kinds (`onotrain.data.tables.writing`).

    Parameters
    ----------
    spec
        Of a table; features and targets name the columns that are wanted, if any are.
    out_path, shuffle_seed, compression
        See `convert`.

    Returns
    -------
    samples, notes
        Number of samples written, and what was decided for the user or was not kept.

    Raises
    ------
    DataError
        The source cannot be read, is no table, or holds what the format does not.
    ResourceError
        Disk or memory is too small.
    """
    from onotrain.data.tables.table import matching
    from onotrain.data.tables.writing import selected, with_kinds, write_table

    if not is_table(spec):
        raise DataError(
            f"{spec.path}: arrays, which may have any shape; a text table, Parquet or Arrow holds columns",
            hint="convert to HDF5 (.h5)",
        )
    table = read_table(spec)
    wanted = [*(listed(spec.features) or ()), *(listed(spec.targets) or ())]
    names = matching(table.names, wanted, table.source, "features") if wanted else None
    excluded = matching(table.names, spec.exclude, table.source, "exclude") if spec.exclude else ()
    table, notes = with_kinds(selected(table, names, excluded))
    if shuffle_seed is not None:
        table = table.take(shuffled(len(table), shuffle_seed))
    return len(table), notes + write_table(table, Path(out_path).expanduser(), compression)


def takes_columns(spec: DataSpec, out_path: str | os.PathLike[str]) -> bool:
    """Return whether `convert_table` is for it: a conversion to a table, or of columns that are no numbers."""
    if format_of_file(str(out_path)) in TABLES:
        return True
    if not is_table(spec):
        return False
    table = read_table(spec)
    features = [table[name] for name in choose_roles(table, spec, {}, anyway=True).features]
    return not features or not all(map(is_numbers, features))


def shuffled(rows: int, seed: int) -> np.ndarray:
    """Return a permutation of ``range(rows)`` (int64) that no version of NumPy changes."""
    draw = np.random.Philox(np.random.SeedSequence(seed)).random_raw(rows)
    return np.argsort(draw, kind="stable")


def _blocks(
    samples: Samples, row_bytes: int, order: np.ndarray | None, memory_rows: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, features) of successive blocks of the output.

    With an order, each block is collected in one pass over the samples, so that both files are read and written in long
    strokes; as many passes are made as blocks of the memory's size are needed.
    """
    if order is None:
        yield from zip(range(0, len(samples), memory_rows), blocks_of(samples, memory_rows), strict=True)
        return
    step = max(1, _BLOCK_BYTES // row_bytes)
    for begin in range(0, len(samples), memory_rows):
        wanted = order[begin : begin + memory_rows]
        by_source = np.argsort(wanted, kind="stable")
        ascending = wanted[by_source]
        block = np.empty((len(wanted), row_bytes // samples.dtype.itemsize), samples.dtype)
        for low in range(0, len(samples), step):
            high = min(low + step, len(samples))
            first, last = np.searchsorted(ascending, (low, high))
            if first < last:
                features, rows = samples.features(low, high)
                block[by_source[first:last]] = features[rows[ascending[first:last] - low]]
        yield begin, block

"""Any data set to HDF5, in order or shuffled, in bounded memory where the source is HDF5 itself."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from onotrain.data.dataset import Dataset, DataSpec
from onotrain.data.readers import detect_format, load_dataset
from onotrain.errors import DataError
from onotrain.memory import available_bytes

#: Size of a chunk in the file [bytes]: large enough to read quickly, small enough that many fit in a shuffle window.
CHUNK_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 26

#: Called with (rows done, rows in all).
Progress = Callable[[int, int], None]


class _Source(Protocol):
    """Rows that can be read block by block."""

    rows: int
    dtype: np.dtype

    def read(self, begin: int, end: int, out_features: np.ndarray) -> None: ...


class _InMemory:
    """Rows of a data set in memory."""

    def __init__(self, features: np.ndarray) -> None:
        self._features = features
        self.rows, self.dtype = len(features), features.dtype

    def read(self, begin: int, end: int, out_features: np.ndarray) -> None:
        out_features[...] = self._features[begin:end]


@contextlib.contextmanager
def _opened(data: DataSpec | Dataset) -> Iterator[tuple[_Source, Dataset]]:
    """Open a source of rows, with a data set that has its targets and names."""
    if isinstance(data, DataSpec) and detect_format(data) == "hdf5":
        from onotrain.data.hdf5_stream import Hdf5Stream

        with Hdf5Stream(data, finite=False) as stream:
            yield stream, stream.targets_only()
    else:
        dataset = load_dataset(data) if isinstance(data, DataSpec) else data
        yield _InMemory(dataset.features), dataset


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
    """Write a data set as HDF5 (``x``, ``y``, names as attributes); `docs/data.md` describes the file.

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
    with _opened(data) as (source, dataset):
        columns = int(np.prod(dataset.feature_shape))
        row_bytes = columns * source.dtype.itemsize
        chunk = chunk_rows or max(1, CHUNK_BYTES // row_bytes)
        with hdf5_writer.new_file(path, source.rows, source.dtype, dataset, chunk, compression) as writer:
            order = None if shuffle_seed is None else shuffled(source.rows, shuffle_seed)
            if dataset.targets is not None:
                writer.write_targets(dataset.targets if order is None else dataset.targets[order])
            memory = (available_bytes() // 2 if memory_bytes is None else memory_bytes) // row_bytes
            if order is None:
                memory = _BLOCK_BYTES // row_bytes
            # Whole chunks: one that is cut in two is compressed twice.
            for begin, block in _rows(source, columns, order, max(memory // chunk, 1) * chunk):
                writer.write_features(begin, block)
                if progress is not None:
                    progress(begin + len(block), source.rows)
        return source.rows


def shuffled(rows: int, seed: int) -> np.ndarray:
    """Return a permutation of ``range(rows)`` (int64) that no version of NumPy changes."""
    draw = np.random.Philox(np.random.SeedSequence(seed)).random_raw(rows)
    return np.argsort(draw, kind="stable")


def _rows(
    source: _Source, columns: int, order: np.ndarray | None, memory_rows: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, features) of successive blocks of the output.

    With an order, each block is collected in one pass over the source, so that both files are read and written in long
    strokes; as many passes are made as blocks of the memory's size are needed.
    """
    if order is None:
        for begin in range(0, source.rows, memory_rows):
            end = min(begin + memory_rows, source.rows)
            block = np.empty((end - begin, columns), source.dtype)
            source.read(begin, end, block)
            yield begin, block
        return
    step = max(1, _BLOCK_BYTES // (columns * source.dtype.itemsize))
    for begin in range(0, source.rows, memory_rows):
        wanted = order[begin : begin + memory_rows]
        by_source = np.argsort(wanted, kind="stable")
        ascending = wanted[by_source]
        block = np.empty((len(wanted), columns), source.dtype)
        for low in range(0, source.rows, step):
            high = min(low + step, source.rows)
            first, last = np.searchsorted(ascending, (low, high))
            if first < last:
                part = np.empty((high - low, columns), source.dtype)
                source.read(low, high, part)
                block[by_source[first:last]] = part[ascending[first:last] - low]
        yield begin, block

"""Writing data sets as HDF5 in the layout that `onotrain.data.hdf5` reads by default."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from onotrain.data.dataset import Dataset
from onotrain.data.hdf5 import FILE_TYPE, VERSION
from onotrain.errors import DataError, ResourceError
from onotrain.files import AtomicFile


class Writer:
    """Takes features block by block into an open file."""

    def __init__(self, file: h5py.File, features: h5py.Dataset) -> None:
        self._file, self._features = file, features

    def write_features(self, begin: int, block: np.ndarray) -> None:
        """Write the rows from `begin` on."""
        self._features[begin : begin + len(block)] = block.reshape(len(block), *self._features.shape[1:])

    def write_targets(self, targets: np.ndarray, units: tuple[str, ...] | None = None) -> None:
        """Write all targets: int64, float64 or text; and their units, one for each output, where they are known."""
        written = self._file.create_dataset("y", data=_fixed_text(targets) if targets.dtype.kind == "U" else targets)
        if units is not None:
            written.attrs["units"] = _fixed_text(np.array(units))


@contextlib.contextmanager
def new_file(
    path: Path, rows: int, dtype: np.dtype, dataset: Dataset, chunk_rows: int, compression: str | None
) -> Iterator[Writer]:
    """Make a file that appears under its name only when it is complete and on the disk; names are those of `dataset`.

    Raises
    ------
    DataError
        The directory is missing or cannot be written.
    ResourceError
        The disk is full.
    """
    shape = (rows, *dataset.feature_shape)
    needed = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    try:
        new = AtomicFile(path, anonymous=False)
    except ResourceError as error:
        raise DataError(error.message, hint=f"make the directory {path.parent}, or choose another") from error
    with new:
        try:
            free = shutil.disk_usage(path.parent).free
            # libhdf5 is not safe on a full disk, so room is asked for before; compressed files are at most that large.
            if needed > free:
                raise ResourceError(f"{path}: needs {needed >> 20} MiB, {free >> 20} MiB are free on the disk")
            with h5py.File(new.temporary, "w", libver=("v110", "v110"), locking=False) as file:  # nobody else knows it
                _describe(file, dataset)
                chunks = None if chunk_rows >= rows and compression is None else (min(chunk_rows, rows), *shape[1:])
                yield Writer(file, file.create_dataset("x", shape, dtype, chunks=chunks, compression=compression))
        except (OSError, RuntimeError) as error:
            raise ResourceError(
                f"{path}: cannot be written: {error}", hint="check the disk's free space and quota"
            ) from error
        new.commit()


def _describe(file: h5py.File, dataset: Dataset) -> None:
    """Write the attributes."""
    file.attrs["filetype"], file.attrs["version"] = _fixed_text(np.array(FILE_TYPE)), VERSION
    file.attrs["source"] = _fixed_text(np.array(dataset.source))
    file.attrs["feature_shape"] = np.array(dataset.feature_shape, np.int64)
    for key in ("feature_names", "target_names", "class_names"):
        names = getattr(dataset, key)
        if names is not None:
            # Attributes hold at most 64 KiB, except in the newer layout (libver above), which keeps them elsewhere.
            file.attrs[key] = _fixed_text(np.array(list(names), str))


def _fixed_text(text: np.ndarray) -> np.ndarray:
    """Return text as UTF-8 of fixed length.

    Text of variable length lies in a heap of the file, and libhdf5 may never come back from a damaged one.
    """
    encoded = np.char.encode(text, "utf-8")
    return encoded.astype(h5py.string_dtype("utf-8", max(encoded.dtype.itemsize, 1)))


def write_columns(path: Path, columns: Sequence[tuple[str, np.ndarray, str | None]]) -> None:
    """Write columns (name, numbers or text ``(n,)``, units) as one compound data set, ``table``.

    Data sets of their own could have names that stand for features and targets.
    """
    stored = [_fixed_text(values) if values.dtype.kind == "U" else values for _, values, _ in columns]
    rows = np.empty(len(stored[0]), [(name, each.dtype) for (name, _, _), each in zip(columns, stored, strict=True)])
    for (name, _, _), each in zip(columns, stored, strict=True):
        rows[name] = each
    with h5py.File(path, "w", libver=("v110", "v110"), locking=False) as file:
        data = file.create_dataset("table", data=rows)
        if any(units for _, _, units in columns):
            data.attrs["units"] = _fixed_text(np.array([units or "" for _, _, units in columns]))

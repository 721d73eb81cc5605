"""Writing data sets as HDF5 in the layout that `onotrain.data.hdf5` reads by default."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from onotrain.data.hdf5 import FILE_TYPE, VERSION
from onotrain.errors import DataError, ResourceError


@dataclass(frozen=True)
class Description:
    """What a file says about its samples."""

    feature_shape: tuple[int, ...]
    feature_names: Sequence[str] | None
    target_names: Sequence[str] | None
    class_names: Sequence[str] | None
    source: str


class Writer:
    """Takes features block by block into an open file."""

    def __init__(self, file: h5py.File, features: h5py.Dataset) -> None:
        self._file, self._features = file, features

    def write_features(self, begin: int, block: np.ndarray) -> None:
        """Write the rows from `begin` on."""
        self._features[begin : begin + len(block)] = block.reshape(len(block), *self._features.shape[1:])

    def write_targets(self, targets: np.ndarray) -> None:
        """Write all targets: int64, float32 or text."""
        if targets.dtype.kind == "U":
            self._file.create_dataset("y", data=_fixed_text(targets))
        else:
            self._file.create_dataset("y", data=targets)


@contextlib.contextmanager
def new_file(
    path: Path, rows: int, dtype: np.dtype, description: Description, chunk_rows: int, compression: str | None
) -> Iterator[Writer]:
    """Make a file that appears under its name only when it is complete and on the disk.

    Raises
    ------
    DataError
        The directory is missing or cannot be written.
    ResourceError
        The disk is full.
    """
    shape = (rows, *description.feature_shape)
    needed = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    temporary = _temporary(path)
    try:
        free = shutil.disk_usage(path.parent).free
        # libhdf5 is not safe on a full disk, so room is asked for before; compressed files are at most that large.
        if needed > free:
            raise ResourceError(f"{path}: needs {needed >> 20} MiB, {free >> 20} MiB are free on the disk")
        with h5py.File(temporary, "w", libver=("v110", "v110")) as file:
            _describe(file, description)
            chunks = None if chunk_rows >= rows and compression is None else (min(chunk_rows, rows), *shape[1:])
            yield Writer(file, file.create_dataset("x", shape, dtype, chunks=chunks, compression=compression))
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except (OSError, RuntimeError) as error:
        raise ResourceError(
            f"{path}: cannot be written: {error}", hint="check the disk's free space and quota"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _describe(file: h5py.File, description: Description) -> None:
    """Write the attributes."""
    file.attrs["filetype"], file.attrs["version"] = _fixed_text(np.array(FILE_TYPE)), VERSION
    file.attrs["source"] = _fixed_text(np.array(description.source))
    file.attrs["feature_shape"] = np.array(description.feature_shape, np.int64)
    for key in ("feature_names", "target_names", "class_names"):
        names = getattr(description, key)
        if names is not None:
            # Attributes hold at most 64 KiB, except in the newer layout (libver above), which keeps them elsewhere.
            file.attrs[key] = _fixed_text(np.array(list(names), str))


def _fixed_text(text: np.ndarray) -> np.ndarray:
    """Return text as UTF-8 of fixed length.

    Text of variable length lies in a heap of the file, and libhdf5 may never come back from a damaged one.
    """
    encoded = np.char.encode(text, "utf-8")
    return encoded.astype(h5py.string_dtype("utf-8", max(encoded.dtype.itemsize, 1)))


def _temporary(path: Path) -> Path:
    """Make an empty file beside `path`."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written: {error.strerror}", hint=f"make the directory {path.parent}, or choose another"
        ) from error
    os.fchmod(handle, 0o666 & ~_umask())
    os.close(handle)
    return Path(name)


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    """Wait until a file or directory is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

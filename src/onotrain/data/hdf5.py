"""HDF5 files: finding the data sets and reading them; `hdf5_safety` refuses what a hostile file may hold."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from onotrain.data.dataset import (
    Dataset,
    DataSpec,
    are_pixels,
    canonical_targets,
    make_dataset,
    sample_shape,
    stored_dtype,
)
from onotrain.data.hdf5_safety import list_arrays, open_array, read_attribute
from onotrain.data.paths import choose_arrays, existing_file, reason
from onotrain.errors import DataError
from onotrain.memory import check_memory

_BLOCK_BYTES = 1 << 24
#: What the attribute ``filetype`` of our own files says.
FILE_TYPE, VERSION = "onotrain-data", 1


@contextlib.contextmanager
def open_file(path: str) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Raises
    ------
    DataError
        Missing, not HDF5, or damaged; also for errors of the HDF5 library while the file is open.
    """
    file = existing_file(path)
    try:
        # The library's file locks fail on some network file systems, and readers do not need them.
        with h5py.File(file, "r", locking="best-effort") as handle:
            yield handle
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: not a usable HDF5 file: {reason(error)}", hint="copy or create the file again"
        ) from error


@dataclass(frozen=True)
class Arrays:
    """The data sets of a file that hold features and targets, checked, while the file is open."""

    features: h5py.Dataset
    targets: h5py.Dataset | None
    feature_shape: tuple[int, ...]
    feature_names: tuple[str, ...] | None
    target_names: tuple[str, ...] | None
    class_names: tuple[str, ...] | None
    pixels: bool

    @property
    def dtype(self) -> np.dtype:
        """The type that features get in memory."""
        return stored_dtype(self.features.dtype, self.pixels)

    @property
    def shape(self) -> tuple[int, int]:
        """Samples and features of the features in memory."""
        return len(self.features), math.prod(self.features.shape[1:])


def find_arrays(file: h5py.File, spec: DataSpec) -> Arrays:
    """Return the data sets that `spec` asks for.

    Raises
    ------
    DataError
        Not there, of another type, or stored in a way that is refused.
    """
    path = spec.path
    if _is_ours(file):
        version = read_attribute(file, "version", path)
        if version != VERSION:
            raise DataError(f"{path}: {FILE_TYPE} version {version}, expected {VERSION}", hint="use a newer onotrain")
    features, targets = choose_arrays(list_arrays(file, path), spec)
    x = open_array(file, features, path)
    shape = sample_shape(x.dtype, x.shape, f"{path}[{features}]")
    stored = read_attribute(file, "feature_shape", path)
    if stored is not None:
        shape = _shape(stored, shape, path)
    y = None if targets is None else open_array(file, targets, path)
    if y is not None and (y.ndim not in (1, 2) or len(y) != len(x)):
        raise DataError(f"{path}[{targets}]: shape {y.shape}, expected ({len(x)},) or ({len(x)}, outputs)")
    f_names, t_names, c_names = (_names(file, key, path) for key in ("feature_names", "target_names", "class_names"))
    return Arrays(x, y, shape, f_names, t_names, c_names, are_pixels(x, shape, spec.pixels))


def _is_ours(file: h5py.File) -> bool:
    """Return whether the file says that `onotrain data convert` wrote it."""
    if "filetype" not in file.attrs:
        return False
    attribute = file.attrs.get_id("filetype")
    ours = attribute.shape == () and attribute.dtype.kind == "S" and attribute.dtype.itemsize == len(FILE_TYPE)
    return ours and _text(file.attrs["filetype"]) == FILE_TYPE


def read_rows(data: h5py.Dataset, begin: int, end: int, out: np.ndarray) -> None:
    """Read rows of features into ``out`` ``(end - begin, d)`` of its type, little by little."""
    row_bytes = max(1, math.prod(data.shape[1:]) * data.dtype.itemsize)
    step = max(1, _BLOCK_BYTES // row_bytes)
    if data.chunks is not None:  # a compressed chunk that is cut in two is decompressed twice
        step = max(step // data.chunks[0], 1) * data.chunks[0]
    while begin < end:
        stop = min(begin - begin % step + step, end)
        with np.errstate(over="ignore", invalid="ignore"):
            out[: stop - begin] = data[begin:stop].reshape(stop - begin, -1)
        out = out[stop - begin :]
        begin = stop


def read_targets(data: h5py.Dataset | None, samples: int, path: str) -> np.ndarray | None:
    """Read all targets as int64, float64 or text.

    Raises
    ------
    DataError
        Neither numbers nor text.
    ResourceError
        Larger than the memory that is left.
    """
    if data is None:
        return None
    source = f"{path}[{data.name.lstrip('/')}]"
    text = h5py.check_string_dtype(data.dtype) is not None
    check_memory(data.size * (64 if text else max(data.dtype.itemsize, 8)), source)
    if text:
        return canonical_targets(np.array(data.asstr("utf-8")[()], dtype=str), samples, source)
    if data.dtype.kind not in "biuf":
        raise DataError(f"{source}: targets are of type {data.dtype}, expected integers, real numbers or text")
    return canonical_targets(data[()], samples, source)


def read_hdf5(spec: DataSpec) -> Dataset:
    """Read features and targets from an HDF5 file into memory.

    Raises
    ------
    DataError
        See `find_arrays`.
    ResourceError
        Larger than the memory that is left.
    """
    with open_file(spec.path) as file:
        arrays = find_arrays(file, spec)
        check_memory(
            math.prod(arrays.shape) * arrays.dtype.itemsize, spec.path, hint="stream the data: set data.stream to true"
        )
        features = np.empty(arrays.shape, arrays.dtype)
        read_rows(arrays.features, 0, len(features), features)
        return make_dataset(
            features,
            read_targets(arrays.targets, len(features), spec.path),
            spec.path,
            feature_shape=arrays.feature_shape,
            feature_names=arrays.feature_names,
            target_names=arrays.target_names,
            class_names=arrays.class_names,
            pixels=arrays.pixels,
        )


def _text(value: Any) -> str | None:
    """Return an attribute as text, or None if it is none."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else None


def _names(file: h5py.File, key: str, path: str) -> tuple[str, ...] | None:
    """Return the names in an attribute."""
    stored = read_attribute(file, key, path)
    if stored is None:
        return None
    names = [_text(name) for name in np.atleast_1d(np.asarray(stored, object)).ravel()]
    if any(name is None for name in names):
        raise DataError(f"{path}: the attribute {key} is not a list of text")
    return tuple(str(name) for name in names)


def _shape(stored: Any, shape: tuple[int, ...], path: str) -> tuple[int, ...]:
    """Return the shape of a sample that an attribute gives to flat features."""
    extents = np.atleast_1d(np.asarray(stored))
    if extents.dtype.kind not in "iu" or extents.ndim != 1 or (extents < 1).any():
        raise DataError(f"{path}: the attribute feature_shape is {stored!r}, expected positive integers")
    if math.prod(int(extent) for extent in extents) != math.prod(shape):
        raise DataError(f"{path}: the attribute feature_shape is {extents.tolist()}, but a sample has shape {shape}")
    return tuple(int(extent) for extent in extents)

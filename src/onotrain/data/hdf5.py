"""HDF5 files: finding the data sets, and refusing what a hostile file may hold.

Not followed: external links, external storage and virtual data sets (which read other files), and compression filters
that are not part of HDF5 (which load code).  Sizes are checked against the memory before anything is allocated.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from onotrain.data.dataset import Dataset, DataSpec, canonical_targets, check_features, make_dataset
from onotrain.data.paths import check_memory, choose_arrays, existing_file, reason
from onotrain.errors import DataError

_BLOCK_BYTES = 1 << 24
_MOST_LINKS = 10_000
_MOST_NAMES_BYTES = 1 << 24
_FILTERS = {
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
    h5py.h5z.FILTER_NBIT,
    h5py.h5z.FILTER_SCALEOFFSET,
    h5py.h5z.FILTER_LZF,
}


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

    @property
    def dtype(self) -> np.dtype:
        """The type that features get in memory."""
        return np.dtype(np.uint8 if self.features.dtype == np.uint8 else np.float32)

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
    version = file.attrs.get("version", 1) if _text(file.attrs.get("filetype")) == "onotrain-data" else 1
    if version != 1:
        raise DataError(f"{path}: onotrain-data version {version}, expected 1", hint="use a newer onotrain")
    features, targets = choose_arrays(_candidates(file, path), spec.features, spec.targets, path)
    x = _dataset(file, features, path)
    shape = check_features(x.dtype, x.shape, f"{path}[{features}]")
    stored = file.attrs.get("feature_shape")
    if stored is not None:
        shape = _shape(stored, shape, path)
    y = None if targets is None else _dataset(file, targets, path)
    if y is not None and (y.ndim not in (1, 2) or len(y) != len(x)):
        raise DataError(f"{path}[{targets}]: shape {y.shape}, expected ({len(x)},) or ({len(x)}, outputs)")
    return Arrays(x, y, shape, *(_names(file, key, path) for key in ("feature_names", "target_names", "class_names")))


def _candidates(file: h5py.File, path: str) -> list[str]:
    """Return the names of all data sets that are linked directly (hard links), in groups as ``group/name``."""
    found: list[str] = []
    seen = 0

    def walk(group: h5py.Group, prefix: str, depth: int) -> None:
        nonlocal seen
        for name in group:
            seen += 1
            if seen > _MOST_LINKS or depth > 8:
                raise DataError(f"{path}: more than {_MOST_LINKS} links or 8 levels of groups")
            kind = group.get(name, getclass=True, getlink=True)
            if kind is not h5py.HardLink:
                found.append(prefix + name)  # refused by name in _dataset if it is asked for
            elif group.get(name, getclass=True) is h5py.Group:
                walk(group[name], f"{prefix}{name}/", depth + 1)
            elif group.get(name, getclass=True) is h5py.Dataset:
                found.append(prefix + name)

    walk(file, "", 0)
    return found


def _dataset(file: h5py.File, name: str, path: str) -> h5py.Dataset:
    """Return a data set that is safe to read."""
    where = f"{path}[{name}]"
    link = file.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        raise DataError(f"{where}: an external link to {link.filename}, which is not followed", hint=_COPY)
    if isinstance(link, h5py.SoftLink):
        raise DataError(f"{where}: a soft link to {link.path}, which is not followed", hint="name the data set itself")
    data = file[name]
    plist = data.id.get_create_plist()
    if plist.get_external_count():
        raise DataError(f"{where}: stored in another file (external storage), which is not read", hint=_COPY)
    if data.is_virtual:
        raise DataError(f"{where}: a virtual data set, whose other files are not read", hint=_COPY)
    for number in range(plist.get_nfilters()):
        code, _, _, label = plist.get_filter(number)
        if code not in _FILTERS:
            shown = label.decode(errors="replace") or code
            raise DataError(
                f"{where}: compressed with the filter {shown!r} ({code}), which is not part of HDF5",
                hint="write it again with gzip or without compression",
            )
    if data.shape is None:
        raise DataError(f"{where}: an empty data set without a shape")
    if data.chunks is not None:
        check_memory(math.prod(data.chunks) * data.dtype.itemsize, f"{where} (one chunk)")
    return data


_COPY = "copy the data into one file, for example with h5repack or `onotrain data convert` where they were made"


def read_rows(data: h5py.Dataset, begin: int, end: int, out: np.ndarray) -> None:
    """Read rows of features into ``out`` ``(end - begin, d)`` of its type, little by little."""
    row_bytes = max(1, math.prod(data.shape[1:]) * data.dtype.itemsize)
    step = max(1, _BLOCK_BYTES // row_bytes)
    if data.chunks is not None:  # a compressed chunk that is cut in two is decompressed twice
        step = max(step // data.chunks[0], 1) * data.chunks[0]
    while begin < end:
        stop = min(begin - begin % step + step, end)
        with np.errstate(over="ignore"):
            out[: stop - begin] = data[begin:stop].reshape(stop - begin, -1)
        out = out[stop - begin :]
        begin = stop


def read_targets(data: h5py.Dataset | None, samples: int, path: str) -> np.ndarray | None:
    """Read all targets as int64, float32 or text.

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
        )


def _text(value: Any) -> str | None:
    """Return an attribute as text, or None if it is none."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else None


def _names(file: h5py.File, key: str, path: str) -> tuple[str, ...] | None:
    """Return the names in an attribute."""
    if key not in file.attrs:
        return None
    kind = file.attrs.get_id(key)
    if math.prod(kind.shape or (0,)) * max(kind.dtype.itemsize, 16) > _MOST_NAMES_BYTES:
        raise DataError(f"{path}: the attribute {key} is larger than {_MOST_NAMES_BYTES >> 20} MiB")
    names = [_text(name) for name in np.atleast_1d(np.asarray(file.attrs[key], object)).ravel()]
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

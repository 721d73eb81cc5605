"""HDF5 files: finding the data sets and reading them; `hdf5_safety` refuses what a hostile file may hold."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from onotrain.data.array_names import choose_arrays, column_names, names_of_one, no_array, side_by_side
from onotrain.data.dataset import (
    Dataset,
    DataSpec,
    are_pixels,
    canonical_targets,
    make_dataset,
    sample_shape,
    stored_dtype,
)
from onotrain.data.hdf5_axes import check_lengths, counts_samples_last, name_of
from onotrain.data.hdf5_safety import list_arrays, open_array, read_attribute
from onotrain.data.paths import existing_file, reason
from onotrain.errors import DataError
from onotrain.files import NO_LOCKS
from onotrain.memory import check_memory

_BLOCK_BYTES = 1 << 24
#: What the attribute ``filetype`` of our own files says.
FILE_TYPE, VERSION = "onotrain-data", 1


def _opened(file: Path) -> h5py.File:
    """Return a file, locked against writers where the file system has locks."""
    try:
        return h5py.File(file, "r", locking="best-effort")
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return h5py.File(file, "r", locking=False)


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
        with _opened(file) as handle:
            yield handle
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: not a usable HDF5 file: {reason(error)}", hint="copy or create the file again"
        ) from error


@dataclass(frozen=True)
class Arrays:
    """The data sets of a file that hold features and targets, checked, while the file is open.

    Parameters
    ----------
    features
        Each ``(n, ...)``, to be put side by side; if `transposed`, ``(d, n)``.
    targets
        Each ``(n,)`` or ``(n, k)``; if `transposed` and of two axes, ``(k, n)``.
    pixels
        Whether they all are pixels (see `onotrain.data.dataset.are_pixels`).
    transposed
        Whether the last axis counts samples, as in the files of MATLAB.
    target_units
        Where the file says so, of each output.
    notes
        What was guessed, in words.
    weights
        How much each sample counts; None: all count alike.
    """

    features: tuple[h5py.Dataset, ...]
    targets: tuple[h5py.Dataset, ...]
    feature_shape: tuple[int, ...]
    feature_names: tuple[str, ...] | None
    target_names: tuple[str, ...] | None
    class_names: tuple[str, ...] | None
    pixels: bool
    transposed: bool = False
    target_units: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    weights: h5py.Dataset | None = None

    @property
    def dtype(self) -> np.dtype:
        """The type that features get in memory."""
        return np.result_type(*(stored_dtype(data.dtype, self.pixels) for data in self.features))

    @property
    def shape(self) -> tuple[int, int]:
        """Samples and features of the features in memory."""
        if self.transposed:
            return self.features[0].shape[1], sum(len(data) for data in self.features)
        return len(self.features[0]), sum(math.prod(data.shape[1:]) for data in self.features)

    @property
    def chunk_rows(self) -> int:
        """Samples that are stored together."""
        axis = 1 if self.transposed else 0
        return max(1 if data.chunks is None else int(data.chunks[axis]) for data in self.features)

    def read_rows(self, begin: int, end: int, out: np.ndarray) -> None:
        """Read rows of features into ``out`` ``(end - begin, d)`` of its type, little by little."""
        for data, columns in self._placed():
            _read_rows(data, begin, end, out[:, columns], transposed=self.transposed)

    def hold_pixels(self, features: np.ndarray, given: bool | None) -> bool:
        """Return whether the features that were read are pixels; `given`: what is known."""
        return all(are_pixels(features[:, columns], self.feature_shape, given) for _, columns in self._placed())

    def _placed(self) -> Iterator[tuple[h5py.Dataset, slice]]:
        """Yield the arrays of features, and which columns in memory are theirs."""
        end = 0
        for data in self.features:
            begin, end = end, end + (len(data) if self.transposed else math.prod(data.shape[1:]))
            yield data, slice(begin, end)

    def read_targets(self, path: str) -> np.ndarray | None:
        """Read all targets as int64, float64 or text; None if there are none.

        Raises
        ------
        DataError
            Neither numbers nor text.
        ResourceError
            Larger than the memory that is left.
        """
        parts = [_read_targets(data, f"{path}[{name_of(data)}]", transposed=self.transposed) for data in self.targets]
        if len(parts) < 2:
            return canonical_targets(parts[0], self.shape[0], f"{path}[{name_of(self.targets[0])}]") if parts else None
        columns, _ = side_by_side(parts, [name_of(data) for data in self.targets], path)
        return canonical_targets(columns, self.shape[0], path)


def find_arrays(file: h5py.File, spec: DataSpec) -> Arrays:
    """Return the data sets that `spec` asks for.

    Raises
    ------
    DataError
        Not there, of another type, or stored in a way that is refused.
    """
    path = spec.path
    if is_ours(file):
        version = read_attribute(file, "version", path)
        if version != VERSION:
            raise DataError(f"{path}: {FILE_TYPE} version {version}, expected {VERSION}", hint="use a newer onotrain")
    features, targets = choose_arrays(list_arrays(file, path), spec)
    x = tuple(open_array(file, name, path) for name in features)
    y = tuple(open_array(file, name, path) for name in targets)
    shapes = [sample_shape(data.dtype, data.shape, f"{path}[{name}]") for data, name in zip(x, features, strict=True)]
    transposed = counts_samples_last(x, y)
    if transposed:
        shapes = [(len(data),) for data in x]
    rows = x[0].shape[1 if transposed else 0]
    check_lengths(x, y, rows, path, transposed=transposed)
    shape = shapes[0] if len(x) == 1 else (sum(math.prod(each) for each in shapes),)
    stored = read_attribute(file, "feature_shape", path)
    if stored is not None and len(x) == 1:
        shape = _shape(stored, shape, path)
    note = f"the last axis of {name_of(x[0])} {x[0].shape} counts the samples, as in the files of MATLAB"
    return Arrays(
        x, y, shape,
        _columns(x, shapes) if len(x) > 1 else _names(file, "feature_names", path),
        _columns(y, [data.shape[1:] for data in y]) if len(y) > 1 else _names(file, "target_names", path)
        or (names_of_one(y[0], name_of(y[0]), transposed=transposed) if y else None),
        _names(file, "class_names", path),
        all(are_pixels(data, shape, spec.pixels) for data in x),
        transposed, _units(y, path, transposed=transposed), (note,) if transposed else (),
        _weights(file, spec),
    )  # fmt: skip


def _columns(data: tuple[h5py.Dataset, ...], shapes: Sequence[tuple[int, ...]]) -> tuple[str, ...]:
    """Return names for the columns of arrays that are put side by side."""
    return tuple(
        column
        for each, shape in zip(data, shapes, strict=True)
        for column in column_names(name_of(each), math.prod(shape), each.ndim)
    )


def _units(y: tuple[h5py.Dataset, ...], path: str, *, transposed: bool) -> tuple[str, ...] | None:
    """Return the units of each output, where the file says them."""
    found: list[str] = []
    for data in y:
        outputs = 1 if data.ndim == 1 else data.shape[0 if transposed else 1]
        stored = read_attribute(data, "units", f"{path}[{name_of(data)}]")
        units = [_text(unit) or "" for unit in np.atleast_1d(np.asarray(stored, object)).ravel()]
        found += units if len(units) == outputs else units[:1] * outputs if len(units) == 1 else [""] * outputs
    return tuple(found) if any(found) else None


def is_ours(file: h5py.File) -> bool:
    """Return whether the file says that `onotrain data convert` wrote it."""
    if "filetype" not in file.attrs:
        return False
    attribute = file.attrs.get_id("filetype")
    ours = attribute.shape == () and attribute.dtype.kind == "S" and attribute.dtype.itemsize == len(FILE_TYPE)
    return ours and _text(file.attrs["filetype"]) == FILE_TYPE


def _read_rows(data: h5py.Dataset, begin: int, end: int, out: np.ndarray, *, transposed: bool) -> None:
    """Read rows of one array into ``out`` ``(end - begin, d)`` of its type, little by little."""
    axis = 1 if transposed else 0
    step = max(1, _BLOCK_BYTES * data.shape[axis] // max(1, data.size * data.dtype.itemsize))
    if data.chunks is not None:  # a compressed chunk that is cut in two is decompressed twice
        step = max(step // data.chunks[axis], 1) * data.chunks[axis]
    while begin < end:
        stop = min(begin - begin % step + step, end)
        block = data[:, begin:stop].T if transposed else data[begin:stop].reshape(stop - begin, -1)
        with np.errstate(over="ignore", invalid="ignore"):
            out[: stop - begin] = block
        out = out[stop - begin :]
        begin = stop


def _read_targets(data: h5py.Dataset, source: str, *, transposed: bool) -> np.ndarray:
    """Read one array of targets."""
    text = h5py.check_string_dtype(data.dtype) is not None
    check_memory(data.size * (64 if text else max(data.dtype.itemsize, 8)), source)
    if not text and data.dtype.kind not in "biuf":
        raise DataError(f"{source}: targets are of type {data.dtype}, expected integers, real numbers or text")
    values = np.array(data.asstr("utf-8")[()], dtype=str) if text else data[()]
    if transposed and values.ndim == 2:
        values = values[0] if len(values) == 1 else values.T
    return values


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
        # Whether flat uint8 are pixels is seen in memory: to look at them in the file would be to read them twice.
        arrays = find_arrays(file, replace(spec, pixels=True) if spec.pixels is None else spec)
        check_memory(
            math.prod(arrays.shape) * arrays.dtype.itemsize, spec.path, hint="stream the data: set data.stream to true"
        )
        features = np.empty(arrays.shape, arrays.dtype)
        arrays.read_rows(0, len(features), features)
        pixels = arrays.hold_pixels(features, spec.pixels)
        if features.dtype == np.uint8 and not pixels:  # they become float32
            check_memory(4 * features.size, spec.path)
        return make_dataset(
            features,
            arrays.read_targets(spec.path),
            spec.path,
            feature_shape=arrays.feature_shape,
            feature_names=arrays.feature_names,
            target_names=arrays.target_names,
            class_names=arrays.class_names,
            pixels=pixels,
            weights=None if arrays.weights is None else arrays.weights[()],
            target_units=arrays.target_units,
        )


def _weights(file: h5py.File, spec: DataSpec) -> h5py.Dataset | None:
    """Return the data set with the weights of samples."""
    if spec.weights is None:
        return None
    names = list_arrays(file, spec.path)
    if spec.weights not in names:
        raise no_array(names, spec.weights, "weights", spec.path)
    return open_array(file, spec.weights, spec.path)


def _text(value: Any) -> str | None:
    """Return an attribute as text, or None if it is none."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else None


def _names(file: h5py.Group | h5py.Dataset, key: str, path: str) -> tuple[str, ...] | None:
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

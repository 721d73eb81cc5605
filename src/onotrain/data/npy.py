"""NPY and NPZ files (NumPy's own formats).

Headers are parsed here and checked against the size of the file before anything is allocated; pickled objects are never
loaded.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from onotrain.data.array_names import choose_arrays, names_of_one, no_array, side_by_side
from onotrain.data.dataset import Dataset, DataSpec, listed, make_dataset
from onotrain.data.paths import check_unpacked, existing_file, reason
from onotrain.errors import DataError, OnotrainError
from onotrain.files import open_regular
from onotrain.memory import check_memory

_READ_BYTES = 1 << 24


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        size = self.dtype.itemsize
        for extent in self.shape:
            size *= extent
        return size


def _read_header(file: IO[bytes], source: str) -> _Header:
    """Read the header of an NPY file; the stream then stands at its data."""
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise DataError(f"{source}: NPY version {version[0]}.{version[1]}, expected 1.0 or 2.0")
    except DataError:
        raise
    except Exception as error:  # the header is a Python literal: a hostile one fails in many ways
        raise DataError(f"{source}: not a usable NPY file: {reason(error)}") from error
    if dtype.hasobject:
        raise DataError(
            f"{source}: holds pickled Python objects (dtype object), which are not loaded because they can run code",
            hint="save it again as plain numbers or fixed-width text, such as x.astype('float32') or y.astype(str)",
        )
    if any(extent < 0 for extent in shape):
        raise DataError(f"{source}: the header declares the shape {shape}")
    return _Header(tuple(shape), bool(fortran), dtype)


def _read_body(file: IO[bytes], header: _Header, source: str) -> np.ndarray:
    """Read the data that follow the header."""
    check_memory(header.nbytes, source)
    buffer = np.empty(header.nbytes, np.uint8)
    filled = 0
    while filled < header.nbytes:
        chunk = file.read(min(_READ_BYTES, header.nbytes - filled))
        if not chunk:
            raise _truncated(source, header, filled)
        buffer[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
        filled += len(chunk)
    if file.read(1):
        raise DataError(f"{source}: more bytes than its header declares ({header.shape} of {header.dtype})")
    array = buffer.view(header.dtype) if header.dtype.itemsize else np.empty(0, header.dtype)
    if header.fortran:
        return array.reshape(header.shape[::-1]).T
    return array.reshape(header.shape)


def _truncated(source: str, header: _Header, got: int) -> DataError:
    return DataError(
        f"{source}: truncated: got {got} bytes of data, expected {header.nbytes} "
        f"for shape {header.shape} of {header.dtype}",
        hint="copy or create the file again",
    )


def read_array(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an NPY file.

    Raises
    ------
    DataError
        Not a plain array, or truncated.
    ResourceError
        Larger than the memory that is left.
    """
    file = existing_file(path)
    source = str(path)
    with open_regular(file) as stream:
        header = _read_header(stream, source)
        got = os.fstat(stream.fileno()).st_size - stream.tell()
        if got < header.nbytes:
            raise _truncated(source, header, got)
        return _read_body(stream, header, source)


def read_npy(spec: DataSpec) -> Dataset:
    """Read features from an NPY file, and targets from the NPY file that ``spec.targets`` names.

    Raises
    ------
    DataError, ResourceError
        See `read_array`.
    """
    if spec.features is not None:
        raise DataError(f"{spec.path}: an NPY file holds one array, but data.features is {spec.features!r}")
    features = read_array(spec.path)
    labels = companion(spec)
    return make_dataset(features, None if labels is None else read_array(labels), spec.path, pixels=spec.pixels)


def companion(spec: DataSpec) -> Path | None:
    """Return the path of the label file that ``spec.targets`` names, or None.

    A relative path starts at the working directory, like that of the features, or else at the features' directory.

    Raises
    ------
    DataError
        Several are named.
    """
    names = listed(spec.targets)
    if names is None or spec.without_targets:
        return None
    if len(names) != 1:
        raise DataError(f"{spec.path}: data.targets names {len(names)} files, expected one")
    targets = Path(names[0]).expanduser()
    beside = Path(spec.path).expanduser().parent / targets
    return beside if not targets.exists() and beside.exists() else targets


@contextmanager
def opened_npz(path: str) -> Iterator[tuple[zipfile.ZipFile, dict[str, str]]]:
    """Open an NPZ file; yield it, and the names of its members by those of the arrays.

    Raises
    ------
    DataError
        Not an NPZ file, or damaged; also while it is open.
    """
    file = existing_file(path)
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive, {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
    except (OnotrainError, MemoryError):
        raise
    except Exception as error:  # a hostile archive fails in many ways
        raise DataError(f"{path}: not a usable NPZ file: {error}", hint="copy or create the file again") from error


def read_arrays(path: str, names: Sequence[str]) -> Mapping[str, np.ndarray]:
    """Return those of some arrays that an NPZ file has; errors as of `read_npz`."""
    with opened_npz(path) as (archive, members):
        return {name: _read_member(archive, members[name], path) for name in names if name in members}


def read_npz(spec: DataSpec) -> Dataset:
    """Read features and targets from an NPZ file.

    Raises
    ------
    DataError
        Not an NPZ file, damaged, or without the named arrays.
    ResourceError
        Larger than the memory that is left.
    """
    with opened_npz(spec.path) as (archive, members):
        features, targets = choose_arrays(list(members), spec)
        x, columns = _read_members(archive, members, features, spec.path)
        y, outputs = _read_members(archive, members, targets, spec.path) if targets else (None, None)
        if spec.weights is not None and spec.weights not in members:
            raise no_array(list(members), spec.weights, "weights", spec.path)
        if y is not None:
            _check_not_transposed(x, y, spec.path)
        return make_dataset(
            x,
            y,
            spec.path,
            class_names=_names(archive, members, "class_names", spec.path),
            feature_names=columns or _names(archive, members, "feature_names", spec.path),
            target_names=outputs or _names(archive, members, "target_names", spec.path) or _names_of(y, targets),
            pixels=spec.pixels,
            weights=_read_members(archive, members, (spec.weights,), spec.path)[0] if spec.weights else None,
        )


def _read_members(
    archive: zipfile.ZipFile, members: dict[str, str], names: tuple[str, ...], path: str
) -> tuple[np.ndarray, list[str] | None]:
    """Read one array, or several side by side with the names of their columns."""
    arrays = [_read_member(archive, members[name], path) for name in names]
    return (arrays[0], None) if len(arrays) == 1 else side_by_side(arrays, names, path)


def _names_of(y: np.ndarray | None, names: Sequence[str]) -> tuple[str, ...] | None:
    return None if y is None else names_of_one(y, names[0])


def _check_not_transposed(features: np.ndarray, targets: np.ndarray, path: str) -> None:
    """Refuse features of which the last axis counts samples."""
    if features.ndim == 2 and targets.ndim and len(features) != len(targets) == features.shape[1]:
        raise DataError(
            f"{path}: features have shape {features.shape} for {len(targets)} targets: their last axis counts "
            "the samples, expected the first",
            hint="save them transposed (x.T)",
        )


def _read_member(archive: zipfile.ZipFile, member: str, path: str) -> np.ndarray:
    """Read one array of an NPZ file."""
    info, source = archive.getinfo(member), f"{path}[{member.removesuffix('.npy')}]"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{source}: compressed with zip method {info.compress_type}, expected stored or deflated")
    with archive.open(info) as stream:
        header = _read_header(stream, source)
        if info.file_size < header.nbytes:
            raise _truncated(source, header, info.file_size)
        check_unpacked(header.nbytes, info.compress_size, source)
        return _read_body(stream, header, source)


def _names(archive: zipfile.ZipFile, members: dict[str, str], key: str, path: str) -> tuple[str, ...] | None:
    """Read the optional names of classes or features."""
    if key not in members:
        return None
    names = _read_member(archive, members[key], path)
    if names.ndim != 1 or names.dtype.kind != "U":
        raise DataError(f"{path}[{key}]: {names.dtype} of shape {names.shape}, expected one axis of text")
    return tuple(str(name) for name in names)

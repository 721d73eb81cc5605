"""HDF5 files that libhdf5 lays out and does not write.

It tells where every value belongs and which bytes stand around the values, in a file that is only imagined; all of
them go to the disk by plain file calls.  libhdf5 itself is neither crash-safe nor safe on a full disk: an error in the
middle of its own calls leaves it with a file that it can neither finish nor forget.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np


@dataclass(frozen=True)
class Hdf5Layout:
    """A file without its values: where these go, and all the bytes around them."""

    #: Of the whole file, user block included [bytes].
    size: int
    #: Name of an array that has values -> offset in the file [bytes].
    offsets: dict[str, int]
    #: Offset in the file, and the bytes there; in the user block and between these bytes and the values are zeros.
    around: list[tuple[int, bytes]]


def lay_out(
    arrays: Iterable[tuple[str, tuple[int, ...], Any]], attributes: Mapping[str, Any], user_block_bytes: int = 0
) -> Hdf5Layout:
    """Let libhdf5 lay out a file, readable by HDF5 1.8 (2008) and later; equal arguments give equal bytes.

    Parameters
    ----------
    arrays
        Name (``group/name``), shape and little-endian dtype of every data set, in the order in which they are made.
    attributes
        NumPy arrays or scalars: attributes of the file.
    user_block_bytes
        Room in front of the image [bytes].
    """
    file = _SparseFile()
    spans = _create(file, arrays, attributes, user_block_bytes)
    around, end = [], user_block_bytes
    for begin, length in [*sorted(spans.values()), (file.seek(0, os.SEEK_END), 0)]:
        gap = bytearray(begin - end)
        file.seek(end)
        file.readinto(gap)
        around.append((end, bytes(gap)))
        end = begin + length
    return Hdf5Layout(end, {name: begin for name, (begin, _) in spans.items()}, around)


class _SparseFile:
    """A file in memory for libhdf5's file-object driver: room that is not written to takes none."""

    _PAGE = 4096

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        self._size = self._at = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset if whence == os.SEEK_SET else self._size + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def truncate(self, size: int) -> None:
        self._size = size

    def flush(self) -> None:
        pass

    def write(self, data: Any) -> int:
        data = memoryview(data).cast("B")
        for page, begin, part in self._parts(len(data)):
            target = self._pages.setdefault(page, bytearray(self._PAGE))
            target[begin : begin + part.stop - part.start] = data[part]
        self._size = max(self._size, self._at)
        return len(data)

    def readinto(self, buffer: Any) -> int:
        data = memoryview(buffer).cast("B")
        for page, begin, part in self._parts(len(data)):
            data[part] = self._pages.get(page, bytes(self._PAGE))[begin : begin + part.stop - part.start]
        return len(data)

    def _parts(self, length: int) -> Iterator[tuple[int, int, slice]]:
        """Advance by `length`; yield page, begin within it and the slice of the data that lies there."""
        first, self._at = self._at, self._at + length
        while first < self._at:
            page, begin = divmod(first, self._PAGE)
            end = min((page + 1) * self._PAGE, self._at)
            yield page, begin, slice(first - self._at + length, end - self._at + length)
            first = end


def _create(
    memory: _SparseFile, arrays: Iterable[tuple[str, tuple[int, ...], Any]], attributes: Mapping[str, Any], block: int
) -> dict[str, tuple[int, int]]:
    """Make the image in an empty file; return offset and length of everything that has values."""
    # The low-level calls are here because only they switch time stamps off, and reserve room without writing to it.
    creation = _without_times(h5py.h5p.FILE_CREATE)
    creation.set_userblock(block)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, memory)
    access.set_libver_bounds(h5py.h5f.LIBVER_V18, h5py.h5f.LIBVER_V18)
    # libhdf5 takes two open images of one name for the same file; the name is not stored.
    name = f"onotrain-{uuid.uuid4().hex}.h5".encode()
    spans = {}
    with h5py.File(h5py.h5f.create(name, h5py.h5f.ACC_TRUNC, fcpl=creation, fapl=access)) as file:
        for key, value in attributes.items():
            file.attrs.create(key, value, dtype=value.dtype)
        for path, shape, dtype in arrays:
            *groups, last = path.split("/")
            dataset = _reserve(_group(file, groups), last, shape, dtype)
            if dataset.get_storage_size():
                spans[path] = dataset.get_offset(), dataset.get_storage_size()
    return spans


def _without_times(kind: Any) -> Any:
    """Return a list of properties for objects whose bytes do not tell when they were made."""
    creation = h5py.h5p.create(kind)
    creation.set_obj_track_times(False)
    return creation


def _reserve(group: h5py.Group, name: str, shape: tuple[int, ...], dtype: Any) -> h5py.h5d.DatasetID:
    """Make a dataset that has its place in the file, and nothing written there."""
    creation = _without_times(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.CONTIGUOUS)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
    return h5py.h5d.create(group.id, name.encode("utf-8"), kind, space, creation)


def _group(group: h5py.Group, parts: list[str]) -> h5py.Group:
    for part in parts:
        if part not in group:
            h5py.h5g.create(group.id, part.encode("utf-8"), gcpl=_without_times(h5py.h5p.GROUP_CREATE))
        group = group[part]
    return group

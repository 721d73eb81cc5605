"""The HDF5 image in a checkpoint file: laid out in memory, and read without trust.

That the bytes are the ones that were written is checked before, by their digest. What is checked here is that whoever
wrote them wrote a checkpoint: a file made to harm could link to other files, name terabytes that it does not store, or
nest for ever.
"""

from __future__ import annotations

import io
import math
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from onotrain.errors import CheckpointError
from onotrain.runs.checkpoint_format import (
    DEPTH,
    DTYPES,
    FILETYPE,
    METADATA,
    USER_BLOCK_BYTES,
    VERSION,
    foreign,
    other_version,
)

#: Name -> offset and length in the file [bytes].
_Places = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Form:
    """A file without its values: where these go, and all the bytes around them."""

    #: Of the whole file, user block included [bytes].
    size: int
    #: Name of an array that has values, or `METADATA` -> offset in the file [bytes].
    places: dict[str, int]
    #: Offset in the file, and the bytes there; in the user block and between these pieces and the values are zeros.
    around: list[tuple[int, bytes]]


def make_form(fields: Iterable[tuple[str, tuple[int, ...], str]], text_bytes: int) -> Form:
    """Let libhdf5 lay out the image that stands behind a user block; equal arguments give equal bytes.

    Parameters
    ----------
    fields
        Name, shape and little-endian dtype (of `DTYPES`) of every array, in the order in which they are made.
    text_bytes
        Length of the text in ``/metadata``.
    """
    memory = _SparseFile()
    places = _lay_out(memory, fields, text_bytes)
    around, end = [], USER_BLOCK_BYTES
    for begin, length in [*sorted(places.values()), (memory.seek(0, os.SEEK_END), 0)]:
        piece = bytearray(begin - end)
        memory.seek(end)
        memory.readinto(piece)
        around.append((end, bytes(piece)))
        end = begin + length
    return Form(end, {name: begin for name, (begin, _) in places.items()}, around)


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
        """Go so far on; yield page, begin within it and the part of the data that lies there."""
        first, self._at = self._at, self._at + length
        while first < self._at:
            page, begin = divmod(first, self._PAGE)
            end = min((page + 1) * self._PAGE, self._at)
            yield page, begin, slice(first - self._at + length, end - self._at + length)
            first = end


def _lay_out(memory: _SparseFile, fields: Iterable[tuple[str, tuple[int, ...], str]], text_bytes: int) -> _Places:
    """Make the image in an empty file; return offset and length of everything that has values."""
    # The low-level calls are here because only they switch time stamps off, and reserve room without writing to it.
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_userblock(USER_BLOCK_BYTES)
    creation.set_obj_track_times(False)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, memory)
    access.set_libver_bounds(h5py.h5f.LIBVER_V18, h5py.h5f.LIBVER_V18)  # readable by HDF5 1.8 (2008) and later
    # libhdf5 takes two open images of one name for the same file; the name is not stored.
    name = f"onotrain-{uuid.uuid4().hex}.h5".encode()
    places = {}
    with h5py.File(h5py.h5f.create(name, h5py.h5f.ACC_TRUNC, fcpl=creation, fapl=access)) as file:
        file.attrs.create("filetype", np.bytes_(FILETYPE))
        file.attrs.create("version", np.array(VERSION, "<i4"))
        for path, shape, dtype in [(METADATA, (), f"S{text_bytes}"), *fields]:
            dataset = _reserve(_group(file, path.split("/")[:-1]), path.split("/")[-1], shape, dtype)
            if dataset.get_storage_size():
                places[path] = dataset.get_offset(), dataset.get_storage_size()
    return places


def _reserve(group: h5py.Group, name: str, shape: tuple[int, ...], dtype: str) -> h5py.h5d.DatasetID:
    """Make a dataset that has its place in the file, and nothing written there."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_obj_track_times(False)
    creation.set_layout(h5py.h5d.CONTIGUOUS)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
    return h5py.h5d.create(group.id, name.encode("utf-8"), kind, space, creation)


def _group(group: h5py.Group, parts: list[str]) -> h5py.Group:
    for part in parts:
        if part not in group:
            creation = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
            creation.set_obj_track_times(False)
            h5py.h5g.create(group.id, part.encode("utf-8"), gcpl=creation)
        group = group[part]
    return group


def read_image(data: bytes, source: str) -> tuple[dict[str, np.ndarray], bytes]:
    """Read an image that has the form of :func:`make_form`.

    Parameters
    ----------
    data
        The whole file with its user block.
    source
        Name of the file, for messages.

    Returns
    -------
    arrays : dict
        C-contiguous, writable, of native byte order; sorted by name.
    metadata : bytes
        The text of ``/metadata``.

    Raises
    ------
    CheckpointError
        It is of another version, or holds what a checkpoint may not hold.
    """
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            _check_root(file, source)
            datasets = _datasets(file, source)
            _check_sizes(datasets, len(data), source)
            metadata = datasets.pop(METADATA, None)
            if metadata is None or metadata.dtype.kind != "S":
                raise foreign(source, "no text in /metadata", "a JSON object")
            return {name: _read(datasets[name]) for name in sorted(datasets)}, bytes(metadata[()])
    except CheckpointError:
        raise
    except Exception as error:  # libhdf5 and h5py raise every kind of exception on an image that is not sound
        problem = f"an image that HDF5 cannot read ({type(error).__name__}: {error})"
        raise foreign(source, problem, "a sound one") from error


def _check_root(file: h5py.File, source: str) -> None:
    filetype, version = (_scalar_attribute(file, name, source) for name in ("filetype", "version"))
    if filetype != FILETYPE.encode():
        raise foreign(source, f"filetype {filetype!r}", FILETYPE)
    if version != VERSION:
        raise other_version(source, version)


def _scalar_attribute(file: h5py.File, name: str, source: str) -> Any:
    if name not in file.attrs:
        raise foreign(source, f"no attribute {name!r}", f"filetype={FILETYPE}, version={VERSION}")
    attribute = file.attrs.get_id(name)
    if attribute.shape != () or attribute.dtype.kind not in "Siu" or attribute.dtype.itemsize > 64:
        raise foreign(
            source, f"attribute {name!r} of dtype {attribute.dtype} and shape {attribute.shape}", "one short value"
        )
    value = file.attrs[name]
    return bytes(value) if isinstance(value, (bytes, np.bytes_)) else int(value)


def _datasets(file: h5py.File, source: str) -> dict[str, h5py.Dataset]:
    """All datasets by name; every link and every dataset is checked before anything behind it is touched."""
    found: dict[str, h5py.Dataset] = {}
    seen: set[Any] = set()
    pending: list[tuple[str, h5py.Group]] = [("", file)]
    while pending:
        prefix, group = pending.pop()
        for key in group:
            name = prefix + key
            link = group.get(key, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise foreign(source, f"{name} is a {type(link).__name__}", "no links")
            item = group[key]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen or name.count("/") >= DEPTH:
                raise foreign(
                    source, f"{name[:80]} leads to an object that has another name, or is nested too deep", "a tree"
                )
            seen.add(address)
            if isinstance(item, h5py.Group):
                pending.append((name + "/", item))
            else:
                _check_dataset(item, name, source)
                found[name] = item
    return found


def _check_dataset(item: Any, name: str, source: str) -> None:
    if not isinstance(item, h5py.Dataset):
        raise foreign(source, f"{name} is a {type(item).__name__}", "groups and datasets")
    # The creation list first: it says where the data are kept, and asking it opens nothing.
    creation = item.id.get_create_plist()
    layout = creation.get_layout()
    if (
        creation.get_external_count()
        or layout not in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT)
        or creation.get_nfilters()
    ):
        raise foreign(source, f"{name} has chunked, filtered, external or virtual storage", "plain contiguous storage")
    dtype = item.dtype
    text = name == METADATA and dtype.kind == "S" and item.shape == ()
    if not text and (dtype.newbyteorder("=") not in DTYPES or dtype.metadata):
        raise foreign(source, f"{name} of dtype {dtype}", "floats or integers")


def _check_sizes(datasets: Mapping[str, h5py.Dataset], limit: int, source: str) -> None:
    """Hold declared sizes against the file before anything is allocated; unwritten storage costs a file nothing."""
    declared = {name: math.prod(item.shape or (1,)) * item.dtype.itemsize for name, item in datasets.items()}
    for name, size in declared.items():
        stored = datasets[name].id.get_storage_size()
        if datasets[name].shape is None or size != stored:
            raise foreign(source, f"{name} declares {size} bytes and stores {stored}", "data that are all there")
    if sum(declared.values()) > limit:
        raise foreign(
            source, f"datasets of {sum(declared.values())} bytes in a file of {limit}", "each its own storage"
        )


def _read(dataset: h5py.Dataset) -> np.ndarray:
    array = np.empty(dataset.shape, dataset.dtype.newbyteorder("="))
    if array.size:
        dataset.read_direct(array)
    return array

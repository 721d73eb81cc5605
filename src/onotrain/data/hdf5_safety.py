"""What a hostile or damaged HDF5 file may not do.

Not followed: external links, external storage and virtual data sets (which read other files), and compression filters
that are not part of HDF5 (which load code).  Refused: what declares more than it holds, and odd types of numbers.
"""

from __future__ import annotations

import math
from typing import Any

import h5py
import numpy as np

from onotrain.data.paths import check_unpacked, most_unpacked
from onotrain.errors import DataError
from onotrain.memory import check_memory

_MOST_LINKS = 1 << 16
#: Entries of any length that are read at once when they are counted; each may be as large as the file.
_BLOCK_BYTES, _LEAST_ENTRIES, _MOST_ENTRIES = 1 << 28, 64, 1 << 16
_MOST_ATTRIBUTE_BYTES = 1 << 24
_FILTERS = {
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
    h5py.h5z.FILTER_NBIT,
    h5py.h5z.FILTER_SCALEOFFSET,
    h5py.h5z.FILTER_LZF,
}
_FLOATS = (
    h5py.h5t.IEEE_F16LE,
    h5py.h5t.IEEE_F16BE,
    h5py.h5t.IEEE_F32LE,
    h5py.h5t.IEEE_F32BE,
    h5py.h5t.IEEE_F64LE,
    h5py.h5t.IEEE_F64BE,
)
_WRITE = "the rest was never written: write it, or resize the data set"
_COPY = "copy the data into one file, for example with h5repack or `onotrain data convert` where they were made"


def list_arrays(file: h5py.File, path: str) -> list[str]:
    """Return the names of all data sets that are linked directly (hard links), in groups as ``group/name``.

    Raises
    ------
    DataError
        Far too many, or groups within groups without end.
    """
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


def open_array(file: h5py.File, name: str, path: str) -> h5py.Dataset:
    """Return a data set that is safe to read.

    Raises
    ------
    DataError
        It is not.
    ResourceError
        One chunk of it is larger than the memory that is left.
    """
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
    _check_type(data.id.get_type(), where)
    _check_storage(data, where)
    if plist.get_nfilters():
        check_unpacked(data.size * data.dtype.itemsize, data.id.get_storage_size(), where)
    if data.chunks is not None:
        check_memory(math.prod(data.chunks) * data.dtype.itemsize, f"{where} (one chunk)")
    _check_texts(data, file.id.get_filesize(), where)
    return data


def _check_texts(data: h5py.Dataset, size: int, where: str) -> None:
    """Refuse text, or other entries of any length, that many entries share: each would be a copy in memory.

    Raises
    ------
    DataError
        It is so.
    """
    kinds = [data.dtype, *(field[0] for field in (data.dtype.fields or {}).values())]
    if not data.shape or not data.size or not any(kind.hasobject for kind in kinds):
        return
    entries = min(max(_BLOCK_BYTES // size, _LEAST_ENTRIES), _MOST_ENTRIES)
    step, got = max(1, entries * len(data) // data.size), 0
    for begin in range(0, len(data), step):
        got += _bytes_of(data[begin : begin + step])
        if got > most_unpacked(size):
            raise DataError(
                f"{where}: many entries share one text: more than {most_unpacked(size)} bytes of a file of {size}",
                hint=_COPY,
            )


def _bytes_of(stored: np.ndarray) -> int:
    """Return the size of entries of any length."""
    if stored.dtype.names:
        return sum(_bytes_of(stored[name]) for name in stored.dtype.names)
    return (
        sum(len(each) for each in stored.reshape(-1).tolist() if hasattr(each, "__len__"))
        if stored.dtype.hasobject
        else 0
    )


def _check_type(kind: h5py.h5t.TypeID, where: str) -> None:
    """Refuse integers and floats that are not a whole machine type.

    They occur in damaged files, and the library's conversion of them may never end.
    """
    if isinstance(kind, h5py.h5t.TypeCompoundID):
        for member in range(kind.get_nmembers()):
            label = kind.get_member_name(member).decode(errors="replace")
            _check_type(kind.get_member_type(member), f"{where}, field {label}")
        return
    if isinstance(kind, h5py.h5t.TypeArrayID | h5py.h5t.TypeVlenID):
        return _check_type(kind.get_super(), where)
    if isinstance(kind, h5py.h5t.TypeEnumID):  # booleans
        kind = kind.get_super()
    plain = True
    if isinstance(kind, h5py.h5t.TypeIntegerID):
        plain = kind.get_offset() == 0 and kind.get_precision() == 8 * kind.get_size() <= 64
    elif isinstance(kind, h5py.h5t.TypeFloatID):
        plain = any(kind == known for known in _FLOATS)
    if not plain:
        raise DataError(
            f"{where}: numbers of an unusual type ({kind.get_size()} bytes)", hint="write them as int or float"
        )


def _check_storage(data: h5py.Dataset, where: str) -> None:
    """Refuse a data set that declares more than it holds: reading the rest would yield zeros, without end."""
    if data.size == 0:
        return
    if data.chunks is None:
        stored, declared = data.id.get_storage_size(), data.size * data.dtype.itemsize
        if stored < declared:
            raise DataError(f"{where}: holds {stored} bytes, expected {declared} for shape {data.shape}", hint=_WRITE)
        return
    chunks = math.prod(-(-extent // chunk) for extent, chunk in zip(data.shape, data.chunks, strict=True))
    if data.id.get_num_chunks() < chunks:
        raise DataError(
            f"{where}: holds {data.id.get_num_chunks()} of the {chunks} chunks that its shape {data.shape} declares",
            hint=_WRITE,
        )


def read_attribute(file: h5py.Group | h5py.Dataset, key: str, path: str) -> Any:
    """Return an attribute of a file, group or data set, or None if there is none.

    Raises
    ------
    DataError
        Very large, or of an odd type.
    """
    if key not in file.attrs:
        return None
    attribute = file.attrs.get_id(key)
    # 16: of a text of variable length, only a reference is stored here.
    if math.prod(attribute.shape) * max(attribute.dtype.itemsize, 16) > _MOST_ATTRIBUTE_BYTES:
        raise DataError(f"{path}: the attribute {key} is larger than {_MOST_ATTRIBUTE_BYTES >> 20} MiB")
    _check_type(attribute.get_type(), f"{path}: attribute {key}")
    return file.attrs[key]

"""Valid files made hostile: bytes, values of JSON, cells, fields of headers, arrays and links are changed at random.

Every function takes a `random.Random`, which hypothesis gives and makes small again.
"""

from __future__ import annotations

import copy
import io
import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

import h5py
import numpy as np

from onotrain.runs.checkpoint_encoder import encode
from onotrain.runs.checkpoint_format import USER_BLOCK_BYTES, Checkpoint, user_block

#: What a terminal obeys: colours, the title of its window, a line that is overwritten, and text from right to left.
ESCAPES = ("\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "ok\rno", "a\nonotrain: b", "\x9b2J", "\u202ex", "\x7f", "\x00")
NUMBERS = (0, -1, 1, 2, 3, 255, 1 << 31, 1 << 63, 10**9, 10**18, 10**400, -(1 << 63), 0.5, 1e308, -1e-320, float("nan"),
           float("inf"), -float("inf"))  # fmt: skip
TEXTS = ("", " ", "x", "0", "../../x", "/dev/zero", "a/b", "é" * 3, "\ud800", "%s{}", "null", "x" * 5000, *ESCAPES)


def hostile(random: Random) -> Any:
    """Return a value that nobody expects."""
    return random.choice(
        (
            None, True, [], {}, [[]], [None], {"": None}, {"$float": "nan"}, {"x": {"y": []}}, [1, "a"],
            random.choice(NUMBERS), random.choice(TEXTS), [random.choice(NUMBERS)] * random.randrange(4),
            {random.choice(TEXTS): random.choice(NUMBERS)}, [random.choice(TEXTS)] * random.randrange(4),
        )
    )  # fmt: skip


def changed_json(value: Any, random: Random) -> Any:
    """Return JSON-able data of which one to three parts are others, are gone, or are there twice."""
    root = {"": copy.deepcopy(value)}
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places = [(holder, key) for holder in _holders(root) for key in _keys(holder)]
        holder, key = random.choice(places)
        _change(holder, key, random)
    return root.get("")


def _holders(value: Any) -> list[Any]:
    found = [value]
    for holder in found:
        found += [item for item in (holder.values() if isinstance(holder, dict) else holder) if _holds(item)]
    return found


def _holds(value: Any) -> bool:
    return isinstance(value, (dict, list)) and bool(value)


def _keys(holder: Any) -> list[Any]:
    return list(holder) if isinstance(holder, dict) else list(range(len(holder)))


def _change(holder: Any, key: Any, random: Random) -> None:
    value = holder[key]
    how = random.randrange(7)
    if how == 0 and key != "":
        del holder[key]
    elif how == 1 and isinstance(holder, dict) and key != "":
        holder[random.choice((*TEXTS, str(key) + "x"))] = value
    elif how == 2:
        holder[key] = [value]
    elif how == 3 and isinstance(value, list):
        holder[key] = value * random.choice((0, 2, 3))
    elif how == 4 and isinstance(value, (int, float)):
        holder[key] = random.choice((*NUMBERS, -value, str(value)))
    elif how == 5 and isinstance(value, str):
        holder[key] = random.choice((value + random.choice(TEXTS), value[:-1], value.upper()))
    else:
        holder[key] = hostile(random)


def changed_bytes(data: bytes, random: Random, others: tuple[bytes, ...] = ()) -> bytes:
    """Return bytes that are flipped, cut off, put in, there twice or gone in one to four places."""
    changed = bytearray(data)
    for _ in range(random.randrange(1, 5)):
        at = random.randrange(len(changed) + 1)
        length = random.choice((1, 1, 2, 4, 8, 64))
        how = random.randrange(7)
        if how == 0:
            changed[at : at + 1] = bytes([random.randrange(256)])
        elif how == 1:
            del changed[at:]
        elif how == 2:
            del changed[at : at + length]
        elif how == 3:
            changed[at:at] = changed[at : at + 8 * length]
        elif how == 4:
            changed[at : at + length] = random.choice((b"\0", b"\xff", b"\x7f")) * length
        elif how == 5:
            form = random.choice(("<q", ">q", "<i", ">i", "<h"))
            bits = 8 * struct.calcsize(form)
            number = random.choice((0, -1, 1, (1 << (bits - 1)) - 1, 1 << (bits // 2), 10**4))
            changed[at : at + bits // 8] = struct.pack(form, number)
        else:
            texts = (*others, *(text.encode("utf-8", "surrogatepass") for text in TEXTS))
            changed[at : at + random.choice((0, length))] = random.choice(texts)
    return bytes(changed)


def changed_lines(data: bytes, random: Random) -> bytes:
    """Return a text of which some cells are others, or some bytes."""
    if random.random() < 0.15:
        return changed_bytes(data, random, (b",", b'"', b"\n", b"\r", b";", b"\t", b"1e999", b"\xef\xbb\xbf"))
    rows = [line.split(b",") for line in data.split(b"\n")]
    for _ in range(random.choice((1, 1, 2))):
        row = random.choice(rows[: random.choice((1, len(rows)))])
        cells = (
            b"",
            b"nan",
            b"1e999",
            b"-",
            b"2020-01-01",
            b"12:00",
            b"1.234,5 EUR",
            b'"',
            b'"a\nb"',
            b"0x1",
            b"9" * 400,
        )
        new = random.choice((*cells, *(text.encode("utf-8", "surrogatepass") for text in TEXTS)))
        how = random.choice((0, 1, 2, 3, 3, 3, 4, 4, 4, 4))
        if how == 0:
            row.insert(random.randrange(len(row) + 1), new)
        elif how == 1 and len(row) > 1:
            del row[random.randrange(len(row))]
        elif how == 2:
            rows.insert(random.randrange(len(rows)), list(row) * random.choice((1, 2, 50)))
        elif how == 3:
            column = random.randrange(len(row))
            for other in rows[1:]:
                other[column : column + 1] = [new]
        else:
            row[random.randrange(len(row))] = new
    return b"\n".join(b",".join(row) for row in rows)


def changed_array(array: np.ndarray, random: Random) -> np.ndarray:
    """Return an array of another shape, type or other values."""
    how = random.randrange(6)
    if how == 0:
        return array.reshape(random.choice(((-1,), (1, *array.shape), (*array.shape, 1), array.shape[::-1])))
    if how == 1:
        names = ("f2", "f8", "i1", "u8", "c8", "?", "U3", "S2", "M8[D]", "m8[s]", ">f4", "V4", "i8")
        return np.zeros(array.shape, random.choice(names))
    if how == 2:
        return np.zeros(random.choice(((), (0,), (0, 4), (4, 0), (1,), (3, 3, 3, 3, 3))), array.dtype)
    if how == 3:
        other = array.copy()
        values = {"f": (np.nan, np.inf, 1e30, 0), "i": (0, 1, 127), "u": (0, 1, 127)}.get(array.dtype.kind, ("x",))
        other.reshape(-1)[: random.choice((1, array.size))] = random.choice(values)
        return other
    if how == 4:
        return array[: random.choice((0, 1, max(0, len(array) - 1)))] if array.ndim else array
    return np.array([random.choice(TEXTS).replace("\ud800", "") for _ in range(len(array) if array.ndim else 1)])


def changed_npy(data: bytes, random: Random) -> bytes:
    """Return an NPY file with another header, or other bytes."""
    if random.random() < 0.3:
        return changed_bytes(data, random)
    header = {"descr": "<f4", "fortran_order": False, "shape": (40, 3)}
    shapes = (
        (0,),
        (),
        (1 << 62,),
        (1 << 40, 0),
        (-1, 3),
        (40, 3, 1),
        (3, 40),
        ("x",),
        7,
        (10**400,),
        (True, 3),
        (40.0,),
    )
    types = (
        "<f8",
        "|O",
        "<U1000000000",
        "|V0",
        "<U0",
        "<M8[ns]",
        "(3,)<f4",
        [("a", "<f4"), ("\x1b[1m", "<f4")],
        "?",
        "x",
        3,
    )
    header[random.choice(("shape", "descr", "fortran_order", "x"))] = random.choice(random.choice((shapes, types)))  # type: ignore[index]
    text = repr(header).encode()
    if random.random() < 0.2:
        text = random.choice(
            (b"[" * 5000, b"{" * 200, b"1" + b"+1" * 3000, b"-" * 5000 + b"1", b"", b"__import__('os')")
        )
    length = random.choice((len(text), len(text), len(text), 0, 65535))
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", length) + text + data[128:]


def changed_checkpoint(seed: Checkpoint, random: Random) -> bytes:
    """Return a checkpoint with other metadata, arrays or bytes behind digests that are right."""
    how = random.randrange(4)
    if how < 2:
        return _encoded(seed.arrays, changed_json(dict(seed.metadata), random))
    if how == 2:
        arrays = dict(seed.arrays)
        name = random.choice(sorted(arrays))
        made = changed_array(arrays.pop(name), random)
        if made.dtype.kind in "fiu" and random.random() < 0.9:
            arrays[random.choice((name, name, name, name + "x", f"\x1b[31m/{name}"))] = made
        return _encoded(arrays, dict(seed.metadata))
    image = changed_bytes(encode(seed)[USER_BLOCK_BYTES:], random)
    return user_block(image) + image


def _encoded(arrays: Any, metadata: Any) -> bytes:
    """Return a checkpoint; metadata may be what none has."""
    text = json.dumps(metadata).encode()
    return with_metadata(encode(Checkpoint(arrays, {"x": "y" * max(1, len(text))})), text)


def with_metadata(data: bytes, text: bytes) -> bytes:
    """Return a checkpoint with another text in the place of its metadata."""
    file = io.BytesIO(data)
    with h5py.File(file, "r+") as opened:
        reserved = opened["metadata"].dtype.itemsize
        opened["metadata"][()] = np.array(text.ljust(reserved, b"\0"), f"S{reserved}")
    image = file.getvalue()[USER_BLOCK_BYTES:]
    return user_block(image) + image


def changed_hdf5(make: Callable[[h5py.File], None], random: Random) -> bytes:
    """Return an HDF5 file with other data sets, attributes, links or bytes."""
    file = io.BytesIO()
    with h5py.File(file, "w") as made:
        make(made)
        for _ in range(random.randrange(0, 3)):
            _change_hdf5(made, random)
    data = file.getvalue()
    return changed_bytes(data, random) if random.random() < 0.4 else data


def _change_hdf5(file: h5py.File, random: Random) -> None:
    name = random.choice(sorted(file) or ["x"])
    how = random.randrange(8)
    old = file.get(name) if name in file else None
    array = (
        old[()]
        if isinstance(old, h5py.Dataset) and old.shape and old.chunks is None and not old.is_virtual
        else np.zeros((4, 3), "f4")
    )
    if name in file:
        del file[name]
    if random.random() < 0.15:
        name = random.choice([text for text in TEXTS if text.strip("./") and "\0" not in text and "\ud800" not in text])
    if name in file:
        return
    if how == 0:
        file[name] = random.choice(
            (h5py.SoftLink("/x"), h5py.SoftLink(f"/{name}"), h5py.ExternalLink("/etc/passwd", "/"))
        )
    elif how == 1:
        kind = random.choice(
            (h5py.string_dtype(), h5py.ref_dtype, h5py.vlen_dtype("f4"), h5py.enum_dtype({"\x1b[1m": 1, "b": 0}), "V8",
             h5py.opaque_dtype("M8[s]"), np.dtype([("a", "f4"), ("\x1b[1m", "S4"), ("c", "i4", (2,))]), "c8")
        )  # fmt: skip
        file.create_dataset(name, (4,), kind)
    elif how == 2:
        shape = random.choice(((10**12,), (10**6, 10**6), (0, 3), (), (1,) * 31, (4, 0)))
        file.create_dataset(name, shape, "f4", chunks=True if shape and 0 not in shape and len(shape) < 3 else None)
    elif how == 3:
        file.create_dataset(name, (10**7,), "f4", chunks=(10**6,), compression="gzip", fillvalue=1)
    elif how == 4:
        file.create_group(name)
        file[name][name] = file[name]
    elif how == 5:
        made = file.create_dataset(name, data=array)
        made.attrs[random.choice(("units", "long_name", "scale_factor", "_FillValue", "calendar", "add_offset"))] = (
            random.choice(("\x1b[31m", "", 0, np.nan, np.zeros(1000), "days since x", "days since 0001-01-01", [1, 2]))
        )
    elif how == 6:
        layout = h5py.VirtualLayout((4, 3), "f4")
        layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4, 3))
        file.create_virtual_dataset(name, layout)
    else:
        made = changed_array(array, random)
        if made.dtype.kind == "U":
            made = np.array([text.encode() for text in made.reshape(-1).tolist()])
        file[name] = made if made.dtype.kind in "fiub" or (made.dtype.kind == "S" and made.dtype.itemsize) else array

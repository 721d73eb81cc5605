"""IDX files, the format of MNIST: a magic number, big-endian extents, then the values; plain or gzipped.

Source: http://yann.lecun.com/exdb/mnist/ ("The IDX file format").
"""

from __future__ import annotations

import math
import os
import re
import struct
from pathlib import Path
from typing import IO

import numpy as np

from onotrain.data.dataset import Dataset, DataSpec, make_dataset
from onotrain.data.npy import companion
from onotrain.data.paths import opened
from onotrain.errors import DataError
from onotrain.memory import check_memory

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_array(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an IDX file, gzipped or not.

    Raises
    ------
    DataError
        Not an IDX file, truncated, or longer than its header says.
    ResourceError
        Larger than the memory that is left.
    """
    with opened(path) as (stream, most):
        return _read(stream, most, str(path))


def _read(stream: IO[bytes], most: int, source: str) -> np.ndarray:
    """Read an array from a stream that yields at most `most` bytes."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in DTYPES or magic[3] == 0:
        raise DataError(
            f"{source}: not an IDX file: starts with the bytes {magic.hex(' ')}, expected 00 00, a type code "
            f"({', '.join(f'{code:02x}' for code in DTYPES)}) and the number of axes"
        )
    dtype, axes = np.dtype(DTYPES[magic[2]]), magic[3]
    extents = stream.read(4 * axes)
    if len(extents) < 4 * axes:
        raise DataError(f"{source}: truncated in its header: got {4 + len(extents)} bytes, expected {4 + 4 * axes}")
    shape = struct.unpack(f">{axes}I", extents)
    header, nbytes = 4 + 4 * axes, math.prod(shape) * dtype.itemsize
    if most < header + nbytes:
        raise _truncated(source, most, header + nbytes, shape)
    check_memory(nbytes, source)
    data = stream.read(nbytes)
    if len(data) < nbytes:
        raise _truncated(source, header + len(data), header + nbytes, shape)
    if stream.read(1):
        raise DataError(f"{source}: longer than the {header + nbytes} bytes that its header declares for shape {shape}")
    return np.frombuffer(data, dtype).reshape(shape)


def _truncated(source: str, got: int, expected: int, shape: tuple[int, ...]) -> DataError:
    return DataError(
        f"{source}: truncated: got {got} bytes, expected {expected} for shape {shape}", hint="copy the file again"
    )


def label_file(images: Path) -> Path | None:
    """Return the label file that belongs to an image file by its name, if it is there.

    ``train-images-idx3-ubyte`` has ``train-labels-idx1-ubyte``, either of them gzipped or not.
    """
    base = images.name.removesuffix(".gz")
    name = re.sub(r"idx\d", "idx1", base.replace("images", "labels"))
    if name == base:
        return None
    candidates = (images.with_name(name), images.with_name(f"{name}.gz"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def read_idx(spec: DataSpec) -> Dataset:
    """Read features from an IDX file, and targets from the label file that ``spec.targets`` or the file's name implies.

    Raises
    ------
    DataError, ResourceError
        See `read_array`.
    """
    if spec.features is not None:
        raise DataError(f"{spec.path}: an IDX file holds one array, but data.features is {spec.features!r}")
    features = read_array(spec.path)
    labels = companion(spec)
    if labels is None and not spec.without_targets:
        labels = label_file(Path(spec.path).expanduser())
    return make_dataset(features, None if labels is None else read_array(labels), spec.path, pixels=spec.pixels)

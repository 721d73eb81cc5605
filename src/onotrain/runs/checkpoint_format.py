"""The checkpoint file: named arrays and JSON metadata as one HDF5 image behind a digest.

The image is built in memory and its SHA-256 stands in a 512-byte HDF5 user block in front of it.  So a reader can
refuse a torn or flipped file before libhdf5, which is not hardened against damaged input, sees a byte of it; and any
HDF5 tool opens the file as it is.  The digest says "complete and as written", not "from a friend": what the image holds
is checked as well.  The specification is ``docs/checkpoint-format.md``.

`checkpoint_encoder` makes files, `checkpoint_decoder` reads them, `checkpoint_image` what is in an image.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onotrain.errors import CheckpointError
from onotrain.runs.json_objects import loaded

FILETYPE = "onotrain-checkpoint"
VERSION = 1
USER_BLOCK_BYTES = 512
#: Name of the metadata among the data sets of the image.
METADATA = "metadata"
#: What an array may consist of.
DTYPES = frozenset(np.dtype(name) for name in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"))
#: Groups in groups; the names of layers have two or three parts.
DEPTH = 16

#: As PNG's: the high bit and the line ends show a transfer that was not binary.
MAGIC = b"\x89ONO\r\n\x1a\n"
FIELDS = struct.Struct("<8sIIQ32s")  # magic, version, size of the user block, length of the image, its SHA-256
_CHECKED_BYTES = USER_BLOCK_BYTES - hashlib.sha256().digest_size  # the rest is the SHA-256 of what stands before it

#: JSON has no NaN and no infinities: they are written as ``{"$float": "nan"}``, ``"inf"`` and ``"-inf"``.
_NON_FINITE = "$float"

#: Digested between two pauses: 0.1 ms of a core that has instructions for it [bytes].
_BLOCK_BYTES = 128 << 10
#: Called before each block: a thread that digests must not take a core from the training for long.
Pause = Callable[[], object]


class DamagedCheckpointError(CheckpointError):
    """A file that is not what was written: torn, truncated, flipped, or no checkpoint at all."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint.

    Parameters
    ----------
    arrays
        Arrays of floats or integers (any shape) by name, such as ``parameters/dense_0/weight``.
    metadata
        What JSON can hold (string keys; NumPy scalars and tuples become numbers and lists); floats survive bit by bit.
    late
        Makes more metadata from the arrays as they are written; None if there are none.  A background writer calls it
        in its thread, so that a digest of the arrays takes no time from who hands them over.
    """

    arrays: Mapping[str, np.ndarray]
    metadata: dict[str, Any]
    late: Callable[[Mapping[str, np.ndarray], Pause], Mapping[str, Any]] | None = None


def no_pause() -> None:
    """Go on at once."""


def sha256(buffers: Iterable[memoryview], pause: Pause = no_pause) -> hashlib._Hash:
    """Return the digest of the bytes of `buffers`, one after the other."""
    digest = hashlib.sha256()
    for buffer in buffers:
        for begin in range(0, len(buffer), _BLOCK_BYTES):
            pause()
            digest.update(buffer[begin : begin + _BLOCK_BYTES])
    return digest


def user_block(image: bytes | memoryview, pause: Pause = no_pause) -> bytes:
    """Make the 512 bytes that stand in front of an HDF5 image."""
    fields = FIELDS.pack(MAGIC, VERSION, USER_BLOCK_BYTES, len(image), sha256([memoryview(image)], pause).digest())
    checked = fields.ljust(_CHECKED_BYTES, b"\0")
    return checked + hashlib.sha256(checked).digest()


def image_bytes(block: bytes, source: str) -> int:
    """Check the user block alone and return the length [bytes] of the image that must follow.

    Raises
    ------
    DamagedCheckpointError
        Not a user block of ours, or a damaged one.
    CheckpointError
        One of a newer version of onotrain.
    """
    if not block.startswith(MAGIC):
        raise DamagedCheckpointError(
            f"{source}: not an onotrain checkpoint, or damaged: begins with {block[:8]!r}, expected {MAGIC!r}",
            hint="name a run directory, or one of the step-*.h5 files in its checkpoints/",
        )
    if len(block) < USER_BLOCK_BYTES:
        raise damaged(source, f"it ends after {len(block)} bytes, expected at least {USER_BLOCK_BYTES}")
    checked, digest = block[:_CHECKED_BYTES], block[_CHECKED_BYTES:USER_BLOCK_BYTES]
    if hashlib.sha256(checked).digest() != digest:
        raise damaged(source, f"digest of its header is {short_hex(checked)}, expected {digest.hex()[:16]}")
    _, version, size, length, _ = FIELDS.unpack_from(checked)
    if version != VERSION:
        raise other_version(source, version)
    if size != USER_BLOCK_BYTES or any(checked[FIELDS.size :]):
        raise damaged(
            source, f"its header says a size of {size} bytes, expected {USER_BLOCK_BYTES} and zeros as filling"
        )
    return int(length)


def damaged(source: str, problem: str) -> DamagedCheckpointError:
    """Make the error for a file that is not what was written."""
    return DamagedCheckpointError(
        f"{source}: damaged checkpoint: {problem}",
        hint="delete it and resume: the run goes on from the checkpoint before it; or restore the file from a copy",
    )


def foreign(source: str, got: str, expected: str) -> CheckpointError:
    """Make the error for a file that is whole but not one of ours."""
    return CheckpointError(
        f"{source}: not a checkpoint that onotrain wrote: got {got}, expected {expected}",
        hint="name a run directory, or one of the step-*.h5 files in its checkpoints/",
    )


def other_version(source: str, version: object) -> CheckpointError:
    """Make the error for a format that this version of onotrain does not know."""
    return CheckpointError(
        f"{source}: checkpoint format version {version}, expected {VERSION}",
        hint="a newer onotrain wrote it: upgrade onotrain",
    )


def short_hex(data: bytes | memoryview) -> str:
    """Return the beginning of the SHA-256 of some bytes, for messages."""
    return hashlib.sha256(data).hexdigest()[:16]


def to_text(metadata: Mapping[str, Any]) -> bytes:
    """Write `metadata` as ASCII JSON with sorted keys; floats as the shortest decimal that reads back to the same bits.

    Raises
    ------
    TypeError
        A value that JSON cannot hold, or a key that is not a string.
    """
    return json.dumps(_plain(metadata, "metadata"), sort_keys=True, allow_nan=False).encode("ascii")


def from_text(text: bytes) -> dict[str, Any]:
    """Read what :func:`to_text` wrote.

    Raises
    ------
    ValueError
        It is not a JSON object.
    """
    return loaded(text, object_hook=_restore, parse_constant=_refuse)


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):  # repr of a finite float reads back to the same bits; JSON has no others
        return value if math.isfinite(value) else {_NON_FINITE: repr(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"{where}: keys are {list(value)[:3]}, expected strings")
        if value.keys() == {_NON_FINITE}:
            raise TypeError(f"{where}: the key {_NON_FINITE!r} alone stands for a float")
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    raise TypeError(f"{where}: a checkpoint cannot hold {type(value).__name__} as metadata")


def _restore(value: dict[str, Any]) -> Any:
    if value.keys() == {_NON_FINITE} and value[_NON_FINITE] in ("nan", "inf", "-inf"):
        return float(value[_NON_FINITE])
    return value


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")

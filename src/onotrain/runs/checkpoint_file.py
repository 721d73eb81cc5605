"""The checkpoint file: named arrays and JSON metadata as one HDF5 image behind a digest.

The image is built in memory and its SHA-256 stands in a 512-byte HDF5 user block in front of it.  So a reader can
refuse a torn or flipped file before libhdf5, which is not hardened against damaged input, sees a byte of it; and any
HDF5 tool opens the file as it is.  The digest says "complete and as written", not "from a friend": what the image holds
is checked as well.  The specification is ``docs/checkpoint-format.md``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onotrain.errors import CheckpointError
from onotrain.runs.checkpoint_encoder import Encoder
from onotrain.runs.checkpoint_format import (
    CHECKED_BYTES,
    FIELDS,
    MAGIC,
    USER_BLOCK_BYTES,
    VERSION,
    foreign,
    other_version,
    user_block,
)
from onotrain.runs.checkpoint_json import from_text
from onotrain.runs.digest import Pause, no_pause

__all__ = [
    "Checkpoint",
    "DamagedCheckpointError",
    "check_arrays",
    "damaged",
    "decode",
    "encode",
    "image_bytes",
    "user_block",
]


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


def encode(checkpoint: Checkpoint) -> bytes:
    """Build the file in memory; equal content gives equal bytes.

    Parameters
    ----------
    checkpoint
        Arrays and metadata; nothing of it is kept.

    Returns
    -------
    bytes
        The whole file: user block and HDF5 image.

    Raises
    ------
    ValueError, TypeError
        A name or value that a checkpoint cannot hold (a bug of the caller).
    ResourceError
        Not enough memory for the image.
    """
    encoder = Encoder()
    encoder.take(checkpoint.arrays)
    return bytes(finish(encoder, checkpoint))


def finish(encoder: Encoder, checkpoint: Checkpoint, pause: Pause = no_pause) -> memoryview:
    """Return the file of a checkpoint whose arrays `encoder` has taken; valid until it takes the next ones.

    `pause` is called now and then.
    """
    late = {} if checkpoint.late is None else checkpoint.late(encoder.arrays, pause)
    return encoder.finish({**checkpoint.metadata, **late}, pause)


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
    checked, digest = block[:CHECKED_BYTES], block[CHECKED_BYTES:USER_BLOCK_BYTES]
    if hashlib.sha256(checked).digest() != digest:
        raise damaged(source, f"digest of its header is {_hex(checked)}, expected {digest.hex()[:16]}")
    _, version, size, length, _ = FIELDS.unpack_from(checked)
    if version != VERSION:
        raise other_version(source, version)
    if size != USER_BLOCK_BYTES or any(checked[FIELDS.size :]):
        raise damaged(
            source, f"its header says a size of {size} bytes, expected {USER_BLOCK_BYTES} and zeros as filling"
        )
    return int(length)


def decode(data: bytes, source: str) -> Checkpoint:
    """Read a whole file that :func:`encode` made.

    Parameters
    ----------
    data
        The file's bytes.
    source
        Name of the file, for messages.

    Returns
    -------
    Checkpoint
        With C-contiguous, writable arrays of native byte order.

    Raises
    ------
    DamagedCheckpointError
        The bytes are not the ones that were written.
    CheckpointError
        The file is whole but newer, or holds what a checkpoint may not hold.
    """
    length = image_bytes(data[:USER_BLOCK_BYTES], source)
    if len(data) - USER_BLOCK_BYTES != length:
        raise damaged(source, f"it has {len(data)} bytes, expected {USER_BLOCK_BYTES + length}")
    digest = FIELDS.unpack_from(data)[-1]
    image = memoryview(data)[USER_BLOCK_BYTES:]
    if hashlib.sha256(image).digest() != digest:
        raise damaged(source, f"its SHA-256 is {_hex(image)}, expected {digest.hex()[:16]}")
    from onotrain.runs.checkpoint_image import read_image  # here, because libhdf5 is not needed everywhere

    arrays, text = read_image(data, source)
    try:
        return Checkpoint(arrays, from_text(text))
    except ValueError as error:
        raise foreign(source, f"/metadata that is not JSON ({error})", "a JSON object") from error


def check_arrays(checkpoint: Checkpoint, expected: Mapping[str, tuple[tuple[int, ...], Any]], source: str) -> None:
    """Hold the arrays against the names, shapes and dtypes that a configuration implies.

    Parameters
    ----------
    checkpoint
        As read.
    expected
        ``(shape, dtype)`` by array name; the checkpoint must hold exactly these.
    source
        Name of the file, for the message.

    Raises
    ------
    CheckpointError
        It is a checkpoint of another network; the message lists what is missing, unexpected or of another shape.
    """
    arrays = checkpoint.arrays
    problems = [f"missing: {name} {_kind(*expected[name])}" for name in expected if name not in arrays]
    problems += [f"unexpected: {name} {_kind(a.shape, a.dtype)}" for name, a in arrays.items() if name not in expected]
    for name, (shape, dtype) in expected.items():
        if name in arrays and (arrays[name].shape != tuple(shape) or arrays[name].dtype != np.dtype(dtype)):
            array = arrays[name]
            problems.append(f"{name}: got {_kind(array.shape, array.dtype)}, expected {_kind(shape, dtype)}")
    if problems:
        shown = problems[:10] + ([f"and {len(problems) - 10} more"] if len(problems) > 10 else [])
        raise CheckpointError(
            "\n  ".join([f"{source}: a checkpoint of another network or optimizer", *shown]),
            hint="use the configuration that the run was started with, or start a new run with another --output",
        )


def damaged(source: str, problem: str) -> DamagedCheckpointError:
    """Make the error for a file that is not what was written."""
    return DamagedCheckpointError(
        f"{source}: damaged checkpoint: {problem}",
        hint="delete it and resume: the run goes on from the checkpoint before it; or restore the file from a copy",
    )


def _hex(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _kind(shape: tuple[int, ...], dtype: Any) -> str:
    return f"{np.dtype(dtype).name}{list(shape)}"

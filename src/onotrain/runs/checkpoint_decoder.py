"""Reads what `onotrain.runs.checkpoint_encoder` makes, if it is whole."""

from __future__ import annotations

import hashlib

from onotrain.runs.checkpoint_format import (
    FIELDS,
    USER_BLOCK_BYTES,
    Checkpoint,
    damaged,
    foreign,
    from_text,
    image_bytes,
    short_hex,
)


def decode(data: bytes, source: str) -> Checkpoint:
    """Read a whole file that `onotrain.runs.checkpoint_encoder.encode` made.

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
    from onotrain.runs.checkpoint_image import read_image  # here, because libhdf5 is not needed everywhere

    length = image_bytes(data[:USER_BLOCK_BYTES], source)
    if len(data) - USER_BLOCK_BYTES != length:
        raise damaged(source, f"it has {len(data)} bytes, expected {USER_BLOCK_BYTES + length}")
    digest = FIELDS.unpack_from(data)[-1]
    image = memoryview(data)[USER_BLOCK_BYTES:]
    if hashlib.sha256(image).digest() != digest:
        raise damaged(source, f"its SHA-256 is {short_hex(image)}, expected {digest.hex()[:16]}")
    arrays, text = read_image(data, source)
    try:
        return Checkpoint(arrays, from_text(text))
    except ValueError as error:
        raise foreign(source, f"/metadata that is not JSON ({error})", "a JSON object") from error

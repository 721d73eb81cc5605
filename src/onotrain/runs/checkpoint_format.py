"""What a checkpoint file is made of, without libhdf5: its constants, the block in front of the image, its errors."""

from __future__ import annotations

import hashlib
import struct

import numpy as np

from onotrain.errors import CheckpointError
from onotrain.runs.digest import Pause, no_pause, sha256

FILETYPE = "onotrain-checkpoint"
VERSION = 1
USER_BLOCK_BYTES = 512
METADATA = "metadata"

#: What an array may consist of.
DTYPES = frozenset(np.dtype(name) for name in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"))
#: Groups in groups; the names of layers have two or three parts.
DEPTH = 16

#: As PNG's: the high bit and the line ends show a transfer that was not binary.
MAGIC = b"\x89ONO\r\n\x1a\n"
FIELDS = struct.Struct("<8sIIQ32s")  # magic, version, size of the user block, length of the image, its SHA-256
CHECKED_BYTES = USER_BLOCK_BYTES - hashlib.sha256().digest_size  # the rest is the SHA-256 of what stands before it


def user_block(image: bytes | memoryview, pause: Pause = no_pause) -> bytes:
    """Make the 512 bytes that stand in front of an HDF5 image."""
    fields = FIELDS.pack(MAGIC, VERSION, USER_BLOCK_BYTES, len(image), sha256([memoryview(image)], pause).digest())
    checked = fields.ljust(CHECKED_BYTES, b"\0")
    return checked + hashlib.sha256(checked).digest()


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

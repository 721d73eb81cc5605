"""SHA-256 in small pieces, for a thread that must not take a core from the training for long."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

#: Digested between two pauses: 0.1 ms of a core that has instructions for it [bytes].
_PIECE_BYTES = 128 << 10

#: Called before each piece.
Pause = Callable[[], object]


def no_pause() -> None:
    """Go on at once."""


def sha256(buffers: Iterable[memoryview], pause: Pause = no_pause) -> hashlib._Hash:
    """Return the digest of the bytes of `buffers`, one after the other."""
    digest = hashlib.sha256()
    for buffer in buffers:
        for begin in range(0, len(buffer), _PIECE_BYTES):
            pause()
            digest.update(buffer[begin : begin + _PIECE_BYTES])
    return digest

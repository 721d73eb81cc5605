"""A compressed text that many write: each compresses its part, and one puts the parts behind each other.

A part is a deflate stream that does not end (RFC 1951), up to a byte, and knows nothing of those before it.  Between a
header and an end, the parts are one gzip member (RFC 1952), which every program reads.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Self

from onotrain.files import AtomicFile

_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
#: A last block of nothing.
_END = b"\x03\x00"
#: Speed counts more than the size.
_LEVEL = 1


class Part(NamedTuple):
    """A compressed part."""

    data: bytes
    #: Of what it was made of: checksum, and length [bytes].
    crc32: int
    length: int


def compress(texts: Iterable[str]) -> Part:
    """Return some texts behind each other, compressed."""
    stream = zlib.compressobj(_LEVEL, wbits=-zlib.MAX_WBITS)
    data, crc32, length = [], 0, 0
    for text in texts:
        raw = text.encode()
        data.append(stream.compress(raw))
        crc32, length = zlib.crc32(raw, crc32), length + len(raw)
    return Part(b"".join([*data, stream.flush(zlib.Z_FULL_FLUSH)]), crc32, length)


def joined_crc32(first: int, second: int, length: int) -> int:
    """Return the CRC-32 of two texts behind each other, of their own ones and the length of the second [bytes].

    A CRC is linear: those of the first text with as many zeros behind it, of the zeros alone, and of the second text
    add up to it.
    """
    nothing = 0
    while length:
        zeros = bytes(min(length, 1 << 20))
        first, nothing, length = zlib.crc32(zeros, first), zlib.crc32(zeros, nothing), length - len(zeros)
    return first ^ nothing ^ second


class TraceFile:
    """A gzip file of parts, which appears when it is complete; a context manager.

    Parameters
    ----------
    path
        Gets it, in place of what is there.

    Raises
    ------
    ResourceError
        By every method, as of `AtomicFile`.
    """

    def __init__(self, path: Path) -> None:
        self._file = AtomicFile(path)
        self._crc32 = self._length = 0

    def __enter__(self) -> Self:
        self._file.__enter__()
        self._file.write(_HEADER)
        return self

    def add(self, part: Part) -> None:
        """Write a part."""
        self._file.write(part.data)
        self._crc32 = joined_crc32(self._crc32, part.crc32, part.length)
        self._length += part.length

    def commit(self) -> None:
        """Write the end, and give the file its name."""
        ends = self._crc32.to_bytes(4, "little") + (self._length % (1 << 32)).to_bytes(4, "little")
        self._file.write(_END + ends)
        self._file.commit()

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)  # type: ignore[arg-type]

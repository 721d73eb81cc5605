"""Text tables in blocks: whole records of UTF-8, without comments, as the parser knows them."""

from __future__ import annotations

import io
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from onotrain.data.paths import opened
from onotrain.data.tables.dialect import Dialect
from onotrain.data.tables.records import problem
from onotrain.errors import DataError
from onotrain.memory import check_memory

#: Bytes that are read, and that a thread parses, at once: some for every column, so that what a block costs beside its
#: bytes does not count; enough for one block, few enough to stay in the caches.
_COLUMN_BYTES, _LEAST_BYTES, _MOST_BYTES = 1 << 15, 1 << 21, 1 << 24
#: No record may be longer [bytes].
_MOST_RECORD = 1 << 30
#: Memory that must be left when a block is read [bytes].
_SPARE_BYTES = 1 << 26
#: Some records: a view of bytes that hold no quote, or bytes.
Block = bytes | memoryview


def size_of_block(columns: int) -> int:
    """Return how many bytes of a table of some columns a block has."""
    return min(max(columns * _COLUMN_BYTES, _LEAST_BYTES), _MOST_BYTES)


def blocks(dialect: Dialect, size: int, kept: int = 0) -> Iterator[Block]:
    """Yield the records of a file, after its header, in blocks that end with a record.

    A block is valid until `kept` more, and then one, are asked for: memory that is used again needs no new pages, which
    would cost more than reading does.

    Parameters
    ----------
    dialect
        How the file is written.
    size
        Of a block [bytes]; one with a longer record is longer.
    kept
        How many blocks more are asked for before one is done with.

    Raises
    ------
    DataError
        Not text of that encoding, or a quote is never closed.
    ResourceError
        Less memory is left than reading needs.
    """
    with opened(dialect.path) as (raw, _):
        stream: Any = raw
        if dialect.encoding not in ("utf-8", "utf-8-sig"):
            stream = _Recoded(dialect, raw)
        elif b"\n" not in (beginning := raw.peek(1)) and b"\r" in beginning:  # type: ignore[attr-defined]
            stream = _Recoded(replace(dialect, encoding="utf-8-sig"), raw, None)  # lines end as on an old Mac
        elif raw.peek(3)[:3] == b"\xef\xbb\xbf":  # type: ignore[attr-defined]
            raw.read(3)
        for _ in range(dialect.preamble):
            stream.readline()
        yield from _cut(dialect, stream, size, kept)


def _cut(dialect: Dialect, stream: Any, size: int, kept: int) -> Iterator[Block]:
    """Yield the rest of a stream in blocks that end with a record."""
    buffers = deque([bytearray()] * (kept + 1))
    rest = b""
    while True:
        more = max(size, len(rest))  # of a long record as much again, so that it is not looked through too often
        check_memory(max(4 * more, _SPARE_BYTES), dialect.path,
                     hint="convert the file in parts, or use a machine with more memory")  # fmt: skip
        if len(buffers[0]) < len(rest) + more:
            buffers[0] = bytearray(2 * len(rest) + more)
        view = memoryview(buffers[0])
        view[: len(rest)] = rest
        got = stream.readinto(view[len(rest) : len(rest) + more])
        if not got:
            break
        filled = len(rest) + got
        block, rest = _records(dialect, buffers[0], filled)
        if block:
            buffers.rotate(-1)
            yield block
        elif len(rest) > _MOST_RECORD:
            raise problem(dialect, "a quote is never closed")
    rest = _without_comments(dialect, rest, whole=True)
    if (_quoted(dialect, rest)[1] > len(rest)).any():
        raise problem(dialect, "a quote is never closed")
    if rest.strip():
        yield _known_to_parser(dialect, rest)


def _records(dialect: Dialect, buffer: bytearray, filled: int) -> tuple[Block, bytes]:
    """Return the whole records of what is in a buffer, and the rest."""
    special = [mark.encode() for mark in (dialect.quote, dialect.comment) if mark]
    end = buffer.rfind(b"\n", 0, filled) + 1
    if end and not dialect.blanks and all(buffer.find(mark, 0, filled) < 0 for mark in special):
        return memoryview(buffer)[:end], bytes(buffer[end:filled])
    data = _without_comments(dialect, bytes(buffer[:filled]))
    end = _end_of_records(dialect, data)
    return _known_to_parser(dialect, data[:end]), data[end:]


class _Recoded(io.RawIOBase):
    """A file of another encoding, or with other ends of lines, as UTF-8."""

    def __init__(self, dialect: Dialect, raw: Any, newline: str | None = "") -> None:
        self._text = io.TextIOWrapper(raw, dialect.encoding, newline=newline)
        self._dialect = dialect

    def readline(self, size: int | None = -1) -> bytes:
        return self._text.readline().encode()

    def readinto(self, free: Any) -> int:
        """Fill `free` with text; a character has four bytes at most."""
        try:
            data = self._text.read(max(len(free) // 4, 1)).encode()
            free[: len(data)] = data
            return len(data)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self._dialect.path}: not {self._dialect.encoding} text: {error.reason}",
                hint="say what it is with data.csv.encoding",
            ) from error


def _without_comments(dialect: Dialect, data: bytes, *, whole: bool = False) -> bytes:
    """Return text without the lines that are comments; the last line may be cut unless the text is `whole`."""
    comment = (dialect.comment or "").encode()
    if not comment or comment not in data:
        return data
    return re.sub(rb"(?m)^(?!#N/A)" + re.escape(comment) + rb"[^\n]*" + (rb"\n?" if whole else rb"\n"), b"", data)


def _end_of_records(dialect: Dialect, data: bytes) -> int:
    """Return where the last whole record of some bytes ends, which begin with one; 0 if none does."""
    end = data.rfind(b"\n") + 1 or data.rfind(b"\r") + 1
    starts, stops = _quoted(dialect, data)
    while (before := int(np.searchsorted(starts, end))) and stops[before - 1] >= end:  # the line ends within a field
        end = data.rfind(b"\n", 0, starts[before - 1]) + 1
    return end


def _quoted(dialect: Dialect, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return where quoted texts begin and end; one that is never closed ends after the last byte.

    A quote opens a field only at its beginning: that in ``27" monitor`` is text, for the parser and the csv module too.
    """
    quote = dialect.quote.encode()
    if not quote or quote not in data or dialect.blanks:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    at = _plain_quotes(dialect, data)
    if at is not None:  # one opens, the next one closes
        return at[::2], np.append(at, len(data))[1::2] + 1
    found = [(each.start(2), each.end() + (not each[3])) for each in _quoted_field(dialect).finditer(data)]
    starts, stops = np.array(found, np.int64).reshape(-1, 2).T
    return starts, stops


def _plain_quotes(dialect: Dialect, data: bytes) -> np.ndarray | None:
    """Return where quotes are, if every other one stands at the beginning of a field or behind one; else None."""
    quote = dialect.quote.encode()
    at = np.flatnonzero(np.frombuffer(data, np.uint8) == quote[0])
    before = np.frombuffer(b"\n" + data, np.uint8)[at[::2]]
    plain = np.isin(before, list(dialect.delimiter.encode() + b"\r\n" + quote)).all()
    return at if plain else None


def _quoted_field(dialect: Dialect) -> re.Pattern[bytes]:
    """Return a pattern of a quoted field: what is before it, its text with the quote that opens, and that closes it."""
    mark, quote = re.escape(dialect.delimiter.encode()), re.escape(dialect.quote.encode())
    text = rb"[^%b]*+" % quote
    return re.compile(rb"(\A|[%b\r\n])[ \t]*(%b%b(?:%b%b%b)*+)(%b|\Z)" % (mark, quote, text, quote, quote, text, quote))


def _known_to_parser(dialect: Dialect, block: bytes) -> bytes:
    """Return a block with a tab for blanks that delimit, and without blanks before a quote that opens a field."""
    if dialect.blanks:
        return re.sub(rb"(?m)[ \t]+", b"\t", re.sub(rb"(?m)^[ \t]+|[ \t]+(?=\r?$)", b"", block))
    quote = dialect.quote.encode()
    if quote and quote in block and _plain_quotes(dialect, block) is None:
        return _quoted_field(dialect).sub(rb"\1\2\3", block)
    return block


def without_blank_records(dialect: Dialect, block: Block) -> bytes:
    """Return a block without records that hold nothing but delimiters."""
    blanks = rb" " if dialect.delimiter == "\t" else rb" \t"
    mark = re.escape(dialect.delimiter.encode())
    return re.sub(rb"(?m)^(?:[" + blanks + rb"]*" + mark + rb")+[ \t\r]*(?:\n|\Z)", b"", block)

"""Text tables (CSV, TSV) to columns: pyarrow parses, in blocks of bounded memory.

Only when something is wrong is the file read again, record by record, to say where.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from onotrain.config.columns import TextTable
from onotrain.data.paths import opened
from onotrain.data.tables.dialect import Dialect, look_at
from onotrain.data.tables.growing import GrowingNumbers, GrowingText
from onotrain.data.tables.records import Lines, TextPlaces, check_quotes, problem, records_of
from onotrain.data.tables.table import Column, Table, is_code, lose_digits
from onotrain.errors import DataError
from onotrain.memory import check_memory

#: Bytes that are read and kept at once, and that a thread parses at once.
BLOCK_BYTES, PARSED_AT_ONCE = 1 << 24, 1 << 22
#: No record may be longer [bytes].
_MOST_RECORD = 1 << 30
_SAMPLE_ROWS = 200
#: So many digits are exact in float64.
_DIGITS = 15
Block = bytes | memoryview


def read_text(
    path: str, kind: str, given: TextTable, *, wanted: Collection[str] | None = None, texts: Collection[str] = ()
) -> Table:
    """Read a CSV or TSV file.

    Parameters
    ----------
    path
        Of the file, gzipped or not.
    kind
        ``csv`` or ``tsv``.
    given
        What is known of its dialect.
    wanted
        Columns to read; None for all.
    texts
        Columns to be read as text, whatever they look like.

    Returns
    -------
    Table
        Columns of float64, or of text where not every field is a number.

    Raises
    ------
    DataError
        Missing, not text, no data, or records with different numbers of fields; names file, line and column.
    ResourceError
        Larger than the memory that is left.
    """
    dialect = look_at(path, kind, given)
    names = [name for name in dialect.names if wanted is None or name in wanted]
    if not names:
        return Table((), path, TextPlaces(dialect), dialect.guesses, dialect.settings)
    text = {name for name in names if name in texts} | _texts_of_sample(dialect, names)
    surprises: set[str] | None = None
    while surprises is None or surprises:  # columns of numbers that turn out to hold text are read again
        text |= surprises or set()
        columns, surprises = _read_columns(dialect, names, text)
    if columns and not len(columns[0]):
        raise DataError(f"{path}: no samples")
    places = TextPlaces(dialect)
    kept = tuple(c for c in columns if not _is_left_over(dialect, c))
    return Table(kept, path, places, dialect.guesses, dialect.settings)


def _is_left_over(dialect: Dialect, column: Column) -> bool:
    """Return whether a column stands for nothing but delimiters at the ends of lines."""
    number = column.field + 1
    unnamed = number == len(dialect.names) and column.name in (f"column_{number}", str(number))
    return unnamed and bool(column.missing.all())


def _texts_of_sample(dialect: Dialect, names: Sequence[str]) -> set[str]:
    """Return the columns that hold something else than numbers in the first records."""
    wanted = [(c, name) for c, name in enumerate(dialect.names) if name in names]
    found: set[str] = set()
    digits: dict[str, set[str]] = {}
    with Lines(dialect) as lines:
        for _, fields in islice(records_of(dialect, lines), _SAMPLE_ROWS):
            for c, name in wanted:
                if name in found or c >= len(fields) or dialect.is_missing(field := fields[c]):
                    continue
                if dialect.number(field) is None or is_code(field):
                    found.add(name)
                elif len(field) > _DIGITS or name in digits:
                    digits.setdefault(name, set()).add(field)
    return found | {name for name, known in digits.items() if lose_digits(known)}


def _blocks(dialect: Dialect) -> Iterator[Block]:
    """Yield the records of the file in blocks of UTF-8 that end with a record, without what is none."""
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
        yield from _cut(dialect, stream)


def _cut(dialect: Dialect, stream: Any) -> Iterator[Block]:
    """Yield the rest of a stream in blocks that end with a record; each is valid until the next one."""
    buffer, filled = bytearray(2 * BLOCK_BYTES), 0
    while True:
        free = memoryview(buffer)[filled:]
        got = stream.readinto(free[:BLOCK_BYTES])
        free.release()
        if not got:
            break
        check_memory(4 * got, dialect.path, hint="convert the file in parts, or use a machine with more memory")
        filled += got
        end = _end_of_records(dialect, buffer, filled)
        if end:
            yield _cleaned(dialect, buffer, end)
            buffer[: filled - end] = buffer[end:filled]
            filled -= end
        elif filled > _MOST_RECORD:
            raise problem(dialect, "a quote is never closed")
        if len(buffer) - filled < BLOCK_BYTES:  # a record longer than a block
            longer = bytearray(2 * len(buffer))
            longer[:filled] = memoryview(buffer)[:filled]
            buffer = longer
    rest = bytes(buffer[:filled])
    if rest.strip():
        check_quotes(dialect, rest)
        yield _cleaned(dialect, bytearray(rest), filled)


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
            data = self._text.read(len(free) // 4).encode()
            free[: len(data)] = data
            return len(data)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self._dialect.path}: not {self._dialect.encoding} text: {error.reason}",
                hint="say what it is with data.csv.encoding",
            ) from error


def _end_of_records(dialect: Dialect, data: bytearray, filled: int) -> int:
    """Return where the last whole record of the first `filled` bytes ends; 0 if none does."""
    end = data.rfind(b"\n", 0, filled) + 1
    if not end:
        end = data.rfind(b"\r", 0, filled) + 1
    quote = dialect.quote.encode()
    if not quote or data.find(quote, 0, filled) < 0:
        return end
    odd = data.count(quote, 0, end) % 2
    while end and odd:  # within a quoted field
        before = data.rfind(b"\n", 0, end - 1) + 1
        odd ^= data.count(quote, before, end) % 2
        end = before
    return end


def _cleaned(dialect: Dialect, data: bytearray, end: int) -> Block:
    """Return the first `end` bytes without comments, and without what the parser does not know."""
    quote, comment = dialect.quote.encode(), (dialect.comment or "").encode()
    has_quotes = bool(quote) and data.find(quote, 0, end) >= 0
    has_comments = bool(comment) and data.find(comment, 0, end) >= 0
    if not (has_quotes or has_comments or dialect.blanks):
        return memoryview(data)[:end]
    block = bytes(data[:end])
    if has_comments:
        block = re.sub(rb"(?m)^(?!#N/A)" + re.escape(comment) + rb"[^\n]*\n?", b"", block)
    if dialect.blanks:
        return re.sub(rb"(?m)[ \t]+", b"\t", re.sub(rb"(?m)^[ \t]+|[ \t]+(?=\r?$)", b"", block))
    blanks = rb" +" if dialect.delimiter == "\t" else rb"[ \t]+"  # two tabs have an empty field between them
    before = re.escape(dialect.delimiter.encode()) + blanks + re.escape(quote)
    if has_quotes and re.search(before, block):
        block = re.sub(before, dialect.delimiter.encode() + quote, block)
    return block


def _without_blank_records(dialect: Dialect, block: Block) -> bytes:
    """Return a block without records that hold nothing but delimiters."""
    blanks = rb" " if dialect.delimiter == "\t" else rb" \t"
    mark = re.escape(dialect.delimiter.encode())
    return re.sub(rb"(?m)^(?:[" + blanks + rb"]*" + mark + rb")+[ \t\r]*(?:\n|\Z)", b"", block)


def _parse_records(dialect: Dialect, block: Block, names: Sequence[str], text: set[str]) -> pa.Table | set[str]:
    """Return the wanted columns of a block without blank records, or those that turn out to hold text."""
    part: pa.Table | None = None
    with contextlib.suppress(pa.ArrowInvalid):  # blank records may be the reason
        part = _parse(dialect, block, names, text)
        if len(dialect.names) < 2 or dialect.blanks:
            return part
        if any(name not in text and not part.column(name).null_count for name in names):  # no record lacks this number
            return part
    kept = _without_blank_records(dialect, block)
    if part is not None and len(kept) == len(block):
        return part
    try:
        return _parse(dialect, kept, names, text)
    except pa.ArrowInvalid as error:
        numbers = [name for name in names if name not in text]
        if not numbers or "conversion error" not in str(error):
            raise problem(dialect, str(error)) from error
        return _texts_of_block(dialect, kept, numbers)


def _parse(
    dialect: Dialect, block: Block, names: Sequence[str], text: set[str], block_size: int = PARSED_AT_ONCE
) -> pa.Table:
    """Return the wanted columns of a block.  Raises pyarrow.ArrowInvalid: one is no number, or a record is ragged."""
    by_number = [str(c) for c in range(len(dialect.names))]
    of_name = dict(zip(dialect.names, by_number, strict=True))
    as_text = pa.dictionary(pa.int32(), pa.string())
    types = {of_name[name]: as_text if name in text or dialect.thousands else pa.float64() for name in names}
    missing = sorted({form for word in dialect.missing for form in _cases(word)})
    quote = dialect.quote.encode()
    convert = pacsv.ConvertOptions(
        column_types=types, include_columns=[of_name[name] for name in names], null_values=missing,
        strings_can_be_null=True, quoted_strings_can_be_null=True, decimal_point=dialect.decimal,
    )  # fmt: skip
    try:
        table = pacsv.read_csv(
            pa.py_buffer(block),
            pacsv.ReadOptions(column_names=by_number, block_size=block_size),
            pacsv.ParseOptions(
                delimiter="\t" if dialect.blanks else dialect.delimiter, quote_char=dialect.quote or False,
                double_quote=True, newlines_in_values=bool(quote) and isinstance(block, bytes) and quote in block,
            ),
            convert,
        )  # fmt: skip
    except pa.ArrowInvalid as error:
        if "straddling" in str(error) and block_size < len(block):  # a record longer than that
            return _parse(dialect, block, names, text, len(block) + 1)
        raise
    return table.rename_columns(list(names))


def _cases(word: str) -> tuple[str, ...]:
    return word, word.upper(), word.title()


def _texts_of_block(dialect: Dialect, block: Block, numbers: Sequence[str]) -> set[str]:
    """Return the columns of a block that hold something else than numbers."""
    try:
        table = _parse(dialect, block, numbers, set(numbers))
    except pa.ArrowInvalid as error:  # not text
        raise problem(dialect, str(error)) from error
    found = set()
    for name in numbers:
        for chunk in table.column(name).chunks:
            known = (value.strip() for value in chunk.dictionary.to_pylist())
            if any(not dialect.is_missing(value) and dialect.number(value) is None for value in known):
                found.add(name)
                break
    return found or set(numbers)


def _read_columns(dialect: Dialect, names: Sequence[str], text: set[str]) -> tuple[tuple[Column, ...], set[str]]:
    """Return all columns, or none of them and those of numbers in which text was found."""
    growing: dict[str, GrowingNumbers | GrowingText] = {}
    for block in _blocks(dialect):
        part = _parse_records(dialect, block, names, text)
        if isinstance(part, set):
            return (), part
        if not growing:
            rows = _rows_of_file(dialect, len(block), len(part))
            kinds = {name: GrowingText if name in text or dialect.thousands else GrowingNumbers for name in names}
            growing = {name: kind(rows) for name, kind in kinds.items()}
        for name, column in growing.items():
            for chunk in part.column(name).chunks:
                if isinstance(column, GrowingText):
                    column.add(chunk, dialect.is_missing)
                else:
                    column.add(chunk)
    return tuple(_finished(dialect, name, column, name in text) for name, column in growing.items()), set()


def _rows_of_file(dialect: Dialect, nbytes: int, rows: int) -> int:
    """Return about how many rows a file has whose first `nbytes` hold some; too few of a compressed one."""
    size = os.stat(os.path.expanduser(dialect.path)).st_size
    return rows + int(1.01 * rows * max(size - nbytes, 0) / max(nbytes, 1)) + 16


def _finished(dialect: Dialect, name: str, column: GrowingNumbers | GrowingText, as_text: bool) -> Column:
    """Return a column that is read to its end; text with thousands marks as numbers."""
    field = dialect.names.index(name)
    made = replace(column.column(name, field), units=dialect.unit_of(field))
    if made.categories is None:
        return made
    numbers = [np.nan if (number := dialect.number(word)) is None else number for word in made.categories]
    made = replace(made, numbers=np.array(numbers, np.float64))
    return made if as_text else replace(made, values=made.as_numbers()[0], categories=None, numbers=None)

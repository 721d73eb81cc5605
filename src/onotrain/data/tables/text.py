"""Text tables (CSV, TSV) to columns: pyarrow parses, in blocks of bounded memory.

Only when something is wrong is the file read again, record by record, to say where.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from onotrain.config.columns import TextTable
from onotrain.data.paths import opened
from onotrain.data.tables.dialect import Dialect, look_at
from onotrain.data.tables.records import Lines, TextPlaces, check_quotes, problem, records_of
from onotrain.data.tables.table import MISSING_CODE, Column, Table
from onotrain.errors import DataError
from onotrain.memory import check_memory

#: Bytes that are parsed at once.
BLOCK_BYTES = 1 << 26
#: No record may be longer [bytes].
_MOST_RECORD = 1 << 30
_SAMPLE_ROWS = 1000
_IN_COLUMN = re.compile(r"In CSV column #(\d+)")


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
        return Table((), path, TextPlaces(dialect), dialect.guesses)
    text = {name for name in names if name in texts} | _texts_of_sample(dialect, names)
    while True:
        parts: list[pa.Table] = []
        surprises: set[str] = set()
        for block in _blocks(dialect):
            part = _parse(dialect, block, names, text)
            surprises = part if isinstance(part, set) else set()
            if surprises:
                break
            parts.append(part)
        if not surprises:
            break
        text |= surprises
    columns = tuple(_column(dialect, name, [part.column(name) for part in parts], name in text) for name in names)
    if columns and not len(columns[0]):
        raise DataError(f"{path}: no samples")
    places = TextPlaces(dialect)
    return Table(tuple(c for c in columns if not _is_left_over(dialect, c)), path, places, dialect.guesses)


def names_of(path: str, kind: str, given: TextTable) -> tuple[str, ...]:
    """Return the names of a text table's columns; reads its beginning only."""
    return look_at(path, kind, given).names


def _is_left_over(dialect: Dialect, column: Column) -> bool:
    """Return whether a column stands for nothing but delimiters at the ends of lines."""
    number = column.field + 1
    unnamed = number == len(dialect.names) and column.name in (f"column_{number}", str(number))
    return unnamed and bool(column.missing.all())


def _texts_of_sample(dialect: Dialect, names: Sequence[str]) -> set[str]:
    """Return the columns that hold something else than numbers in the first records."""
    wanted = [(c, name) for c, name in enumerate(dialect.names) if name in names]
    found: set[str] = set()
    with Lines(dialect) as lines:
        sample = islice(records_of(dialect, lines), _SAMPLE_ROWS)
        for _, fields in sample:
            found.update(
                name for c, name in wanted
                if c < len(fields) and not dialect.is_missing(fields[c]) and dialect.number(fields[c]) is None
            )  # fmt: skip
    return found


def _blocks(dialect: Dialect) -> Iterator[bytes]:
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
        rest = b""
        while True:
            data = stream.read(BLOCK_BYTES)
            if not data:
                break
            check_memory(
                4 * len(data), dialect.path, hint="convert the file in parts, or use a machine with more memory"
            )
            rest += data
            end = _end_of_records(dialect, rest)
            if end:
                yield _cleaned(dialect, rest[:end])
                rest = rest[end:]
            elif len(rest) > _MOST_RECORD:
                raise problem(dialect, "a quote is never closed")
        if rest.strip():
            check_quotes(dialect, rest)
            yield _cleaned(dialect, rest)


class _Recoded(io.RawIOBase):
    """A file of another encoding, or with other ends of lines, as UTF-8."""

    def __init__(self, dialect: Dialect, raw: Any, newline: str | None = "") -> None:
        self._text = io.TextIOWrapper(raw, dialect.encoding, newline=newline)
        self._dialect = dialect

    def readline(self, size: int | None = -1) -> bytes:
        return self._text.readline().encode()

    def read(self, size: int = -1) -> bytes:
        try:
            return self._text.read(size).encode()
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self._dialect.path}: not {self._dialect.encoding} text: {error.reason}",
                hint="say what it is with data.csv.encoding",
            ) from error


def _end_of_records(dialect: Dialect, data: bytes) -> int:
    """Return where the last whole record of a data ends; 0 if none does."""
    end = data.rfind(b"\n") + 1
    if not end and b"\r" in data:
        end = data.rfind(b"\r") + 1
    quote = dialect.quote.encode()
    if not quote or quote not in data:
        return end
    odd = data.count(quote, 0, end) % 2
    while end and odd:  # within a quoted field
        before = data.rfind(b"\n", 0, end - 1) + 1
        odd ^= data.count(quote, before, end) % 2
        end = before
    return end


def _cleaned(dialect: Dialect, block: bytes) -> bytes:
    """Return a block without comments, records of nothing, and what the parser does not know."""
    mark, quote = re.escape(dialect.delimiter.encode()), re.escape(dialect.quote.encode())
    if dialect.comment is not None and dialect.comment.encode() in block:
        block = re.sub(rb"(?m)^(?!#N/A)" + re.escape(dialect.comment.encode()) + rb"[^\n]*\n?", b"", block)
    if dialect.blanks:
        return re.sub(rb"(?m)[ \t]+", b"\t", re.sub(rb"(?m)^[ \t]+|[ \t]+(?=\r?$)", b"", block))
    blanks = rb" +" if dialect.delimiter == "\t" else rb"[ \t]+"  # two tabs have an empty field between them
    if quote and re.search(mark + blanks + quote, block):
        block = re.sub(mark + blanks + quote, dialect.delimiter.encode() + dialect.quote.encode(), block)
    if len(dialect.names) > 1 and (
        block.startswith(dialect.delimiter.encode()) or b"\n" + dialect.delimiter.encode() in block
    ):
        block = re.sub(rb"(?m)^(?:[ " + (rb"" if dialect.delimiter == "\t" else rb"\t") + rb"]*" + mark
                       + rb")+[ \t\r]*(?:\n|\Z)", b"", block)  # fmt: skip
    return block


def _parse(dialect: Dialect, block: bytes, names: Sequence[str], text: set[str]) -> pa.Table | set[str]:
    """Return the wanted columns of a block, or those that turn out to hold text."""
    by_number = [str(c) for c in range(len(dialect.names))]
    of_name = dict(zip(dialect.names, by_number, strict=True))
    numbers = [name for name in names if name not in text]
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
            pacsv.ReadOptions(column_names=by_number, block_size=max(1 << 20, len(block) // 4 + 1)),
            pacsv.ParseOptions(
                delimiter="\t" if dialect.blanks else dialect.delimiter, quote_char=dialect.quote or False,
                double_quote=True, newlines_in_values=bool(quote) and quote in block,
            ),
            convert,
        )  # fmt: skip
    except pa.ArrowInvalid as error:
        if _IN_COLUMN.search(str(error)) and "conversion error" in str(error) and numbers:
            return _texts_of_block(dialect, block, numbers)
        raise problem(dialect, str(error)) from error
    return table.rename_columns(list(names))


def _cases(word: str) -> tuple[str, ...]:
    return word, word.upper(), word.title()


def _texts_of_block(dialect: Dialect, block: bytes, numbers: Sequence[str]) -> set[str]:
    """Return the columns of a block that hold something else than numbers."""
    table = _parse(dialect, block, numbers, set(numbers))
    assert not isinstance(table, set)
    found = set()
    for name in numbers:
        for chunk in table.column(name).chunks:
            known = (value.strip() for value in chunk.dictionary.to_pylist())
            if any(not dialect.is_missing(value) and dialect.number(value) is None for value in known):
                found.add(name)
                break
    return found or set(numbers)


def _column(dialect: Dialect, name: str, parts: list[pa.ChunkedArray], as_text: bool) -> Column:
    """Return one column of all blocks."""
    field = dialect.names.index(name)
    chunks = [chunk for part in parts for chunk in part.chunks]
    rows = sum(len(chunk) for chunk in chunks)
    if not as_text and not dialect.thousands:
        values = np.empty(rows)
        start = 0
        for chunk in chunks:
            values[start : start + len(chunk)] = chunk.to_numpy(zero_copy_only=False)
            start += len(chunk)
        parts.clear()
        return Column(name, values, field=field)
    codes = np.empty(rows, np.int32)
    categories: dict[str, int] = {}
    start = 0
    for chunk in chunks:
        words = [value.strip() for value in chunk.dictionary.to_pylist()]
        renamed = np.array(
            [MISSING_CODE if dialect.is_missing(word) else categories.setdefault(word, len(categories))
             for word in words] or [MISSING_CODE], np.int32,
        )  # fmt: skip
        indices = pc.fill_null(chunk.indices, -1).to_numpy(zero_copy_only=False)
        codes[start : start + len(chunk)] = np.where(indices < 0, MISSING_CODE, renamed[indices])
        start += len(chunk)
    codes, names = _sorted(codes, tuple(categories))
    numbers = np.array([np.nan if (n := dialect.number(name)) is None else n for name in names], np.float64)
    column = Column(name, codes, names, field=field, numbers=numbers)
    return column if as_text else replace(column, values=column.as_numbers()[0], categories=None, numbers=None)


def _sorted(codes: np.ndarray, categories: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the same text with its categories in sorted order."""
    order = sorted(range(len(categories)), key=categories.__getitem__)
    rank = np.empty(len(categories) + 1, np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    rank[-1] = MISSING_CODE
    return rank[codes], tuple(categories[c] for c in order)

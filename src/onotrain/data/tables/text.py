"""Text tables (CSV, TSV) to columns: pyarrow parses, in blocks of bounded memory, while the next ones are read.

Only when something is wrong is the file read again, record by record, to say where.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice

import numpy as np
import pyarrow as pa

from onotrain.config.columns import TextTable
from onotrain.data.tables.blocks import Block, blocks, size_of_block
from onotrain.data.tables.dialect import Dialect
from onotrain.data.tables.dialect_guess import look_at
from onotrain.data.tables.growing import GrowingNumbers, GrowingText, arrays_of_numbers
from onotrain.data.tables.parser import Parser
from onotrain.data.tables.records import Lines, TextPlaces, problem, records_of
from onotrain.data.tables.table import Column, Table, is_code, lose_digits
from onotrain.errors import DataError

_SAMPLE_ROWS = 200
#: So many digits are exact in float64.
_DIGITS = 15


def read_text(
    path: str,
    kind: str,
    given: TextTable,
    *,
    wanted: Collection[str] | None = None,
    texts: Collection[str] = (),
    block_bytes: int | None = None,
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
    block_bytes
        How much of the file a thread parses at once [bytes]; None for what suits the number of columns.

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
    size = block_bytes or size_of_block(len(dialect.names))
    surprises: set[str] | None = None
    while surprises is None or surprises:  # columns of numbers that turn out to hold text are read again
        text |= surprises or set()
        try:
            columns, surprises = _read_columns(dialect, names, text, size)
        except pa.ArrowInvalid as error:
            raise problem(dialect, str(error)) from error
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
    asked = frozenset(names)
    wanted = [(c, name) for c, name in enumerate(dialect.names) if name in asked]
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


def _read_columns(
    dialect: Dialect, names: Sequence[str], text: set[str], size: int
) -> tuple[tuple[Column, ...], set[str]]:
    """Return all columns, or none of them and those of numbers in which text was found."""
    growing: dict[str, GrowingNumbers | GrowingText] = {}
    threads = len(os.sched_getaffinity(0))
    each = blocks(dialect, size, threads)
    for nbytes, part in _parsed(Parser(dialect, names, text), each, threads):
        if isinstance(part, set):
            return (), part
        if not growing:
            rows = _rows_of_file(dialect, nbytes, len(part))
            arrays = arrays_of_numbers(rows)
            for name in names:
                as_text = name in text or dialect.thousands
                growing[name] = GrowingText(rows) if as_text else GrowingNumbers(next(arrays))
        for name, column in growing.items():
            for chunk in part.column(name).chunks:
                if isinstance(column, GrowingText):
                    column.add(chunk, dialect.is_missing)
                else:
                    column.add(chunk)
    fields = {name: number for number, name in enumerate(dialect.names)}
    return tuple(
        _finished(dialect, name, fields[name], column, name in text) for name, column in growing.items()
    ), set()


def _parsed(parser: Parser, each: Iterator[Block], threads: int) -> Iterator[tuple[int, pa.Table | set[str]]]:
    """Yield the length of every block [bytes] and what the parser makes of it; threads parse the ones to come."""
    ahead: deque[tuple[int, Future[pa.Table | set[str]]]] = deque()
    with ThreadPoolExecutor(threads, "text") as pool:
        for block in each:
            ahead.append((len(block), pool.submit(parser.columns, block)))
            if len(ahead) > threads:
                nbytes, part = ahead.popleft()
                yield nbytes, part.result()
        for nbytes, part in ahead:
            yield nbytes, part.result()


def _rows_of_file(dialect: Dialect, nbytes: int, rows: int) -> int:
    """Return about how many rows a file has whose first `nbytes` hold some; too few of a compressed one."""
    size = os.stat(os.path.expanduser(dialect.path)).st_size
    return rows + int(1.01 * rows * max(size - nbytes, 0) / max(nbytes, 1)) + 16


def _finished(dialect: Dialect, name: str, field: int, column: GrowingNumbers | GrowingText, as_text: bool) -> Column:
    """Return a column that is read to its end; text with thousands marks as numbers."""
    made = replace(column.column(name, field), units=dialect.unit_of(field))
    if made.categories is None:
        return made
    numbers = [np.nan if (number := dialect.number(word)) is None else number for word in made.categories]
    made = replace(made, numbers=np.array(numbers, np.float64))
    return made if as_text else replace(made, values=made.as_numbers()[0], categories=None, numbers=None)

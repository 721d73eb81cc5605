"""The text of CSV and TSV files: lines, records, header, and where in the file a value stands."""

from __future__ import annotations

import contextlib
import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import IO

from onotrain.data.paths import opened
from onotrain.errors import DataError
from onotrain.memory import check_memory

MAX_LINE = 1 << 26
_MEMORY_STEP = 1 << 28
#: What stands for a missing number, in lower case.
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})


@dataclass(frozen=True)
class Layout:
    """How a file is laid out.

    Parameters
    ----------
    path
        Of the file, as the user wrote it.
    delimiter
        Between two fields.
    columns
        Number of fields in a record.
    header
        Names of the columns, or None.
    header_lines
        Lines to skip before the data, including blank ones before the header.
    """

    path: str
    delimiter: str
    columns: int
    header: tuple[str, ...] | None
    header_lines: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns; without a header they are called 1, 2, ..."""
        return self.header or tuple(str(number + 1) for number in range(self.columns))

    def name(self, column: int) -> str:
        """Return what to call a column in a message."""
        return f"column {column + 1}" if self.header is None else f"column {self.header[column]!r}"


class Lines(Iterator[str]):
    """Lines of a file, none of them, nor all of them, larger than the memory; counts quotes on the way."""

    def __init__(self, file: IO[str], path: str) -> None:
        self._file, self._path = file, path
        self._number = self._read = 0
        self._checked = 0
        self.quotes = 0

    def __next__(self) -> str:
        line = self._file.readline(MAX_LINE)
        if not line:
            raise StopIteration
        self._number += 1
        if len(line) >= MAX_LINE:
            raise DataError(f"{self._path}:{self._number}:1: the line is longer than {MAX_LINE >> 20} MiB")
        if "\0" in line:
            raise DataError(f"{self._path}:{self._number}:1: the line holds a zero byte; this is not a text file")
        self.quotes += line.count('"')
        self._read += len(line)
        if self._read - self._checked > _MEMORY_STEP:
            # Every two characters may become a float32, and a growing array is moved.
            check_memory(
                4 * _MEMORY_STEP, self._path, hint="convert the file in parts, or use a machine with more memory"
            )
            self._checked = self._read
        return line


@contextlib.contextmanager
def open_lines(path: str) -> Iterator[Lines]:
    """Open a text file, gzipped or not, with or without a byte order mark.

    Raises
    ------
    DataError
        Missing, not UTF-8, or damaged.
    """
    try:
        with opened(path) as (raw, _), io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text:
            yield Lines(text, path)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}:{_place_of_bad_byte(path)}: not UTF-8 text: byte {error.object[error.start]:#04x}",
            hint="save the file as UTF-8",
        ) from error


def _place_of_bad_byte(path: str) -> str:
    """Return ``line:column`` of the first byte that is not UTF-8; the column counts bytes."""
    with opened(path) as (lines, _):
        for number, line in enumerate(lines, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return f"{number}:{error.start + 1}"
    return "1:1"


def records(layout: Layout, lines: Lines, *, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of its first line, fields) of every record after the header; blank lines are none.

    Raises
    ------
    DataError
        Quotes that are not closed (if `strict`), or a field larger than 128 KiB.
    """
    for _ in islice(lines, layout.header_lines):
        pass
    reader = csv.reader(lines, delimiter=layout.delimiter, strict=strict)
    begin = 1
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            wrong = "a quote is never closed" if "end of data" in str(error) else str(error)
            raise DataError(
                f"{layout.path}:{layout.header_lines + begin}:1: {wrong}", hint="check the quotes of this record"
            ) from error
        if fields is None:
            return
        if fields:
            yield layout.header_lines + begin, fields
        begin = reader.line_num + 1


def is_number(text: str) -> bool:
    """Return whether a field is a number, as the fast parser sees it; NaN and infinity are."""
    text = text.strip()
    if "_" in text or not text.isascii():
        return False
    try:
        float(text)
    except ValueError:
        return False
    return True


def is_missing(text: str) -> bool:
    """Return whether a field stands for a missing value."""
    return text.strip().lower() in MISSING


def is_finite(text: str) -> bool:
    """Return whether a field is a number that float32 can hold."""
    return is_number(text) and abs(float(text)) < 3.4028236e38 and not math.isnan(float(text))


def look_at(path: str, kind: str) -> Layout:
    """Find out delimiter, header and number of columns from the first two records.

    Parameters
    ----------
    path
        Of the file.
    kind
        ``csv``: separated by commas, or by semicolons or tabs where the first line has no comma; ``tsv``: by tabs.

    Raises
    ------
    DataError
        No data.
    """
    with open_lines(path) as lines:
        first_line = next((line for line in lines if line.strip()), "")
    delimiter = "\t"
    if kind == "csv":
        delimiter = next((mark for mark in ",;\t" if mark in first_line), ",")
    with open_lines(path) as lines:
        found = list(islice(records(Layout(path, delimiter, 0, None, 0), lines), 2))
    if not found:
        raise DataError(f"{path}: no data, only blank lines")
    begin, first = found[0]
    if not _is_header(first):
        return Layout(path, delimiter, len(first), None, 0)
    if len(found) == 1:
        raise DataError(f"{path}: no samples, only the header line ({', '.join(first)[:60]})")
    names = [name.strip() or f"column_{number}" for number, name in enumerate(first, start=1)]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise DataError(f"{path}:{begin}:{number + 1}: two columns are named {name!r}", hint="rename one of them")
    with open_lines(path) as lines:
        reader = csv.reader(lines, delimiter=delimiter)
        while not next(reader):
            pass
        return Layout(path, delimiter, len(names), tuple(names), reader.line_num)


def _is_header(fields: list[str]) -> bool:
    """Return whether the first record names the columns.

    It does if no field is a number, or if the only numbers are 0, 1, 2, ... or 1, 2, 3, ... as programs number columns
    and at least one name is not a number.
    """
    numbers = [field.strip() for field in fields if is_number(field)]
    if not numbers:
        return True
    if len(numbers) == len(fields) or len(numbers) < 3:
        return False
    return any(numbers == [str(start + step) for step in range(len(numbers))] for start in (0, 1))


@dataclass(frozen=True)
class TextPositions:
    """Finds the lines of data rows by reading the file again (`onotrain.data.dataset.Positions`).

    Parameters
    ----------
    layout
        Of the file.
    features
        Column in the file of each feature.
    target
        Column in the file of the (first) target, or None.
    """

    layout: Layout
    features: tuple[int, ...]
    target: int | None

    def place(self, row: int, column: int | None) -> str:
        """Return ``line:column``, both counted from 1."""
        field = self.target if column is None else self.features[column]
        with open_lines(self.layout.path) as lines:
            line, _ = next(islice(records(self.layout, lines), row, None), (0, []))
        return f"{line}:{1 if field is None else field + 1}"

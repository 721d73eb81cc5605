"""Text tables record by record, slowly: to say where in the file something stands."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from onotrain.data.paths import opened
from onotrain.data.tables.dialect import Dialect, is_blank, not_text
from onotrain.errors import DataError


@dataclass(frozen=True)
class TextPlaces:
    """Finds the lines of rows by reading the file again (`onotrain.data.tables.table.Places`)."""

    dialect: Dialect

    def place(self, row: int, column: int) -> str:
        """Return ``file:line:column``, counted from 1."""
        line, _ = next(islice(records(self.dialect), row, None), (0, []))
        return f"{self.dialect.path}:{line}:{column + 1}"


class Lines:
    """The lines of a text table after its preamble, with the number of the last one read."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect, self.number = dialect, 0

    def __enter__(self) -> Lines:
        self._context = opened(self._dialect.path)
        raw, _ = self._context.__enter__()
        encoding = "utf-8-sig" if self._dialect.encoding == "utf-8" else self._dialect.encoding
        self._text = io.TextIOWrapper(raw, encoding, newline="")
        for _ in range(self._dialect.preamble):
            self._text.readline()
            self.number += 1
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._text.detach()
        self._context.__exit__(None, None, None)
        if isinstance(error, UnicodeDecodeError):
            with opened(self._dialect.path) as (raw, _):
                for number, line in enumerate(raw):
                    try:
                        line.decode(self._dialect.encoding)
                    except UnicodeDecodeError as bad:
                        found = not_text(self._dialect.path, self._dialect.encoding, b"\n" * number + line,
                                         number + bad.start)  # fmt: skip
                        raise found from error

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        while True:
            line = self._text.readline()
            if not line:
                raise StopIteration
            self.number += 1
            if not self._dialect.is_comment(line):
                return line


def records_of(dialect: Dialect, lines: Lines, *, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of its first line, fields) of every record after the header."""
    begin = lines.number + 1
    reader = dialect.fields(lines, strict=strict)
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            wrong = "a quote is never closed" if "end of data" in str(error) else str(error)
            raise DataError(f"{dialect.path}:{begin}:1: {wrong}", hint="check the quotes of this record") from error
        if fields is None:
            return
        if not is_blank(fields):
            yield begin, fields
        begin = lines.number + 1


def records(dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of its first line, fields) of every record of a text table."""
    with Lines(dialect) as lines:
        yield from records_of(dialect, lines)


def problem(dialect: Dialect, reason: str) -> DataError:
    """Read the file record by record, and return the error for the first one that is wrong."""
    width = len(dialect.names)
    try:
        with Lines(dialect) as lines:
            for line, fields in records_of(dialect, lines, strict=True):
                if len(fields) != width:
                    expected = f"{width} as in the {'header' if dialect.header else 'first line'}"
                    return DataError(
                        f"{dialect.path}:{line}:{min(len(fields), width) + (len(fields) > width)}: "
                        f"{len(fields)} field{'s' * (len(fields) != 1)}, expected {expected}",
                        hint=f"fields are separated by {dialect.delimiter!r}; text that holds it needs double quotes",
                    )
    except DataError as error:
        return error
    return DataError(f"{dialect.path}: {reason}")

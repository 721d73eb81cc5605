"""How a text table is written: delimiter, decimal mark, comments, header."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from onotrain.config.columns import TextTable
from onotrain.config.number_format import NumberFormat
from onotrain.errors import DataError

#: What stands for a missing value unless ``data.csv.missing`` says so, in lower case.
MISSING = frozenset(
    ("", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "nat", "null", "none", "?", "-", "--", ".", "#value!", "#null!")
)
_USUAL = "default"


@dataclass(frozen=True)
class Dialect:
    """How a text table is written.

    Parameters
    ----------
    path
        Of the file.
    delimiter
        Between two fields; a space stands for any run of blanks.
    names
        Of the columns: those of the header, else ``1``, ``2``, ...
    header
        Whether the file has a header.
    preamble
        Lines before the data, the header's included.
    units
        Of the columns, where a row beneath the header says them.
    settings
        Section ``data.csv`` that says all of this.
    guesses
        What was not given, in words.
    """

    path: str
    delimiter: str
    quote: str
    decimal: str
    thousands: str | None
    comment: str | None
    encoding: str
    missing: frozenset[str]
    names: tuple[str, ...] = ()
    header: bool = False
    preamble: int = 0
    guesses: tuple[str, ...] = ()
    units: tuple[str, ...] | None = None
    settings: TextTable | None = None

    def unit_of(self, number: int) -> str | None:
        """Return the unit of a column, by its number; None if the file says none."""
        return self.units[number] or None if self.units is not None and number < len(self.units) else None

    @property
    def blanks(self) -> bool:
        """Whether fields are separated by runs of blanks."""
        return self.delimiter == " "

    def number(self, text: str) -> float | None:
        """Return the number that a field stands for; None if it is none."""
        text = text.strip()
        if self.thousands and self.thousands in text:
            return self._grouped.number(text)  # 1.234.567 is a number, and 01.02.2021 none
        if self.decimal != ".":
            if "." in text:
                return None
            text = text.replace(self.decimal, ".")
        if "_" in text or not text.isascii():
            return None
        try:
            return float(text)
        except ValueError:
            return None

    @cached_property
    def _grouped(self) -> NumberFormat:
        return NumberFormat(decimal=self.decimal, thousands=self.thousands or "")

    def is_missing(self, text: str) -> bool:
        """Return whether a field stands for a missing value."""
        return text.strip().lower() in self.missing

    def is_comment(self, line: str) -> bool:
        """Return whether a line is a comment."""
        return self.comment is not None and line.startswith(self.comment) and not line.startswith("#N/A")

    def fields(self, lines: Iterable[str], *, strict: bool = False) -> Iterator[list[str]]:
        """Yield the records of some lines."""
        if self.blanks:
            return (line.split() for line in lines)
        return csv.reader(
            lines, delimiter=self.delimiter, quotechar=self.quote or None, skipinitialspace=True, strict=strict,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
        )  # fmt: skip


def is_blank(fields: Sequence[str]) -> bool:
    """Return whether a record holds nothing: a blank line, or nothing but delimiters."""
    return not any(field.strip() for field in fields)


def missing_words(given: Sequence[str] | None) -> frozenset[str]:
    """Return what stands for a missing value, in lower case; ``default`` for what does if nothing is given."""
    words = frozenset({"", *(text.strip().lower() for text in given or ())})
    return MISSING if given is None else (words - {_USUAL}) | MISSING if _USUAL in words else words


def not_text(path: str, encoding: str, raw: bytes, start: int) -> DataError:
    """Return the error for a byte that the encoding does not have."""
    line, column = raw.count(b"\n", 0, start) + 1, start - raw.rfind(b"\n", 0, start)
    return DataError(
        f"{path}:{line}:{column}: not {encoding.upper().removesuffix('-SIG')} text: byte {raw[start]:#04x}",
        hint="save the file as UTF-8, or say what it is with data.csv.encoding (of a command: --csv encoding=latin-1)",
    )

"""How a text table is written, guessed from its beginning unless it is given."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from onotrain.config.columns import TextTable
from onotrain.data.paths import opened
from onotrain.data.tables.dialect import Dialect, is_blank, missing_words, not_text
from onotrain.data.tables.header import is_header, unique_names
from onotrain.data.tables.number_formats import guess_format
from onotrain.data.tables.rows_above import titles, units_of
from onotrain.errors import DataError
from onotrain.text import cut, quoted

_SAMPLE_BYTES, _MOST_SAMPLE_BYTES = 1 << 18, 1 << 22
#: Four times those of a spreadsheet, as of tables of genes; each takes 2 ms, whatever the number of rows.
_MOST_COLUMNS = 1 << 16
_SAMPLE_LINES = 20
_SAMPLE_RECORDS = 200
_DELIMITERS = ",;\t|"
#: Character set of text that is not UTF-8.
WESTERN = "cp1252"
_BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_COMMA_NUMBER = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
_POINT_NUMBER = re.compile(r"[+-]?\d*\.\d*([eE][+-]?\d+)?")
_POINT_THOUSANDS = re.compile(r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?")


def look_at(path: str, kind: str, given: TextTable) -> Dialect:
    """Find out how a text table is written.

    Parameters
    ----------
    path
        Of the file, gzipped or not.
    kind
        ``tsv``: separated by tabs; ``csv``: by what fits best.
    given
        What is not to be guessed (section ``data.csv``).

    Raises
    ------
    DataError
        No data, or not text.
    """
    encoding, lines = _beginning(path, given.encoding)
    guesses = [f"it is no UTF-8 and is read as Western text ({WESTERN})"] if encoding == WESTERN else []
    start = min(given.skip or 0, len(lines))
    while start < len(lines) and not lines[start].strip():
        start += 1
    delimiter = given.delimiter or ("\t" if kind == "tsv" else None)
    said = re.fullmatch(r'"?sep=(.)"?', lines[start].strip("\r\n")) if start < len(lines) else None
    if said:
        delimiter, start = delimiter or said[1], start + 1
    comment = given.comment
    if comment is None and any(line.startswith("#") and not line.startswith("#N/A") for line in lines[start:][:1]):
        comment = "#"
        guesses.append("comments begin with '#'")
    dialect = Dialect(
        path, delimiter or ",", given.quote, given.decimal or ".", given.thousands or None, comment or None, encoding,
        missing_words(given.missing),
    )  # fmt: skip
    remarks = []
    while start < len(lines) and (dialect.is_comment(lines[start]) or not lines[start].strip()):
        if lines[start].strip():
            remarks.append(lines[start])
        start += 1
    body = [line for line in lines[start:] if not dialect.is_comment(line) and line.strip()]
    if not body:
        raise DataError(f"{path}: no data, only blank lines{' and comments' if remarks else ''}")
    if delimiter is None:
        dialect = replace(dialect, delimiter=_delimiter(dialect, body))
        if dialect.delimiter != ",":
            guesses.append(f"fields are separated by {_SPOKEN.get(dialect.delimiter, repr(dialect.delimiter))}")
    if comment is None and any(line.startswith("#") for line in body):
        dialect, body = _with_comments(dialect, body, guesses)
    if given.decimal is None and dialect.delimiter != "," and _decimal_comma(dialect, body):
        dialect = replace(dialect, decimal=",")
        guesses.append("numbers have a decimal comma")
        if given.thousands is None and _thousands_points(dialect, body):
            dialect = replace(dialect, thousands=".")
            guesses.append("points stand between thousands")
    titled = False
    if given.skip is None and given.header is not False:
        kept = _without_titles(dialect, body, guesses)
        titled, body = len(kept) < len(body), kept
    return _with_header(dialect, body, remarks, lines, start, given, guesses, titled=titled)


def first_record(dialect: Dialect) -> list[str]:
    """Return the fields of the first record of a text table without a header.

    Raises
    ------
    DataError
        There is none, or not text.
    """
    _, lines = _beginning(dialect.path, dialect.encoding)
    body = [line for line in lines[dialect.preamble :] if not dialect.is_comment(line) and line.strip()]
    return next((record for record in _records(dialect, body) if not is_blank(record)), [])


_SPOKEN = {"\t": "tabs", " ": "blanks", ";": "semicolons", "|": "bars"}


def _beginning(path: str, given: str | None) -> tuple[str, list[str]]:
    """Return the encoding of a file and its first lines."""
    with opened(path) as (stream, _):
        raw = stream.read(_SAMPLE_BYTES)
        while max(raw.count(b"\n"), raw.count(b"\r")) < _SAMPLE_LINES and len(raw) < _MOST_SAMPLE_BYTES:
            more = stream.read(_SAMPLE_BYTES)  # a line may be as long as that in tables of many columns
            if not more:
                break
            raw += more
        whole = not stream.read(1)
    encoding = given or "utf-8"
    if encoding.lower() in ("utf-8", "utf8"):
        encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if raw.startswith(mark)), encoding)
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(raw, final=whole)
    except LookupError:
        raise DataError(f"{path}: unknown encoding {encoding!r} (data.csv.encoding)") from None
    except UnicodeDecodeError as error:
        text = _western(raw) if given is None and encoding == "utf-8" else ""
        if not text:
            raise not_text(path, encoding, raw, error.start) from error
        encoding = WESTERN
    lines = list(io.StringIO(text, newline=""))
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise DataError(f"{path}:{number}:1: the line holds a zero byte; this is not a text file")
    if not whole and len(lines) > 1:
        del lines[-1]  # it may be cut
    return encoding, lines


def _western(raw: bytes) -> str:
    """Return bytes as Western text, as older programs write it; empty if some stand for nothing there."""
    try:
        text = raw.decode(WESTERN)
    except UnicodeDecodeError:
        return ""
    return text if all(c.isprintable() or c in "\t\r\n\xa0" for c in text) else ""


def _records(dialect: Dialect, body: Sequence[str]) -> list[list[str]]:
    try:
        return list(islice((fields for fields in dialect.fields(body) if not is_blank(fields)), _SAMPLE_RECORDS))
    except csv.Error:
        return []


def _delimiter(dialect: Dialect, body: Sequence[str]) -> str:
    """Return the delimiter that cuts all records alike, and leaves fields that none of the others would cut."""
    best, best_score = ",", (0.0, 0.0, 0)
    for mark in (*_DELIMITERS, " "):
        found = _records(replace(dialect, delimiter=mark), body)
        counts = Counter(len(fields) for fields in found)
        if not counts:
            continue
        width, alike = counts.most_common(1)[0]
        if width < 2 or (mark == " " and alike < len(found)):
            continue
        cells = [field for fields in found for field in fields]
        clean = sum(map(_is_clean, cells)) / len(cells)
        if mark == " ":  # names hold blanks, too: numbers alone are written in columns
            clean *= sum(dialect.number(cell) is not None for cell in cells) / len(cells)
        score = (round(alike / len(found), 2), round(clean, 2), -(*_DELIMITERS, " ").index(mark))
        if score > best_score:
            best, best_score = mark, score
    return best


def _is_clean(cell: str) -> bool:
    """Return whether a field holds none of the delimiters, but for marks in a number."""
    if not any(mark in cell for mark in _DELIMITERS):
        return True
    return bool(_COMMA_NUMBER.fullmatch(cell.strip())) or guess_format([cell.strip()]) is not None


def _without_titles(dialect: Dialect, body: Sequence[str], guesses: list[str]) -> list[str]:
    """Leave out what stands above the header."""
    try:
        count = titles(_records(dialect, body), dialect.number)
    except ValueError:  # no records
        count = 0
    if not count:
        return list(body)
    kept = list(body[_lines_of(dialect, body, count) :])
    guesses.append(
        f"{count} {'line' if count == 1 else 'lines'} above the header {'is' if count == 1 else 'are'} left out, such "
        f"as {quoted(cut(body[0].strip(), 40))} (skip: 0 if not)"
    )
    return kept


def _with_comments(dialect: Dialect, body: list[str], guesses: list[str]) -> tuple[Dialect, list[str]]:
    """Take lines with ``#`` for comments if they are no records: they have another number of fields."""
    width = Counter(len(fields) for fields in _records(dialect, body)).most_common(1)[0][0]
    remarks = [line for line in body if line.startswith("#")]
    if any(len(fields) == width for fields in _records(dialect, remarks)):
        return dialect, body
    guesses.append("comments begin with '#'")
    return replace(dialect, comment="#"), [line for line in body if not line.startswith("#")]


def _decimal_comma(dialect: Dialect, body: Sequence[str]) -> bool:
    cells = [field.strip() for fields in _records(dialect, body)[1:] for field in fields]
    return any(_COMMA_NUMBER.fullmatch(cell) for cell in cells) and not any(
        _POINT_NUMBER.fullmatch(cell) and cell != "." and not _POINT_THOUSANDS.fullmatch(cell) for cell in cells
    )


def _thousands_points(dialect: Dialect, body: Sequence[str]) -> bool:
    """Return whether points stand between thousands, the decimal mark being a comma."""
    return any(_POINT_THOUSANDS.fullmatch(field.strip()) for fields in _records(dialect, body)[1:] for field in fields)


def _with_header(
    dialect: Dialect, body: Sequence[str], remarks: Sequence[str], lines: Sequence[str], before: int, given: TextTable,
    guesses: list[str], *, titled: bool,
) -> Dialect:  # fmt: skip
    """Add the names of the columns; `lines` are those of the file, of which `before` stand before `body`."""
    try:
        found = list(islice((each for each in dialect.fields(body) if not is_blank(each)), _SAMPLE_RECORDS))
    except csv.Error as error:
        raise DataError(f"{dialect.path}: {error}", hint="check the quotes and the delimiter") from error
    if not found:
        raise DataError(f"{dialect.path}: no data, only blank lines")
    if len(found[0]) > _MOST_COLUMNS:
        raise DataError(
            f"{dialect.path}: {len(found[0]):,} columns, expected at most {_MOST_COLUMNS:,}",
            hint="write such a matrix as NPY, NPZ or HDF5",
        )
    first, header, units, skipped = found[0], given.header, None, 0
    widths = Counter(len(fields) for fields in found[1:])
    width = max(widths, key=lambda number: (widths[number], number == len(first)), default=len(first))
    if header is None:
        header = len(first) == width - 1 or is_header(first, found[1:], dialect.number, dialect.is_missing)
        if header and any(dialect.number(name) is not None for name in first):
            guesses.append("the first line is a header, though it holds numbers (header: false if it is a sample)")
    names: Sequence[str]
    if header:
        if len(found) == 1:
            raise DataError(f"{dialect.path}: no samples, only the header line ({', '.join(first)[:60]})")
        open_end = all(not fields[-1].strip() for fields in found[1:] if len(fields) == width)
        names = first if len(first) != width - 1 else [*first, ""] if open_end else ["", *first]
        if given.units_row is not False and len(found) > 1:
            units = units_of(found[1], found[2:], dialect.number, dialect.is_missing, given=given.units_row is True)
            if units is not None and given.units_row is None:
                guesses.append("the line beneath the header holds units (units_row: false if it is a sample)")
        if titled:
            skipped = _end_of(dialect, lines, before, body, 0)
        if units is not None and len(found) == 2:
            raise DataError(f"{dialect.path}: no samples, only a header and a line of units")
        before = _end_of(dialect, lines, before, body, 1 if units is None else 2)
    else:
        names = _commented_header(dialect, remarks, width) or [str(number + 1) for number in range(width)]
        if given.header is None and names[0] == "1":
            guesses.append("there is no header; columns are called 1, 2, ...")
    if units is not None and len(names) > len(units):  # row names without a header
        units = ("", *units)
    settings = given.model_copy(update={
        "delimiter": dialect.delimiter, "decimal": dialect.decimal, "thousands": dialect.thousands or "",
        "comment": dialect.comment or "", "header": bool(header), "skip": given.skip or skipped,
        "units_row": units is not None, "encoding": dialect.encoding,
    })  # fmt: skip
    return replace(
        dialect, names=unique_names(names), header=bool(header), preamble=before, guesses=tuple(guesses), units=units,
        settings=settings,
    )  # fmt: skip


def _lines_of(dialect: Dialect, body: Sequence[str], count: int) -> int:
    """Return how many lines the first `count` records take: a quoted name may hold a line break."""
    if dialect.blanks:
        return count
    reader = dialect.fields(body)
    while count:
        count -= not is_blank(next(reader))
    return int(reader.line_num)  # type: ignore[attr-defined]


def _end_of(dialect: Dialect, lines: Sequence[str], before: int, body: Sequence[str], count: int) -> int:
    """Return the number of the line behind the first `count` records of `body`, the end of `lines`."""
    kept = [k for k in range(before, len(lines)) if lines[k].strip() and not dialect.is_comment(lines[k])]
    first = len(kept) - len(body)
    return kept[first + _lines_of(dialect, body, count) - 1] + 1 if count else kept[first]


def _commented_header(dialect: Dialect, remarks: Sequence[str], width: int) -> list[str] | None:
    """Return the names in the last comment before the data, as `numpy.savetxt` writes them."""
    for line in remarks[-1:]:
        for fields in _records(dialect, [line.lstrip("#% ")]):
            if len(fields) == width and all(dialect.number(field) is None for field in fields):
                return fields
    return None

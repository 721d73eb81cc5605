"""Tables of random dialects, headers and kinds, written and read back as what was meant."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from onotrain.data.tables.kinds import guess_kind
from onotrain.data.tables.table import Table
from tables import columns, read, write

MISSING = ["", "NA", "nan", "N/A", "null", "?"]
CHARACTERS = "abcdefghijklmnopqrstuvwxyzäöüéßß"


@dataclass
class Meant:
    """What a column was meant to be."""

    kind: str
    #: Numbers or text; None where missing.
    values: list[Any]


@dataclass
class Written:
    """How a table is written."""

    delimiter: str
    decimal: str = "."
    quoting: int = csv.QUOTE_MINIMAL
    line_end: str = "\n"
    encoding: str = "utf-8"
    header: str = "text"
    comments: bool = False
    blank_rows: bool = False
    sep_line: bool = False
    open_end: bool = False
    given: dict[str, Any] = field(default_factory=dict)


@st.composite
def numbers(draw: st.DrawFn, rows: int, whole: bool = False) -> Meant:
    """Numbers, at least one of them no whole one, so that it shows what marks the decimals."""
    number = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**6), 10**6).map(float)
    values: list[Any] = draw(st.lists(number | st.floats(-1e3, 1e3).map(lambda v: round(v, 3)), min_size=rows,
                                      max_size=rows))  # fmt: skip
    values[0] = draw(st.integers(-999, 999)) + 0.125 * draw(st.sampled_from([1, 3, 5]))
    values[1] = values[0] + 1.5  # a column of the same values is none to learn from
    lost = [] if whole else draw(st.lists(st.integers(2, rows - 1), max_size=2, unique=True))
    return Meant("numeric", [None if row in lost else value for row, value in enumerate(values)])


@st.composite
def categories(draw: st.DrawFn, rows: int) -> Meant:
    word = st.text(CHARACTERS, min_size=2, max_size=6).map(lambda text: f"k{text}")
    inside = st.sampled_from(["", " b", ", c", "; d", ' "e"'])
    names = [f"{name}{draw(inside)}" for name in draw(st.lists(word, min_size=2, max_size=4, unique=True))]
    values: list[Any] = [names[row % len(names)] for row in range(rows)]
    lost = draw(st.lists(st.integers(len(names), rows - 1), max_size=2, unique=True))
    return Meant("categorical", [None if row in lost else value for row, value in enumerate(values)])


@st.composite
def yes_and_no(draw: st.DrawFn, rows: int) -> Meant:
    no, yes = draw(st.sampled_from([("no", "yes"), ("False", "True"), ("N", "Y"), ("off", "on")]))
    values = draw(st.lists(st.sampled_from([no, yes]), min_size=rows - 2, max_size=rows - 2))
    return Meant("boolean", [no, yes, *values])


@st.composite
def dates(draw: st.DrawFn, rows: int) -> Meant:
    form = draw(st.sampled_from(["%Y-%m-%d", "%d.%m.%Y", "%Y-%m-%dT%H:%M:%S", "%Y/%m/%d %H:%M"]))
    moments = draw(st.lists(st.datetimes(min_value=datetime(1950, 1, 1)), min_size=rows,
                            max_size=rows))  # fmt: skip
    return Meant("date", [moment.strftime(form) for moment in moments])


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, Meant], Written]:
    """Draw a table and how it is written, such that it can be understood."""
    rows = draw(st.integers(8, 30))
    made = [draw(numbers(rows, whole=True)), draw(numbers(rows))]  # a record without any value is none
    made += draw(st.lists(st.one_of(numbers(rows), categories(rows), yes_and_no(rows), dates(rows)), max_size=3))
    made = draw(st.permutations(made))
    assume(all(len(set(column.values)) > 1 for column in made))  # else there is nothing to learn from
    assume(all(any(column.values[row] is not None for column in made) for row in range(rows)))  # or no record
    delimiter = draw(st.sampled_from([",", ";", "\t", "|"]))
    header = draw(st.sampled_from(["text", "text", "numbers", "none"]))
    how = Written(
        delimiter,
        decimal=draw(st.sampled_from([".", ","])) if delimiter != "," else ".",
        quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])),
        line_end=draw(st.sampled_from(["\n", "\r\n"])),
        encoding=draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"])),
        header=header,
        comments=draw(st.booleans()),
        blank_rows=draw(st.booleans()),
        sep_line=draw(st.booleans()),
        open_end=draw(st.booleans()) and header != "none",
    )
    if header == "text":
        names = [f"{draw(st.sampled_from(['a', 'größe', 'Col name', 'p,q']))} {number}" for number in range(len(made))]
    elif header == "numbers":  # wavelengths
        names = [str(400 + 2 * number) for number in range(len(made))]
        how.given = {"header": True} if len(made) < 3 else {}
    else:
        names = [str(number + 1) for number in range(len(made))]
        how.given = {"header": False}
    if how.encoding == "latin-1":
        how.given |= {"encoding": "latin-1"}
    return dict(zip(names, made, strict=True)), how


def text_of(value: Any, how: Written, missing: str) -> Any:
    if value is None:
        return missing
    return repr(value).replace(".", how.decimal) if isinstance(value, float) else value


def as_file(meant: dict[str, Meant], how: Written, missing: str) -> bytes:
    """Write a table as the csv module does, and what others add to that."""
    lines = ["sep=" + how.delimiter] if how.sep_line else []
    lines += ["# made by hand, in 2024", "# second"] if how.comments and not how.sep_line else []
    rows = [[text_of(column.values[row], how, missing) for column in meant.values()]
            for row in range(len(next(iter(meant.values())).values))]  # fmt: skip
    for number, fields in enumerate([*([] if how.header == "none" else [list(meant)]), *rows]):
        out = io.StringIO(newline="")
        csv.writer(out, delimiter=how.delimiter, quoting=how.quoting, lineterminator="").writerow(  # type: ignore[arg-type]
            [*fields, ""] if how.open_end and how.quoting == csv.QUOTE_MINIMAL else fields
        )
        lines.append(out.getvalue())
        if how.comments and number == 4:
            lines.append("# a remark")
        if how.blank_rows and number in (3, 5):
            lines.append("" if number == 3 else how.delimiter * (len(meant) - 1))
    return (how.line_end.join(lines) + how.line_end).encode(how.encoding)


def check(table: Table, meant: dict[str, Meant]) -> None:
    assert table.names == tuple(meant)
    found = columns(table)
    for name, column in meant.items():
        assert found[name] == column.values, name
        if column.kind == "numeric":
            pairs = zip(found[name], column.values, strict=True)
            assert all(a is None or math.copysign(1, a) == math.copysign(1, b) for a, b in pairs)
        assert guess_kind(table[name]).kind == column.kind, (name, guess_kind(table[name]))


@pytest.mark.timeout(300)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(drawn=tables(), missing=st.sampled_from(MISSING))
def test_what_is_written_is_read(tmp_path: Path, drawn: tuple[dict[str, Meant], Written], missing: str) -> None:
    """Values to the last bit, names, and kinds."""
    meant, how = drawn
    path = write(tmp_path, as_file(meant, how, missing))
    check(read(path, **how.given), meant)

"""Text that stands for numbers, with signs of currencies, units and marks between thousands: which, and its values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from onotrain.config.number_format import PLAIN, NumberFormat
from onotrain.data.tables.dates import parse_dates
from onotrain.data.tables.table import Column, Table, is_code
from onotrain.text import cut, quoted

#: Texts that a guess is made from, and the share of them that may be something else by mistake.
_SAMPLE, _MISTAKES = 200, 0.05
_CURRENCIES = (
    "AUD|BRL|CAD|CHF|CNY|CZK|DKK|EUR|Fr|GBP|HKD|HUF|ILS|INR|JPY|KRW|MXN|NOK|NZD|PLN|RUB|Rs|SEK|SGD|TRY|USD|ZAR|kr"
)
_SIGN = "[\\$\u00a2-\u00a5\u20a0-\u20cf\u0e3f\u060b]"
_NUMBER = r"(?:\d[\d., ']*\d|\d|[.,]\d+)[.,]?(?:[eEdD][+-]?\d+)?"
#: A currency may stand in front; behind a number may stand a currency or a unit, which may end with an exponent.
_WRITTEN = re.compile(
    rf"\(?[+-]?\s*(?P<prefix>(?:[A-Z]{{0,3}}{_SIGN}|(?:{_CURRENCIES})\b\.?)?)\s*[+-]?\s*(?P<body>{_NUMBER})-?\s*"
    rf"(?P<suffix>(?:(?:[^\W\d_]|[%‰°'\"′″]|{_SIGN})[^\d,;]{{0,15}}(?:\^?-?[23])?)?)\)?"
)
_MARKS = ((".", ""), (".", ","), (".", " "), (".", "'"), (",", ""), (",", "."), (",", " "), (",", "'"))


def guess_format(texts: Sequence[str], decimal: str = ".") -> NumberFormat | None:
    """Return how numbers are written of which these are the texts; None if they are none.

    Parameters
    ----------
    texts
        Without missing values, all different.
    decimal
        Mark that is tried first.
    """
    sample = texts[:: max(len(texts) // _SAMPLE, 1)]
    found = [_WRITTEN.fullmatch(text.translate(PLAIN).strip()) for text in sample]
    around = Counter((each["prefix"], each["suffix"].rstrip(" )")) for each in found if each is not None)
    if not around:
        return None
    (prefix, suffix), count = around.most_common(1)[0]
    if count < (1 - _MISTAKES) * len(sample) - 1 or (not prefix and not suffix and any(map(is_code, sample))):
        return None
    best, most = None, 0
    for mark, thousands in sorted(_MARKS, key=lambda each: each[0] != decimal):
        form = NumberFormat(prefix, suffix, mark, thousands)
        right = sum(form.number(text) is not None for text in texts)
        if right > most:
            best, most = form, right
    return best if most >= max((1 - _MISTAKES) * len(texts), 1) or most == len(texts) - 1 > 2 else None


def with_format(column: Column, form: NumberFormat, *, bare: bool = True) -> Column:
    """Return a column of text as the numbers that it stands for; as text where some entries stand for none.

    If `bare`, numbers may stand alone, without the sign or unit of the format.
    """
    assert column.categories is not None
    known = [np.nan if (number := form.number(text, bare=bare)) is None else number for text in column.categories]
    numbers, unit = np.array([*known, np.nan], np.float64), column.units or form.unit
    if np.isnan(numbers[:-1]).any():
        return replace(column, numbers=numbers[:-1], units=unit, written=form.example)
    return replace(
        column, values=numbers[column.values], categories=None, numbers=None, units=unit, written=form.example
    )


def with_formats(table: Table, texts: Collection[str] = (), formats: Mapping[str, str] | None = None) -> Table:
    """Return a table with numbers in place of text that stands for numbers, and a note on each such guess.

    Parameters
    ----------
    table
        As it was read.
    texts
        Columns that stay text.
    formats
        How numbers are written, by column, where it is known.
    """
    columns, notes, given = [], [], formats or {}
    decimal = (table.csv.decimal if table.csv else None) or "."
    for column in table:
        if not column.is_text or (column.name in texts and column.name not in given):
            columns.append(column)
            continue
        form = NumberFormat.of_example(given[column.name]) if column.name in given else _guessed(column, decimal)
        columns.append(column if form is None else with_format(column, form, bare=column.name in given))
        if form is not None and column.name not in given:
            categories = column.categories or ()
            first = categories[int(column.values[np.argmax(column.as_numbers()[1])])]
            notes.append(
                f"column {column.name!r} is read as numbers: {quoted(cut(first, 24))} as {form.number(first)} "
                f'(format: "{form.example}")'
            )
    return replace(table, columns=tuple(columns), notes=(*table.notes, *notes))


def _guessed(column: Column, decimal: str) -> NumberFormat | None:
    """Return how the numbers of a column of text are written; None where nothing has to be known to read them."""
    names = column.categories or ()
    bad = column.as_numbers()[1]
    form = guess_format(names, decimal) if bad.any() else None
    if form is None or parse_dates(names) is not None:
        return None
    better = (
        np.count_nonzero(np.isnan(with_format(column, form, bare=False).as_numbers()[0]) & ~column.missing) < bad.sum()
    )
    return form if better else None

"""Dates and times written as text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

import numpy as np

#: Tried in this order on all values of a column: ISO 8601 first, then with the month, the day and the year in front.
_FORMATS = tuple(
    f"{date}{time}"
    for date in ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%b %d %Y", "%d %b %Y",
                 "%B %d %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%Y.%m.%d", "%m/%d/%y", "%d/%m/%y", "%d.%m.%y",
                 "%d-%m-%y", "%d-%b-%Y", "%d-%b-%y", "%a %b %d %Y", "%a %d %b %Y", "%a, %d %b %Y", "%A, %B %d, %Y",
                 "%A, %d %B %Y")
    for time in ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", "T%H:%M", "T%H:%M:%S", "T%H:%M:%S.%f", "T%H:%M:%SZ",
                 "T%H:%M:%S.%fZ", " %I:%M %p", " %I:%M:%S %p")
)  # fmt: skip
_OTHERS = (
    "%Y-%m", "%b %Y", "%B %Y", "%Y/%m", "%b-%Y", "%b-%y", "%a %b %d %H:%M:%S %Y", "%Y-%m-%d %H:%M:%S %z",
    "%a, %d %b %Y %H:%M:%S %z", "%d/%b/%Y:%H:%M:%S %z",
)  # fmt: skip
#: Of the day alone.
_TIMES = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p")
#: Digits alone, which are numbers unless all of them are such dates.
COMPACT = "%Y%m%d"
#: Day that a time without a date gets.
_NO_DAY = np.datetime64("1900-01-01", "us")
#: Each known way to write a date has one of them.
_BETWEEN = frozenset("-/.,: W")
_TIME = re.compile(r"\d{1,2}(:\d\d){1,2}(\.\d+)?( ?[ap]m)?", re.IGNORECASE)


def parse_dates(texts: Sequence[str], written: str | None = None) -> np.ndarray | None:
    """Return text as datetime64[us]; None if it is not all written in one of the known ways.

    Parameters
    ----------
    texts
        Without missing values.
    written
        Format as of `datetime.strptime`; None: one of those that are known.
    """
    if not texts:
        return None
    if written is not None:
        return _all(texts, written)
    if not _may_be_date(texts[0]):
        return None
    known = _in_one_form(texts)
    return _iso(texts) if known is None else known[1]


def order_of_parts(texts: Sequence[str]) -> str | None:
    """Return the format of dates that begin with day or month, which other values may not tell; None of all others."""
    form = form_of(texts)
    return form if form is not None and form.startswith(("%d", "%m")) else None


def form_of(texts: Sequence[str]) -> str | None:
    """Return the first of the known formats that all texts have; None: they have none in common."""
    known = _in_one_form(texts) if texts and _may_be_date(texts[0]) else None
    return None if known is None else known[0]


def _in_one_form(texts: Sequence[str]) -> tuple[str, np.ndarray] | None:
    """Return the format that all texts have, and what they stand for."""
    known = _TIMES if _TIME.fullmatch(texts[0]) else (*_FORMATS, *_OTHERS)
    forms = (form for form in known if _one(texts[0], form) is not None)
    return next(((form, found) for form in forms if (found := _all(texts, form)) is not None), None)


def other_order(texts: Sequence[str]) -> tuple[str, str] | None:
    """Return the format of dates, and the one with day and month the other way round, where both fit all texts."""
    form = order_of_parts(texts)
    if form is None or "%b" in form or "%B" in form:
        return None
    other = form.translate({ord("d"): "m", ord("m"): "d"})
    return None if _all(texts, other) is None else (form, other)


def are_compact(values: np.ndarray) -> bool:
    """Return whether numbers are dates of eight digits, such as 20210104: three different ones, from 1900 to 2100."""
    if len(values) < 3 or values.min() < 19000101 or values.max() > 21001231 or (values != np.floor(values)).any():
        return False
    different = np.unique(values)
    return len(different) > 2 and _all([str(int(value)) for value in different], COMPACT) is not None


def are_times(dates: np.ndarray) -> bool:
    """Return whether dates (datetime64 ``(n,)``) are times of day alone; missing ones do not count."""
    known = dates[~np.isnat(dates)]
    return bool(len(known) and (known.astype("M8[D]") == _NO_DAY).all())


def _may_be_date(text: str) -> bool:
    return (
        len(text) <= 40 and text[:1].isalnum() and any(c.isdigit() for c in text) and any(c in _BETWEEN for c in text)
    )


def _iso(texts: Sequence[str]) -> np.ndarray | None:
    """Return text in any form of ISO 8601, with a time zone too (in UTC)."""
    found = []
    for text in texts:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
        if "-" not in text and "W" not in text:
            return None  # a number of eight digits is a number
        found.append(_utc(moment))
    return np.array(found, "datetime64[us]")


def _utc(moment: datetime) -> datetime:
    offset = moment.utcoffset()
    moment = moment.replace(tzinfo=None)
    return moment if offset is None else moment - offset


def _one(text: str, form: str) -> datetime | None:
    try:
        return _utc(datetime.strptime(text, form))
    except ValueError:
        return None


def _all(texts: Sequence[str], form: str) -> np.ndarray | None:
    found = [_one(text, form) for text in texts]
    return None if None in found else np.array(found, "datetime64[us]")

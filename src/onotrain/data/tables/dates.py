"""Dates and times written as text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np

#: Tried in this order on all values of a column: ISO 8601 first, then with the month, the day and the year in front.
_FORMATS = tuple(
    f"{date}{time}"
    for date in ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%b %d %Y", "%d %b %Y",
                 "%B %d %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%Y.%m.%d", "%m/%d/%y", "%d.%m.%y")
    for time in ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", "T%H:%M", "T%H:%M:%S", "T%H:%M:%S.%f", "T%H:%M:%SZ",
                 "T%H:%M:%S.%fZ", " %I:%M %p", " %I:%M:%S %p")
)  # fmt: skip
_MONTHS = ("%Y-%m", "%b %Y", "%B %Y", "%Y/%m")


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
    if not texts[0][:1].isalnum() or not any(c.isdigit() for c in texts[0]) or len(texts[0]) > 40:
        return None
    form = _form_of(texts)
    return _iso(texts) if form is None else _all(texts, form)


def order_of_parts(texts: Sequence[str]) -> str | None:
    """Return the format of dates that begin with day or month, which other values may not tell; None of all others."""
    form = _form_of(texts) if texts else None
    return form if form is not None and form.startswith(("%d", "%m")) else None


def _form_of(texts: Sequence[str]) -> str | None:
    """Return the first of the known formats that all texts have."""
    forms = (form for form in (*_FORMATS, *_MONTHS) if _one(texts[0], form) is not None)
    return next((form for form in forms if _all(texts, form) is not None), None)


def _iso(texts: Sequence[str]) -> np.ndarray | None:
    """Return text in any form of ISO 8601, with a time zone too (in UTC)."""
    found = []
    for text in texts:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
        if "-" not in text:
            return None  # a number of eight digits is a number
        offset = moment.utcoffset()
        moment = moment.replace(tzinfo=None)
        found.append(moment - offset if offset is not None else moment)
    return np.array(found, "datetime64[us]")


def _one(text: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(text, form)
    except ValueError:
        return None


def _all(texts: Sequence[str], form: str) -> np.ndarray | None:
    found = [_one(text, form) for text in texts]
    return None if None in found else np.array(found, "datetime64[us]")

"""What stands above the data of a text table beside the header: titles, and a row of units."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from onotrain.data.tables.header import IsMissing, Number

#: Records that are looked at for the end of the titles.
_MOST_TITLES = 30
#: Share of the columns that a header names, at least.
_FULL = 0.8
_IN_BRACKETS = re.compile(r"\[[^\[\]]*\]|\([^()]*\)|\{[^{}]*\}")
_EMPTY = ("", "-", "--", "---")
_PREFIXES = "|".join(("da", *"YZEPTGMkhdcmunpfazy", "µ", "μ"))
_UNIT = (
    "m|g|s|A|K|mol|cd|Hz|N|Pa|J|W|C|V|F|Ω|ohm|Ohm|S|Wb|T|H|lm|lx|Bq|Gy|Sv|L|l|t|eV|bar|cal|B|b|bit|Wh|VA|var|u|Da|M|"
    "Torr|torr|pc|Gal|St|P|G"
)
_ALONE = (
    "%|‰|ppm|ppb|°|°C|°F|deg|degC|degF|rad|sr|min|h|hr|hrs|d|day|days|yr|year|years|week|weeks|month|months|sec|msec|in|"
    "inch|ft|yd|mi|mile|miles|nmi|kn|kt|knots|mph|kph|rpm|psi|psia|psig|atm|mmHg|inHg|lb|lbs|lbf|oz|gal|gpm|cfm|acre|ha|"
    "dB|dBm|pH|pct|percent|count|counts|cts|Btu|BTU|hp|micron|microns|USD|EUR|GBP|CHF|JPY|CNY|\\$|€|£|¥|ct|M⊙|AU|ly|Å|"
    "cycles|px|pixel|pixels|arb\\. u\\.|a\\.u\\.|n/a|none|unitless|dimensionless"
)
_ONE = rf"(?:{_ALONE}|(?:{_PREFIXES})?(?:{_UNIT}))(?:\^?[-+−]?\d|[²³⁻¹]+)?"
_UNITS = re.compile(rf"(?:1/)?{_ONE}(?:\s*[/*·.×^ ]\s*\(?{_ONE}\)?)*")


def titles(records: Sequence[Sequence[str]], number_of: Number) -> int:
    """Return how many records stand above the header: titles, which fill few fields where the header fills all."""
    widths = Counter(len(fields) for fields in records)
    width = max(widths, key=lambda number: (widths[number], number))
    if width < 2:
        return 0
    for count, fields in enumerate(records[:_MOST_TITLES]):
        filled = [field for field in fields if field.strip()]
        if len(filled) >= min(_FULL * width, width - 1) and (len(filled) > 1 or width == 2 == len(fields)):
            is_header = all(number_of(field) is None for field in filled) and count + 1 < len(records)
            return count if is_header else 0
        if len(filled) > max(width / 2, 1) or (len(filled) == width - 1 and len(fields) == width):
            return 0
    return 0


def units_of(
    second: Sequence[str], rest: Sequence[Sequence[str]], number_of: Number, is_missing: IsMissing, *, given: bool
) -> tuple[str, ...] | None:
    """Return the units of the columns, where the record beneath the header holds them; empty text: of this column none.

    Parameters
    ----------
    second
        Record beneath the header.
    rest
        The following ones.
    given
        Whether it is known that it holds units, which are then taken, unless they are numbers.
    """
    fields = [field.strip() for field in second]
    units = tuple("" if field in _EMPTY else _bare(field) for field in fields)
    if any(number_of(field) is not None and field != "1" for field in fields):
        return None
    if given:
        return units
    if not rest or not any(unit and field != "1" for unit, field in zip(units, fields, strict=True)):
        return None
    for number, field in enumerate(fields):
        below = [text for record in rest if number < len(record) if not is_missing(text := record[number].strip())]
        numeric = bool(below) and sum(number_of(text) is not None for text in below) > len(below) / 2
        if field in _EMPTY or (_IN_BRACKETS.fullmatch(field) and field not in below) or field == "1":
            continue
        if not numeric or not _UNITS.fullmatch(field):
            return None
    return units


def _bare(field: str) -> str:
    """Return a unit without the brackets around it; those that stand for none are empty."""
    inner = field[1:-1].strip() if _IN_BRACKETS.fullmatch(field) else field
    return "" if inner.lower() in (*_EMPTY, "none", "n/a", "unitless", "dimensionless") else inner

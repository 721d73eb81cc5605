"""Numbers, names and lines as people read them: in five significant digits, cut or wrapped as a whole."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from unicodedata import category, combining, east_asian_width

#: Significant digits of every number that was measured or computed.
DIGITS = 5
#: What stands for the rest of a name.
_ELLIPSIS = "..."


def figure(value: float, *, short: bool = False) -> str:
    """Return a number in five significant digits; in exponential form below 1e-4 and from 1e5 on.

    Parameters
    ----------
    value
        Any number; what is not finite is ``nan``, ``inf`` or ``-inf``.
    short
        Leave out zeros at the end, as for numbers that somebody has chosen: 0.001 in place of 0.0010000.

    Examples
    --------
    >>> figure(0.5), figure(25372.2833), figure(1.5e-7), figure(1e6), figure(0.001, short=True)
    ('0.50000', '25372', '1.5000e-07', '1.0000e+06', '0.001')
    """
    if short or not math.isfinite(value):
        return f"{value:.{DIGITS}g}"
    return f"{value:#.{DIGITS}g}".removesuffix(".")


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, such as ``1 rank`` or ``12,345 samples``."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def _is_shown(character: str) -> bool:
    """Return whether a terminal shows a character: blanks of any width too, which Python's `repr` escapes."""
    return character.isprintable() or category(character) == "Zs"


def printable(text: str) -> str:
    """Return text in which line breaks and other characters that move or colour what is shown are escaped."""
    if text.isprintable():
        return text
    return "".join(c if _is_shown(c) else c.encode("unicode_escape").decode() for c in text)


def escaped(text: str) -> str:
    """Return text as `printable` does, but with line breaks and tabs as they are."""
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" else printable(c) for c in text)


def quoted(text: str) -> str:
    """Return text in quotes, as `repr` does, but with blanks of any width as they are."""
    mark = repr(text)[0]
    escaped = {mark: f"\\{mark}", "\\": "\\\\"}
    return mark + "".join(escaped.get(c) or printable(c) for c in text) + mark


def width_of(text: str) -> int:
    """Return how many columns of a terminal a text takes: two for a wide character, none for a combining one."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(c) else 1 + (east_asian_width(c) in "WF") for c in text)


def _head(text: str, width: int) -> str:
    """Return the beginning of a text that takes at most `width` columns."""
    if text.isascii():
        return text[: max(width, 0)]
    end = 0
    for end in range(len(text) + 1):
        if width_of(text[:end]) > width:
            return text[: end - 1]
    return text[:end]


def cut(text: str, width: int) -> str:
    """Return a name in at most `width` columns, with an ellipsis in place of its end."""
    if width_of(text) <= width:
        return text
    return _head(text, width - len(_ELLIPSIS)) + _ELLIPSIS if width > len(_ELLIPSIS) else _head(text, width)


def cut_between_words(text: str, width: int) -> str:
    """Return a text in at most `width` characters, with an ellipsis in place of its last words: no number is cut.

    If there is a comma, what follows one is left out as a whole.
    """
    if width_of(text) <= width:
        return text
    part = _head(text, width - len(_ELLIPSIS))
    kept = part.rpartition(", ")[0]
    if kept:
        return f"{kept}, {_ELLIPSIS}"
    kept = part.rpartition(" ")[0]
    return f"{kept} {_ELLIPSIS}" if kept else cut(text, width)


def cut_in_the_middle(text: str, width: int) -> str:
    """Return a name in at most `width` characters, with an ellipsis in place of its middle."""
    kept = width - len(_ELLIPSIS)
    if width_of(text) <= width or kept < 2:
        return cut(text, width)
    return _head(text, kept - kept // 2) + _ELLIPSIS + _head(text[::-1], kept // 2)[::-1]


def cut_apart(names: Sequence[str], width: int) -> list[str]:
    """Return names in at most `width` characters each, that stay different from each other where this is possible."""
    for how in (cut, cut_in_the_middle):
        shown = [how(name, width) for name in names]
        if len(set(shown)) == len(set(names)):
            return shown
    return [cut_in_the_middle(name, width) for name in names]


def wrapped(text: str, columns: int | None, indent: int = 0, *, first: str = "") -> str:
    """Return a text in lines of at most `columns` characters, broken between words only.

    Parameters
    ----------
    text
        Of one paragraph.
    columns
        None: there is no limit, and the text stays one line.
    indent
        Of all lines but the first [characters].
    first
        What the first line begins with.
    """
    if columns is None or len(first) + len(text) <= columns:
        return first + text
    lines = textwrap.wrap(
        text, max(columns, indent + 20), initial_indent=first, subsequent_indent=" " * indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return "\n".join(lines)


def with_unit(name: str, unit: str | None) -> str:
    """Return a name with its unit, where it has one (1 is none): ``pressure [Pa]``."""
    return f"{name} [{unit}]" if unit not in (None, "", "1") else name


def size(number: int) -> str:
    """Return a number of bytes as people read it."""
    value, units = float(number), iter(("B", "KiB", "MiB", "GiB"))
    unit = next(units)
    for larger in units:
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """Return a time for people: ``0.12 s``, ``9.1 s``, ``3:09 min``, ``2:03:09 h``."""
    if seconds < 60:
        return f"{seconds:.{2 if seconds < 1 else 1}f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h" if hours else f"{minutes}:{rest:02d} min"

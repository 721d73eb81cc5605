"""Values and names as messages show them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_GOT_LENGTH = 60


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """Return the nearest of the known names, or the list of them if none is near."""
    names = list(known)
    near = nearest(name, names)
    return f"expected {any_of(names)}" if near is None else f"did you mean {near!r}?"


def nearest(name: Any, known: Sequence[str]) -> str | None:
    """Return the known name that `name` is most likely a slip of, if any is near."""
    near = difflib.get_close_matches(str(name)[:_GOT_LENGTH].lower(), known, n=1, cutoff=0.6)
    return near[0] if near else None


def any_of(names: Sequence[str], conjunction: str = "or") -> str:
    """Return names as a sentence lists them."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {conjunction} {names[-1]}"


def show(value: Any) -> str:
    """Return a value as it would be written in YAML, cut short if it is long."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}" if value else "an empty list"
    text = repr(value)
    return text if len(text) <= _GOT_LENGTH else f"{text[:_GOT_LENGTH]}..."


def got(value: Any) -> str:
    """Return ``(got ...)`` with the value, for the end of a message."""
    return f"(got {show(value)})"

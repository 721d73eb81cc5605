"""Objects as JSON, which knows no NaN and no infinity: they are written as null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def _plain(value: Any) -> Any:
    """Replace NumPy scalars by Python's, and by null what JSON cannot say."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def line_of(row: Mapping[str, Any]) -> bytes:
    """Return an object as one line."""
    return json.dumps(_plain(row), allow_nan=False).encode("ascii") + b"\n"


def pretty(value: Mapping[str, Any]) -> bytes:
    """Return an object as indented text."""
    return json.dumps(_plain(value), allow_nan=False, indent=2).encode("ascii") + b"\n"


def parsed(text: bytes) -> dict[str, Any] | None:
    """Return the object that a text stands for; None if it stands for none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None

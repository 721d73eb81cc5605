"""Objects as JSON, which knows no NaN and no infinity: they are written as null.  What is read may be a stranger's."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from onotrain.errors import CheckpointError, on_all_ranks

_T = TypeVar("_T")

#: Objects and lists in each other: a run and its configuration have a dozen.
_MOST_DEEP = 64
#: Numbers that others can count with.
_LARGE = 1 << 63
_MOST_SHOWN = 60


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


def loaded(text: bytes, **options: Any) -> dict[str, Any]:
    """Return the object that a text stands for; `options` are those of ``json.loads``.

    Raises
    ------
    ValueError
        It stands for none, or is nested too deep.
    """
    try:
        value = json.loads(text, **options)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__}, expected an object")
    within: list[Any] = [value]
    for _ in range(_MOST_DEEP):
        parts = (each.values() if isinstance(each, dict) else each for each in within)
        within = [item for each in parts for item in each if isinstance(item, (dict, list))]
    if within:
        raise ValueError("nested too deep")
    return value


def parsed(text: bytes) -> dict[str, Any] | None:
    """Return the object that a text stands for; None if it stands for none."""
    try:
        return loaded(text)
    except ValueError:
        return None


def fitted(kind: TypeAdapter[_T], value: Any) -> _T:
    """Return a value of which each part is of the type that it must have.

    Raises
    ------
    ValueError
        One is not; names the first.
    """
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {first['msg']} (got {_short(first['input'])})") from None


def check_alike(known: Any, stored: Any, name: str = "state") -> None:
    """Refuse values that have another form than what this program would write in their place.

    Parameters
    ----------
    known
        What it would write; None stands for a number, or several, that are not known yet.
    stored
        What was read; what it has besides is not looked at, and what it lacks is its reader's affair.
    name
        For the message.

    Raises
    ------
    ValueError
        It is so.
    """
    if isinstance(known, Mapping) and isinstance(stored, Mapping):
        for key in known.keys() & stored.keys():
            check_alike(known[key], stored[key], f"{name}.{key}")
        return
    several = stored if isinstance(known, (list, type(None))) and isinstance(stored, list) else None
    if isinstance(known, (bool, str, Mapping, list)):
        right = isinstance(stored, type(known))
    else:
        right = several is not None or (known is None and stored is None) or _is_number(stored)
    if not right or not all(map(_is_number, several or ())):
        raise ValueError(f"{name}: got {_short(stored)}, expected what is like {_short(known)}")


def restore(restored: Callable[[Any], object], known: Mapping[str, Any], stored: Any) -> None:
    """Give state of a checkpoint to what goes on from it, on all ranks.

    Parameters
    ----------
    restored
        Takes it.
    known, stored
        See `check_alike`.

    Raises
    ------
    CheckpointError
        It is not such a state.
    """
    try:
        if not isinstance(stored, Mapping):
            raise ValueError(f"got {_short(stored)}, expected an object")
        check_alike(known, stored)
        restored(stored)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        what = f"the state in the checkpoint is not usable: {error}"
        raise on_all_ranks(CheckpointError(what, hint="use another checkpoint")) from error


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not abs(value) >= _LARGE


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        return "a number"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."

"""A checkpoint's metadata as text: JSON that gives every value back as it was."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

#: JSON has no NaN and no infinities: they are written as ``{"$float": "nan"}``, ``"inf"`` and ``"-inf"``.
_NON_FINITE = "$float"


def to_text(metadata: Mapping[str, Any]) -> bytes:
    """Write `metadata` as ASCII JSON with sorted keys; floats as the shortest decimal that reads back to the same bits.

    Raises
    ------
    TypeError
        A value that JSON cannot hold, or a key that is not a string.
    """
    return json.dumps(_plain(metadata, "metadata"), sort_keys=True, allow_nan=False).encode("ascii")


def from_text(text: bytes) -> dict[str, Any]:
    """Read what :func:`to_text` wrote.

    Raises
    ------
    ValueError
        It is not a JSON object.
    """
    try:
        metadata = json.loads(text, object_hook=_restore, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(metadata, dict):
        raise ValueError(f"a {type(metadata).__name__}, expected an object")
    return metadata


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):  # repr of a finite float reads back to the same bits; JSON has no others
        return value if math.isfinite(value) else {_NON_FINITE: repr(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"{where}: keys are {list(value)[:3]}, expected strings")
        if value.keys() == {_NON_FINITE}:
            raise TypeError(f"{where}: the key {_NON_FINITE!r} alone stands for a float")
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    raise TypeError(f"{where}: a checkpoint cannot hold {type(value).__name__} as metadata")


def _restore(value: dict[str, Any]) -> Any:
    if value.keys() == {_NON_FINITE} and value[_NON_FINITE] in ("nan", "inf", "-inf"):
        return float(value[_NON_FINITE])
    return value


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")

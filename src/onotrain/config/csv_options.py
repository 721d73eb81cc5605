"""``--csv KEY=VALUE``: the section ``data.csv`` from the command line."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from onotrain.config.columns import TextTable
from onotrain.config.messages import problems_of
from onotrain.errors import ConfigError

_TAB = {"tab": "\t", r"\t": "\t", "space": " "}
_YES_NO = {"true": True, "false": False, "yes": True, "no": False}
_NONE = ("null", "auto")


def text_table_of(pairs: Sequence[str]) -> TextTable:
    """Return the section that options such as ``decimal=,`` and ``header=false`` stand for.

    Raises
    ------
    ConfigError
        An unknown key, or a value that does not fit.
    """
    data: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--csv {pair}: expected KEY=VALUE, such as decimal=, or header=false")
        data[key] = _value(key, value)
    try:
        return TextTable.model_validate(data)
    except ValidationError as error:
        found = problems_of(error, TextTable, data)
        raise ConfigError(
            "\n".join(f"--csv {'.'.join(map(str, problem.path))}: {problem.text}" for problem in found)
        ) from None


def _value(key: str, value: str) -> Any:
    """Return what a value stands for: as in YAML, and without its brackets and quotes."""
    if value in _NONE and key != "missing":
        return None
    if key == "missing":
        inside = value.removeprefix("[").removesuffix("]") if value[:1] == "[" else value
        return [_unquoted(word.strip()) for word in next(csv.reader([inside], skipinitialspace=True), [])]
    if key in ("header", "units_row"):
        return _YES_NO.get(value.lower(), value)
    if key == "skip":
        return int(value) if value.isdecimal() else value
    value = _unquoted(value)
    return _TAB.get(value, value)


def _unquoted(text: str) -> str:
    """Return text without the quotes around it."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text

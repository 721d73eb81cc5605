"""``--csv KEY=VALUE``: the section ``data.csv`` from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from onotrain.config.columns import TextTable
from onotrain.config.messages import problems_of
from onotrain.errors import ConfigError

_TAB = {"tab": "\t", r"\t": "\t", "space": " "}
_YES_NO = {"true": True, "false": False}


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
        if key == "missing":
            data[key] = value.split(",")
        else:
            data[key] = _YES_NO.get(value, value) if key == "header" else _TAB.get(value, value)
    try:
        return TextTable.model_validate(data)
    except ValidationError as error:
        found = problems_of(error, TextTable, data)
        raise ConfigError(
            "\n".join(f"--csv {'.'.join(map(str, problem.path))}: {problem.text}" for problem in found)
        ) from None

"""Units of targets, as options give them."""

from __future__ import annotations

from collections.abc import Sequence

import click


def units_by_name(values: Sequence[str]) -> dict[str, str]:
    """Return units by name, from texts such as ``pressure=Pa`` or ``height=mm,pressure=Pa``.

    Raises
    ------
    click.UsageError
        One is something else.
    """
    found = {}
    for value in values:
        for entry in value.split(",") if value.count("=") > 1 else (value,):
            name, equals, unit = (part.strip() for part in entry.partition("="))
            if not equals or not name or not unit:
                raise click.UsageError(f"--units is {value!r}, expected NAME=UNIT, such as pressure=Pa")
            found[name] = unit
    return found


def units(values: Sequence[str]) -> str | dict[str, str] | None:
    """Return the same, or one unit for all, such as ``mm``; None without any."""
    if len(values) == 1 and "=" not in values[0]:
        return values[0]
    return units_by_name(values) or None

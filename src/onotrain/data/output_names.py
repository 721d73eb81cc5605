"""What a configuration says by the names of outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from onotrain.errors import DataError
from onotrain.known_names import place_of

T = TypeVar("T")


def by_output(setting: Mapping[str, T], names: Sequence[str], otherwise: Sequence[T], where: str) -> list[T]:
    """Return a value for each output.

    Parameters
    ----------
    setting
        Values by name, or by number where no output is called so.
    names, otherwise
        Of the outputs; values of those that `setting` does not name.
    where
        The beginning of a message, up to a name.

    Raises
    ------
    DataError
        There is no such output.
    """
    found = list(otherwise)
    for name, value in setting.items():
        place = place_of(name, names)
        if place is None:
            shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
            raise DataError(f"{where} {name!r}, expected some of {shown}")
        found[place] = value
    return found

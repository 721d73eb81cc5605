"""Names in one form, so that those of a file and those that a user writes are compared as they are read."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence

__all__ = ["nfc", "nfc_names", "places_of"]


def nfc(text: str) -> str:
    """Return text in Unicode's composed form (NFC): ``é`` is one character, however it was written."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def nfc_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a file's columns composed, without blanks around them, none empty and none twice.

    As in text tables, a column without a name is called ``column_1``, a second ``a`` is ``a.1``.
    """
    found: list[str] = []
    taken: set[str] = set()
    for number, name in enumerate(names, 1):
        base = unique = nfc(name).strip() or f"column_{number}"
        copy = 0
        while unique in taken:
            copy += 1
            unique = f"{base}.{copy}"
        taken.add(unique)
        found.append(unique)
    return tuple(found)


def places_of(names: Sequence[str], wanted: Collection[str] | None) -> list[int]:
    """Return where the wanted names are among `names` (both composed before they are compared), in the file's order.

    Parameters
    ----------
    names
        Of the columns, as `nfc_names` returns them.
    wanted
        Names to look for; what is not there is left out.  None: all.
    """
    if wanted is None:
        return list(range(len(names)))
    asked = {nfc(name) for name in wanted}
    return [place for place, name in enumerate(names) if name in asked]

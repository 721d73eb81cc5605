"""Patterns for many columns that are alike: one line of a configuration in place of thousands."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

#: Columns from which on a pattern stands for them.
_MANY = 20
#: A name that a number ends, such as ``nm_400.5``.
_NUMBERED = re.compile(r"([^*?\[\]]*[^*?\[\]\d.])[\d.]+")


def with_patterns(kinds: Mapping[str, dict[str, Any]], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the kinds with a pattern, such as ``nm_*``, for many columns of one kind that share a prefix.

    Columns of another kind keep their names, which count before patterns.  No pattern fits a column without a kind.

    Parameters
    ----------
    kinds
        Kind and options of columns, by name.
    names
        Of all columns of the table.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in kinds:
        numbered = _NUMBERED.fullmatch(name)
        if numbered:
            groups[numbered[1]].append(name)
    pattern_of: dict[str, tuple[str, dict[str, Any]]] = {}
    for prefix, group in groups.items():
        if len(group) < _MANY:
            continue
        written = {name: repr(kinds[name]) for name in group}  # options hold lists, which are no keys
        usual = Counter(written.values()).most_common(1)[0][0]
        alike = [name for name in group if written[name] == usual]
        options = kinds[alike[0]]
        every = [name for name in names if name.startswith(prefix)]
        # How numbers are written is looked up by pattern, too, for a column of which nothing is said of that.
        fits = len(alike) == len(every) or ("format" not in options and all(name in kinds for name in every))
        if fits and len(alike) >= _MANY:
            pattern_of |= dict.fromkeys(alike, (f"{prefix}*", options))
    found: dict[str, dict[str, Any]] = {}
    for name, options in kinds.items():
        key, options = pattern_of.get(name, (name, options))
        found[key] = options
    return found

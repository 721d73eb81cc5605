"""All cases, in the order of the table."""

from __future__ import annotations

import limits
import races

CASES = (*races.CASES, *limits.CASES)


def names() -> list[str]:
    """Return the names of all rows."""
    return [row.name for case in CASES for row in case.rows]

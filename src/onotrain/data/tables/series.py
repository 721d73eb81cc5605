"""Tables whose rows are in the order of time, where neighbours are alike.

Drawn at random, a validation sample lies between two training samples that say nearly the same, and the metric is that
of filling gaps, not of what comes next.
"""

from __future__ import annotations

import re

import numpy as np

from onotrain.data.missing_targets import without_target
from onotrain.data.tables.date import dates_of
from onotrain.data.tables.dates import are_times
from onotrain.data.tables.kinds import is_numbers
from onotrain.data.tables.roles import Roles
from onotrain.data.tables.seasons import responses
from onotrain.data.tables.table import Column, Table
from onotrain.errors import DataError

_TIME = re.compile(r"(^|[^a-z])(t|time|timestamp|datetime|date|year)([^a-z]|$)", re.IGNORECASE)
#: Rows that show something.
_FEWEST = 30
#: Share of different values, from which on a column orders the rows.
_DIFFERENT = 0.9
#: Correlation of neighbours that makes them alike.
_ALIKE = 0.5


def time_column(table: Table, roles: Roles, targets: np.ndarray | None) -> str | None:
    """Return the column of time that orders the rows, if a feature or a target is like that of the row before.

    Parameters
    ----------
    table, roles
        All columns, and what they are there for.
    targets
        ``(n,)`` or ``(n, k)``; None if there are none.
    """
    if len(table) < _FEWEST:
        return None
    times = [column.name for column in table if column.name not in roles.targets and _orders_rows(table, column, roles)]
    if not times:
        return None
    if targets is not None:
        known = ~without_target(targets, "drop")
        if any(_neighbours_are_alike(each) for each in responses(targets[known]).T):
            return times[0]
    features = (table[name] for name in roles.features if name not in times)
    numeric = (column.as_numbers()[0] for column in features if not column.is_date and is_numbers(column))
    # A feature that only grows or falls is another clock.
    alike = any(not _is_sorted(each) and _neighbours_are_alike(each) for each in numeric)
    return times[0] if alike else None


def _orders_rows(table: Table, column: Column, roles: Roles) -> bool:
    kind = roles.kinds.get(column.name)
    if column.is_date or (kind is not None and kind.name == "date"):
        try:
            values = dates_of(table, column, None)
        except DataError:  # others say what is wrong with it
            return False
        return not np.isnat(values).any() and not are_times(values) and _is_monotone(values.astype(np.int64))
    if not _TIME.search(column.name) or not is_numbers(column):
        return False
    numbers = column.as_numbers()[0]
    return bool(np.isfinite(numbers).all()) and _is_monotone(numbers)


def _is_monotone(values: np.ndarray) -> bool:
    return _is_sorted(values) and bool(np.count_nonzero(np.diff(values)) + 1 >= _DIFFERENT * len(values))


def _is_sorted(values: np.ndarray) -> bool:
    steps = np.diff(values[np.isfinite(values)])
    return bool((steps >= 0).all() or (steps <= 0).all())


def _neighbours_are_alike(values: np.ndarray) -> bool:
    """Return whether a value goes with the one before (their correlation)."""
    values = values[np.isfinite(values)]
    if len(values) < _FEWEST:
        return False
    values = values - values.mean()
    values = values / (np.abs(values).max() or 1.0)
    return float(values[1:] @ values[:-1]) > _ALIKE * float(values @ values)

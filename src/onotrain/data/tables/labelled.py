"""Tables with their targets as data sets, and data sets as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onotrain.config.columns import ColumnOptions
from onotrain.data.dataset import Dataset, make_dataset
from onotrain.data.missing_targets import REMEDY, none_left, without_target
from onotrain.data.tables.roles import Roles, target_values
from onotrain.data.tables.table import Column, Table, coded
from onotrain.data.tables.values import numbers
from onotrain.errors import DataError


@dataclass(frozen=True)
class TablePlaces:
    """Places of features and targets of a data set in the table that it comes from."""

    table: Table
    features: tuple[str, ...]
    targets: tuple[str, ...]

    def place(self, row: int, column: int | None) -> str:
        """Return ``file:line:column`` of feature `column`, or of the target, of data row `row`."""
        names = self.targets if column is None else self.features[column : column + 1]
        return self.table.where(row, self.table[names[0] if names else self.table.names[0]])


def labelled_only(
    table: Table, roles: Roles, given: Mapping[str, ColumnOptions], policy: str
) -> tuple[Table, np.ndarray | None]:
    """Return the samples whose targets the policy takes, and their int64 rows in the table; None: all of them.

    Parameters
    ----------
    table, roles, given
        See `choose_roles`.
    policy
        ``data.missing_targets``.

    Raises
    ------
    DataError
        Some have none, and that is an error; or none has one.
    """
    values = target_values(table, roles.targets, given)
    lost = np.zeros(len(table), bool) if values is None else without_target(values, policy)
    count = int(lost.sum())
    if not count:
        return table, None
    row = int(np.argmax(lost))
    column = next((table[n] for n in roles.targets if table[n].missing[row]), table[roles.targets[0]])
    if count == len(table) and values is not None:
        raise none_left(table.source, roles.targets, values)
    if policy == "error":
        raise DataError(
            f"{table.where(row, column)}: column {column.name!r}, the target, has a missing value"
            + ("" if count == 1 else f" (the first of {count:,})"),
            hint=f"{REMEDY}, or name another target with data.targets",
        )
    kept = np.flatnonzero(~lost)
    return table.take(kept), kept


def numeric_dataset(table: Table, roles: Roles, given: Mapping[str, ColumnOptions]) -> Dataset:
    """Return the table as arrays, for what takes no other columns than numbers; missing ones are NaN.

    Raises
    ------
    DataError
        A feature is no number.
    """
    features = np.empty((len(table), len(roles.features)))
    for number, name in enumerate(roles.features):
        features[:, number] = numbers(table, table[name], missing=True)
    return make_dataset(
        features, target_values(table, roles.targets, given), table.source,
        feature_names=roles.features, target_names=roles.targets or None,
        positions=TablePlaces(table, roles.features, roles.targets), target_units=_units(table, roles),
    )  # fmt: skip


def _units(table: Table, roles: Roles) -> tuple[str, ...] | None:
    """Return the units of the targets; None if the file says none."""
    units = tuple(table[name].units or "" for name in roles.targets)
    return units if any(units) else None


def targets_dataset(table: Table, roles: Roles, given: Mapping[str, ColumnOptions]) -> Dataset:
    """Return a data set of the targets alone, with features of no columns."""
    return Dataset(
        features=np.empty((len(table), 0), np.float32), targets=target_values(table, roles.targets, given),
        feature_shape=(len(roles.features),), source=table.source, feature_names=roles.features,
        target_names=roles.targets or None, positions=TablePlaces(table, roles.features, roles.targets),
        weights=None if roles.weights is None else numbers(table, table[roles.weights]),
        target_units=_units(table, roles),
    )  # fmt: skip


def of_arrays(dataset: Dataset, names: Sequence[str], targets: Sequence[str]) -> Table:
    """Return arrays as the table of the columns that a network needs, its targets among them."""
    columns = [
        Column(name, dataset.features[:, number].astype(np.float64), field=number) for number, name in enumerate(names)
    ]
    values = dataset.targets
    if targets and values is not None:
        each = values[:, np.newaxis] if values.ndim == 1 else values
        for number, name in enumerate(targets[: each.shape[1]]):
            if each.dtype.kind == "U":
                columns.append(Column(name, *coded(each[:, number])))
            else:
                columns.append(Column(name, each[:, number].astype(np.float64)))
    return Table(tuple(columns), dataset.source)

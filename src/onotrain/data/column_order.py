"""Columns of arrays that have names, in the order of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onotrain.data.dataset import Dataset


def column_order(names: Sequence[str] | None, own: Sequence[str] | None) -> list[int] | None:
    """Return the columns that have names of their `own` in the order of others; None: as they are.

    They are left as they are where one side has no names, or has other ones.
    """
    if not names or not own or tuple(names) == tuple(own) or sorted(names) != sorted(own):
        return None
    place = {name: column for column, name in enumerate(own)}
    return [place[name] for name in names]


def in_order(dataset: Dataset, features: Sequence[str] | None, targets: Sequence[str] | None) -> Dataset:
    """Return a data set whose columns, where they have these names, are in their order."""
    order = column_order(features, dataset.feature_names)
    if order is not None:
        values = dataset.features[:, order] if dataset.features.shape[1] else dataset.features
        dataset = replace(dataset, features=np.ascontiguousarray(values), feature_names=tuple(features or ()))
    order = column_order(targets, dataset.target_names)
    if order is None or dataset.targets is None or dataset.targets.shape[1:] != (len(order),):
        return dataset
    units = dataset.target_units
    return replace(
        dataset, targets=np.ascontiguousarray(dataset.targets[:, order]), target_names=tuple(targets or ()),
        target_units=None if units is None else tuple(units[column] for column in order),
    )  # fmt: skip

"""Samples as a network takes them that was trained: its columns of a table, prepared, and its targets, encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onotrain.data.dataset import Dataset, DataSpec
from onotrain.data.reading import ReadFiles, in_turn
from onotrain.data.sources import expanded, is_table, load_dataset, read_table
from onotrain.data.tables.preparation import Preparation
from onotrain.data.tables.roles import Roles, formats_of, labelled_only, of_arrays, section_of, targets_dataset
from onotrain.data.tables.table import Table, shown
from onotrain.data.targets import TargetCodec
from onotrain.errors import DataError


def encode(codec: TargetCodec, dataset: Dataset, dtype: str) -> np.ndarray:
    """Return targets as training takes them: int32 classes, or numbers of the compute dtype."""
    targets = codec.encode(dataset)
    return targets if targets.dtype == np.int32 else np.ascontiguousarray(targets, dtype)


def check_features(source: str, columns: int, inputs: int, names: tuple[str, ...] | None) -> None:
    """Refuse data with another number of features (`columns`) than the network's (`inputs`).

    Raises
    ------
    DataError
        They have.
    """
    if columns != inputs:
        raise DataError(
            f"{source}: samples have {columns} features; the network expects {inputs}",
            hint=None if names is None else f"it was trained on: {', '.join(names[:20])}",
        )


def read_prepared(
    spec: DataSpec, preparation: Preparation, targets: Sequence[str], given: Any, dtype: str, missing: str,
    *, lenient: bool = False, reader: ReadFiles = in_turn,
) -> tuple[np.ndarray, Dataset, Table]:  # fmt: skip
    """Read a table for a network that was trained on one.

    Parameters
    ----------
    spec
        Any format; an array must have the columns that were learned from, in their order.
    preparation
        Of the training data.
    targets
        Columns with the targets; none if they are not wanted.
    given
        Section ``data.columns`` of the training.
    dtype
        Compute dtype.
    missing
        ``error`` or ``drop``: what becomes of samples without a target.
    lenient
        Give NaN where a value is missing that must not be.
    reader
        Reads the files.

    Returns
    -------
    features : ndarray
        ``(n, d)``, ready for the network.
    dataset : Dataset
        With the targets as in the file.
    table : Table
        The columns that were needed, and ids.

    Raises
    ------
    DataError
        A column is not there, or an entry is not what it should be.
    """
    table = table_for(spec, preparation, targets, reader, formats_of(given))
    roles = Roles(
        {name: section_of("numeric") for name in preparation.inputs}, tuple(targets), {},
        weights=spec.weights if spec.weights in table.names else None,
    )  # fmt: skip
    if targets:
        table, _ = labelled_only(table, roles, given, missing)
    return preparation.transform(table, dtype, lenient=lenient), targets_dataset(table, roles, given), table


def table_for(
    spec: DataSpec, preparation: Preparation, targets: Sequence[str], reader: ReadFiles = in_turn,
    formats: Mapping[str, str] | None = None,
) -> Table:  # fmt: skip
    """Read the columns that a network needs, from a table or from an array of numbers.

    Raises
    ------
    DataError
        Some are missing.
    """
    spec = expanded(spec)
    if not is_table(spec):
        dataset = load_dataset(replace(spec, labelled=bool(targets)), reader)
        check_features(dataset.source, dataset.features.shape[1], len(preparation.inputs), preparation.inputs)
        return of_arrays(dataset, preparation.inputs, targets)
    needed = [*preparation.inputs, *targets]
    extra = () if spec.weights is None else (spec.weights,)
    columns, formats = {*needed, *preparation.ids, *extra}, {**(formats or {}), **preparation.formats}
    table = read_table(spec, wanted=columns, texts=preparation.texts, formats=formats, reader=reader)
    missing = [name for name in needed if name not in table.names]
    if missing:
        raise DataError(
            f"{spec.path}: {len(missing)} of the columns that the network needs are missing: {shown(missing)}",
            hint=f"the network was trained on {shown(preparation.inputs)}"
            + (f" and the target {shown(targets)}" if targets else ""),
        )
    return table

"""Samples as a network takes them that was trained: its columns of a table, prepared, and its targets, encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from onotrain.config.columns import CategoricalColumn, ColumnOptions
from onotrain.data.by_position import ByPosition
from onotrain.data.column_order import in_order
from onotrain.data.dataset import Dataset, DataSpec
from onotrain.data.hdf5_stream import not_streamed
from onotrain.data.reading import ReadFiles, in_turn
from onotrain.data.sources import expanded, format_of, is_table, load_dataset, read_table
from onotrain.data.streaming import is_large, stored_table
from onotrain.data.tables.labelled import labelled_only, of_arrays, targets_dataset
from onotrain.data.tables.preparation import Preparation
from onotrain.data.tables.roles import Roles, formats_of, section_of
from onotrain.data.tables.table import Table, lacking, shown
from onotrain.data.targets import TargetCodec
from onotrain.errors import DataError

if TYPE_CHECKING:
    from onotrain.data.tables.stored import StoredTable


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


def labelled_table(
    table: Table, preparation: Preparation, targets: Sequence[str], weights: str | None, given: Any, missing: str
) -> tuple[Table, Dataset]:
    """Return the samples of a table that a network can take, and their targets.

    Parameters
    ----------
    table
        Of `table_for`.
    preparation
        Of the training data.
    targets
        Columns with the targets; none if they are not wanted.
    weights
        Column that says how much each sample counts, if it is there; None: all count alike.
    given
        Section ``data.columns`` of the training.
    missing
        ``error`` or ``drop``: what becomes of samples without a target.

    Returns
    -------
    table : Table
        The samples, those without a target left out.
    dataset : Dataset
        With the targets as in the file.

    Raises
    ------
    DataError
        An entry is not what it should be.
    """
    roles = Roles(
        {name: section_of("numeric") for name in preparation.inputs}, tuple(targets), {},
        weights=weights if weights in table.names else None,
    )  # fmt: skip
    if targets:
        table, _ = labelled_only(table, roles, given, missing)
    return table, targets_dataset(table, roles, given)


def table_for(
    spec: DataSpec, preparation: Preparation, targets: Sequence[str], stream: bool | str = False,
    memory: int | None = None, reader: ReadFiles = in_turn, given: Mapping[str, ColumnOptions] | None = None,
    places: ByPosition | None = None,
) -> Table:  # fmt: skip
    """Return the columns that a network needs, from a table or from an array of numbers.

    Parameters
    ----------
    spec
        Any format; an array must have the columns that were learned from, in their order.
    preparation, targets
        See `labelled_table`.
    stream, memory
        Whether Parquet files stay on the disk, as a `StoredTable`; see `onotrain.data.streaming.open_stream`.
    reader
        Reads the files that are read whole.
    given
        Section ``data.columns`` of the training, for its targets.
    places
        Which column is which, where `spec` is a text table without a header.

    Raises
    ------
    DataError
        Some are missing, or in other units.
    """
    spec = expanded(spec)
    if not is_table(spec):
        if stream is True:
            raise not_streamed(spec)
        dataset = load_dataset(replace(spec, labelled=bool(targets)), reader)
        check_features(dataset.source, dataset.features.shape[1], len(preparation.inputs), preparation.inputs)
        return of_arrays(in_order(dataset, preparation.inputs, targets), preparation.inputs, targets)
    needed = [*preparation.inputs, *targets]
    columns = {*needed, *preparation.ids} | ({spec.weights} if spec.weights is not None else set())
    given = given or {}
    formats = {**formats_of(given), **preparation.formats}
    texts = (*preparation.texts, *(name for name in targets if isinstance(given.get(name), CategoricalColumn)))
    if places is not None and stream is not True:
        return places.read(columns, texts, formats, reader)
    store = stored_table(spec, stream, texts=texts, columns=columns, formats=formats)
    if store is not None and (stream is True or is_large(len(store) * _bytes_of(store, preparation), memory)):
        table: Table = store
    else:
        table = read_table(spec, wanted=columns, texts=texts, formats=formats, reader=reader)
    missing = [name for name in needed if name not in table.names]
    if missing:
        hint = f"the network was trained on {shown(preparation.inputs)}"
        hint += f" and the target {shown(targets)}" if targets else ""
        if len(missing) == len(needed) and format_of(spec) in ("csv", "tsv"):
            hint += (
                "; the first line of a text file must hold the names of its columns: add it if it has none, or give "
                f"all columns in this order: {shown(preparation.columns or preparation.inputs)}"
            )
        raise DataError(lacking(spec.path, missing), hint=hint)
    preparation.check_units(table)
    return table


def _bytes_of(table: StoredTable, preparation: Preparation) -> int:
    """Return the bytes of a sample in memory, prepared or not."""
    return max(sum(table.widths.values()), 8 * len(preparation.names))

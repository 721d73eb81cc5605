"""Tables from objects in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onotrain.data.tables.table import MISSING_CODE, Column, Table, coded, lacking, shown
from onotrain.errors import DataError

_SOURCE = "samples"


def table_of(x: Any, names: Sequence[str]) -> Table:
    """Return samples in memory as a table.

    Parameters
    ----------
    x
        A table; a mapping of names to columns, such as a data frame; a structured array; or columns in the order of
        `names`, ``(n, columns)``, of numbers or text, one sample alone without its first axis.
    names
        Columns that are needed.

    Raises
    ------
    DataError
        One is missing, or their number is another.
    """
    if isinstance(x, Table):
        return x
    columns = named_columns(x)
    if columns is not None:
        missing = [name for name in names if name not in columns]
        if missing:
            raise DataError(
                lacking(_SOURCE, missing),
                hint=f"the network was trained on {shown(names)}",
            )
        return Table(tuple(column_of(name, columns[name]) for name in names), _SOURCE)
    values = array_of(x)
    values = values[np.newaxis] if values.ndim == 1 and len(values) == len(names) else values
    if values.ndim != 2 or values.shape[1] != len(names):
        raise DataError(
            f"{_SOURCE}: an array of shape {values.shape} does not fit the network; expected (n, {len(names)})",
            hint=f"the network was trained on the columns {shown(names)}",
        )
    return Table(tuple(column_of(name, values[:, number]) for number, name in enumerate(names)), _SOURCE)


def named_columns(x: Any) -> dict[str, Any] | None:
    """Return the columns of a mapping, a data frame or a structured array by their names as text; None for others.

    Raises
    ------
    DataError
        Two names are the same text.
    """
    if isinstance(x, Mapping):
        names = list(x)
    elif getattr(x, "columns", None) is not None:
        names = list(x.columns)
    else:
        x = x if isinstance(x, np.ndarray) else np.asarray(x)
        if x.dtype.names is None:
            return None
        names = list(x.dtype.names)
    columns: dict[str, Any] = {}
    for name in names:
        if str(name) in columns:
            raise DataError(f"{_SOURCE}: two columns are called {str(name)!r}", hint="give every column its own name")
        columns[str(name)] = x[name]
    return columns


def array_of(values: Any) -> np.ndarray:
    """Return values in memory as an array in which those that a masked array hides are missing."""
    if not isinstance(values, np.ma.MaskedArray) or not np.ma.is_masked(values):
        return np.asarray(values)
    found: np.ndarray = np.array(values)  # without the mask
    fill: Any = np.nan
    if found.dtype.kind in "iu":
        found = found.astype(np.float64)
    elif found.dtype.kind in "mM":
        fill = np.array("NaT", found.dtype)
    elif found.dtype.kind not in "fc":
        found, fill = found.astype(object), None
    found[np.ma.getmaskarray(values)] = fill
    return found


def column_of(name: str, values: Any) -> Column:
    """Return values in memory as a column: numbers, dates, bool, or anything else as text."""
    array = array_of(values)
    if array.ndim != 1:
        raise DataError(f"{_SOURCE}: column {name!r} has shape {array.shape}, expected (n,)")
    if array.dtype.kind in "iuf":
        return Column(name, array if array.dtype.kind == "f" and array.dtype.itemsize > 2 else array.astype(np.float64))
    if array.dtype.kind in "bM":
        return Column(name, array)
    if array.dtype.kind == "S":
        return Column(name, *coded([value.decode("utf-8", "replace") for value in array.tolist()]))
    if array.dtype.kind == "O":
        each = [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in array.tolist()]
        array = np.array([*each, None], object)[:-1]  # the last one keeps it an array of objects
        lost = np.array([value is None or value != value for value in each], bool)
        if any(isinstance(value, bool | np.bool_) for value in each):  # truth values with gaps are text
            return Column(name, *coded(["" if gone else str(v) for v, gone in zip(each, lost, strict=True)]))
        try:
            numbers = np.array([np.nan if gone else value for value, gone in zip(array, lost, strict=True)], np.float64)
        except (TypeError, ValueError):
            codes, categories = coded(["" if gone else str(v) for v, gone in zip(array, lost, strict=True)])
            return Column(name, np.where(lost, MISSING_CODE, codes).astype(np.int32), categories)
        if not any(isinstance(value, str) for value in array.tolist()):
            return Column(name, numbers)
    return Column(name, *coded([str(value) for value in array.tolist()]))

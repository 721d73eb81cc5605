"""Columns that an HDF5 file can give: data sets of one axis, and columns of those of two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import h5py
import numpy as np

from onotrain.data.hdf5_safety import open_array, read_attribute
from onotrain.data.tables.hdf5_values import Packing, as_text, texts_of_attribute
from onotrain.data.tables.naming import nfc
from onotrain.data.tables.table import shown
from onotrain.errors import DataError

__all__ = ["MOST_COLUMNS", "Variable", "data_sets", "stands_for"]

#: A data set ``(n, k)`` becomes k columns without being asked for up to so many.
MOST_COLUMNS = 256
#: More columns than this have no names, and are no table.
_MOST_NAMES = 100_000
_NOT_A_VARIABLE = "This is a netCDF dimension but not a netCDF variable"


@dataclass(frozen=True)
class Variable:
    """A column that a file can give.

    Parameters
    ----------
    name
        Of the column.
    data
        The data set that holds it.
    dtype
        Of one value.
    field
        Of a compound type; None: the data set holds nothing else.
    place
        In the last axis of the data set or field; None: it has one value per row.
    units
        Where the file says so.
    packing
        How values are stored; None: as the attributes of the data set say.
    number
        Of the column in its file.
    """

    name: str
    data: h5py.Dataset
    dtype: np.dtype
    field: str | None = None
    place: int | None = None
    units: str | None = None
    packing: Packing | None = None
    number: int = 0

    @property
    def origin(self) -> str:
        """What else stands for this column, and perhaps for others."""
        return str(self.field if self.field is not None else self.data.name.lstrip("/"))

    def values(self, block: np.ndarray) -> np.ndarray:
        """Return the column's values in some rows of its data set."""
        if self.field is not None and block.dtype.names:
            block = block[self.field]
        return block if self.place is None else block[:, self.place]


def stands_for(asked: str, name: str) -> bool:
    """Return whether a wanted name is that of a data set or field, or of one of its columns."""
    return nfc(name) == asked.partition("[")[0]


def data_sets(
    file: h5py.File, names: Sequence[str], asked: set[str] | None, path: str
) -> tuple[list[Variable], list[str]]:
    """Return the columns of a file with one data set per variable, and notes.

    Parameters
    ----------
    file, path
        To be read.
    names
        Of all its data sets.
    asked
        Columns, or data sets that stand for several, in composed form; None for all.

    Raises
    ------
    DataError
        It is not clear which data sets belong together, or one is stored in a way that is refused.
    """
    columns = {name: _columns(file, name, path) for name in names if _is_variable(file, name, asked)}
    chosen = [n for n, own in columns.items() if asked is None or asked & {nfc(n), *map(nfc, own)}]
    # Links to other files and virtual data sets are refused, as for arrays.
    data = {name: open_array(file, name, path) for name in chosen}
    rows = _length(data, path) if data else 0
    if not columns:
        raise DataError(f"{path}: no data set that could be a column, expected some of one axis")
    variables, odd = [], []
    number = 0
    for name, own in columns.items():
        first, number = number, number + len(own)
        if name not in data:
            continue
        each = data[name]
        wide = each.ndim == 2 and each.dtype != "S1"
        many = wide and (each.shape[1] != len(own) or (asked is None and len(own) > MOST_COLUMNS))
        if each.shape[:1] != (rows,) or each.ndim > 2 or many:
            odd.append(f"{name} {each.shape}")
            continue
        units = as_text(read_attribute(each, "units", f"{path}[{name}]"))
        variables += [
            Variable(column, each, each.dtype, None, place if wide else None, units, number=first + place)
            for place, column in enumerate(own)
        ]
    if asked is not None and odd:
        raise DataError(
            f"{path}: {odd[0]} cannot be a column beside others of {rows} rows, expected the shape ({rows},)",
            hint="name data sets of the same length",
        )
    return variables, [f"left out, because of their shapes: {shown(odd)}"] if odd else []


def _is_variable(file: h5py.File, name: str, asked: set[str] | None) -> bool:
    """Return whether a data set may hold a column; of links within the file, only those that are asked for."""
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        return nfc(name) in asked if asked is not None else isinstance(link, h5py.ExternalLink)
    data = file[name]
    if not data.shape or name.endswith("_names"):
        return False
    return not (as_text(read_attribute(data, "NAME", name)) or "").startswith(_NOT_A_VARIABLE)


def _columns(file: h5py.File, name: str, path: str) -> list[str]:
    """Return the names of the columns of a data set: its own, or of one of two axes, those that attributes say."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        return [name]
    data = file[name]
    if data.ndim != 2 or data.dtype == "S1":
        return [name]
    group, _, base = name.rpartition("/")
    count = data.shape[1]
    if count > _MOST_NAMES:
        return [name]
    places = [(data, "names"), (data, f"{base}_names"), (file[group] if group else file, f"{base}_names")]
    known = (texts_of_attribute(place, key, count, f"{path}[{name}]") for place, key in places)
    columns = next((names for names in known if names is not None), None)
    if columns is None:
        return [f"{name}[{k}]" for k in range(count)]
    return [f"{group}/{column}" if group else column for column in columns]


def _length(data: dict[str, h5py.Dataset], path: str) -> int:
    """Return the number of rows that most variables have."""
    flat = [len(each) for each in data.values() if each.ndim == 1] or [len(each) for each in data.values()]
    counts = Counter(flat).most_common(2)
    groups = Counter(name.rpartition("/")[2] for name in data)
    twice = next((name for name, times in groups.items() if times > 1), None)
    if (len(counts) > 1 and counts[0][1] == counts[1][1]) or twice is not None:
        raise DataError(
            f"{path}: cannot tell which data sets belong together: "
            + shown([f"{name} {each.shape}" for name, each in data.items()]),
            hint="name those to learn from with data.features and data.targets (of a command: --features, --targets)",
        )
    return counts[0][0]

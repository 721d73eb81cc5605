"""HDF5 files that hold a table: records of a compound type, or one data set per variable, as in netCDF-4."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import h5py
import numpy as np

from onotrain.data.array_names import FEATURE_ARRAYS, choose_arrays
from onotrain.data.dataset import DataSpec, listed
from onotrain.data.hdf5 import is_ours, open_file
from onotrain.data.hdf5_safety import list_arrays, open_array
from onotrain.data.tables.hdf5_records import fields_of, pandas_frame
from onotrain.data.tables.hdf5_values import ValueColumn, is_netcdf, is_readable, packing_of
from onotrain.data.tables.hdf5_variables import Variable, data_sets, stands_for
from onotrain.data.tables.naming import nfc, nfc_names
from onotrain.data.tables.table import Table, shown
from onotrain.errors import DataError
from onotrain.memory import check_memory

__all__ = ["hdf5_table", "holds_table"]

_BLOCK_BYTES = 1 << 24


def holds_table(spec: DataSpec) -> bool:
    """Return whether what `spec` names in an HDF5 or netCDF-4 file are columns, and not arrays; reads no data.

    Arrays of features have two axes or more, or are alone with one of targets; see `hdf5_table`.

    Raises
    ------
    DataError
        Missing, or damaged.
    """
    with open_file(spec.path) as file:
        return not _holds_arrays(file, _names(file, spec.path), spec)


def hdf5_table(path: str, wanted: Collection[str] | None = None, *, anyway: bool = False) -> Table | None:
    """Read a table from an HDF5 or netCDF-4 file.

    Parameters
    ----------
    path
        Of the file.
    wanted
        Columns to read, or data sets or fields that stand for several; what the file does not have is left out.  None:
        all, but for what cannot be a column, which notes of the table then name.
    anyway
        Whether to read columns also from a file that holds arrays, for `holds_table` says that they are meant.

    Returns
    -------
    Table or None
        The fields of a compound data set, or the data sets of one axis and the same length (with ``/`` in the names of
        those in groups).  What has two axes becomes columns ``name[0]``, ``name[1]``, ..., or those that an attribute
        ``<name>_names`` of the file or group (``names`` of the data set) says.  Packed numbers are float64, integers of
        which some are missing too; all other numbers keep their type.  None: the file holds an array of features and
        one of targets, which `onotrain.data.hdf5.read_hdf5` reads.

    Raises
    ------
    DataError
        Missing, damaged, of lengths between which only the user can decide, stored in a way that is refused, or a
        wanted column cannot be read.
    ResourceError
        Larger than the memory that is left.
    """
    with open_file(path) as file:
        found = _variables(file, path, wanted, anyway=anyway)
        if found is None:
            return None
        variables, notes = found
        return _read(file, path, variables, wanted, notes)


def _names(file: h5py.File, path: str) -> list[str]:
    """Return the names of all data sets, but for the indices that PyTables keeps in groups called ``_i_...``."""
    return [name for name in list_arrays(file, path) if not name.startswith("_i_") and "/_i_" not in name]


def _variables(
    file: h5py.File, path: str, wanted: Collection[str] | None, *, anyway: bool = False
) -> tuple[list[Variable], tuple[str, ...]] | None:
    """Return the columns that the file can give, with notes; None if it holds arrays of features and targets."""
    names = _names(file, path)
    if not anyway and _holds_arrays(file, names, DataSpec(path)):
        return None
    tables = [name for name in names if _is_hard(file, name) and file[name].dtype.names and file[name].ndim == 1]
    asked = None if wanted is None else {nfc(name) for name in wanted}
    if len(tables) > 1:  # of which one may have been asked for
        tables = _table_of(file, tables, asked, path)
    frame = pandas_frame(file, names, path)
    if frame is not None:
        group, variables = frame
        variables = [replace(variable, number=number) for number, variable in enumerate(variables)]
        notes = [f"the columns are those of the data frame {group!r}"]
    elif tables:
        data = open_array(file, tables[0], path)
        variables = [replace(v, number=number) for number, v in enumerate(fields_of(data, tables[0], path))]
        notes = [f"the columns are the fields of the data set {tables[0]!r}"]
    else:
        variables, notes = data_sets(file, names, asked, path)
    unique = nfc_names([variable.name for variable in variables])
    named = [replace(variable, name=name) for variable, name in zip(variables, unique, strict=True)]
    return named, tuple(notes)


def _is_hard(file: h5py.File, name: str) -> bool:
    return isinstance(file.get(name, getlink=True), h5py.HardLink)


def _holds_arrays(file: h5py.File, names: Sequence[str], spec: DataSpec) -> bool:
    """Return whether a file holds arrays of features and perhaps of targets, by their names."""
    if is_ours(file):
        return True
    try:
        features, targets = choose_arrays(names, spec)
    except DataError:
        named = [nfc(name) for name in (*(listed(spec.features) or ()), *(listed(spec.targets) or ()))]
        fields = any(_is_hard(file, name) and file[name].dtype.names for name in names)
        wanted = [part.strip() for name in named for part in ([name] if name in names else name.split(","))]
        unknown = not fields and any(  # is refused there, with names like it
            not any(fnmatchcase(name, each) for name in names) for each in wanted
        )
        return unknown or any(file[name].ndim > 1 for name in named if name in names and _is_hard(file, name))
    if not all(_is_hard(file, name) for name in (*features, *targets)):
        return True  # is refused there
    if spec.features is not None:
        lengths = {len(file[name]) for name in features if file[name].ndim}
        return len(lengths) > 1 or any(file[name].ndim != 1 and not file[name].dtype.names for name in features)
    data = file[features[0]]
    if data.dtype.names or data.shape is None or data.ndim != 1:
        return not data.dtype.names and not (is_netcdf(file) and data.ndim == 1)
    others = (name for name in names if name not in (*features, *targets) and _is_hard(file, name))
    alone = not any(file[name].shape == data.shape for name in others)
    return alone and features[0].lower() in FEATURE_ARRAYS and not is_netcdf(file)


def _table_of(file: h5py.File, tables: list[str], asked: set[str] | None, path: str) -> list[str]:
    """Return the one of several compound data sets that has the wanted fields."""
    if asked:
        having = [
            name for name in tables if all(any(stands_for(a, f) for f in file[name].dtype.names) for a in asked)
        ]  # fmt: skip
        if len(having) == 1:
            return having
    sizes = ", ".join(f"{name} ({len(file[name])} rows)" for name in tables)
    raise DataError(
        f"{path}: holds several tables: {sizes}; expected one",
        hint="write the one to learn from to a file of its own, or name columns that only one of them has",
    )


def _read(
    file: h5py.File,
    path: str,
    variables: Sequence[Variable],
    wanted: Collection[str] | None,
    notes: tuple[str, ...],
) -> Table:
    """Read columns, data set by data set and block by block."""
    asked = None if wanted is None else {nfc(name) for name in wanted}
    chosen = [v for v in variables if asked is None or v.name in asked or nfc(v.origin) in asked]
    odd = [v for v in chosen if not is_readable(v.dtype)]
    if odd and (asked is not None or len(odd) == len(chosen)):
        raise DataError(
            f"{path}: the column {odd[0].name!r} is of type {odd[0].dtype}, expected numbers, text or truth values",
            hint="write its parts as columns of their own, or leave it out",
        )
    if odd:
        notes = (*notes, f"left out, because of their types: {shown([v.name for v in odd])}")
        chosen = [v for v in chosen if v not in odd]
    if not chosen:
        return Table((), path, notes=notes)
    rows = len(chosen[0].data)
    if not rows:
        raise DataError(f"{path}: no samples")
    check_memory(rows * sum(8 if v.dtype.kind in "iuf" else 4 for v in chosen), path)
    netcdf = is_netcdf(file)
    columns = []
    for variable in chosen:
        where = f"{path}[{variable.origin}]"
        packing = variable.packing or packing_of(variable.data, where, netcdf=netcdf)
        columns.append(ValueColumn(rows, variable.dtype, packing, where))
    for data in {v.data.name: v.data for v in chosen}.values():
        parts = [(v, c) for v, c in zip(chosen, columns, strict=True) if v.data.name == data.name]
        for block in _blocks(data, [v.field for v, _ in parts if v.field is not None]):
            for variable, column in parts:
                column.add(variable.values(block))
    done = (c.column(v.name, v.number, v.units) for v, c in zip(chosen, columns, strict=True))
    return Table(tuple(done), path, notes=notes)


def _blocks(data: h5py.Dataset, fields: Sequence[str]) -> Iterator[np.ndarray]:
    """Yield the rows of a data set, or of some fields of it, in blocks."""
    # 64: of a text of variable length, only a reference is counted.
    width = max(1, math.prod(data.shape[1:])) * max(data.dtype.itemsize, 64 if data.dtype.kind == "O" else 1)
    step = max(1, _BLOCK_BYTES // width)
    if data.chunks is not None:  # a compressed chunk that is cut in two is decompressed twice
        step = max(step // data.chunks[0], 1) * data.chunks[0]
    read: Callable[[slice], np.ndarray] = data.__getitem__
    if fields and len(set(fields)) < len(data.dtype.names or ()):
        read = data.fields(list(dict.fromkeys(fields))).__getitem__
    for begin in range(0, len(data), step):
        yield np.asarray(read(slice(begin, min(begin + step, len(data)))))

"""Columns of compound data sets, and of the tables of pandas.

pandas stores the names of columns as pickled lists; their text is taken out without loading them.
"""

from __future__ import annotations

import pickletools
from collections.abc import Sequence
from dataclasses import replace

import h5py
import numpy as np

from onotrain.data.hdf5_safety import open_array, read_attribute
from onotrain.data.tables.hdf5_values import Packing, as_text, texts_of_attribute
from onotrain.data.tables.hdf5_variables import Variable

__all__ = ["fields_of", "pandas_frame", "texts_of_pickle"]

#: Operations of pickles of lists of text; no other is accepted, and none is executed.
_PLAIN = {"MARK", "LIST", "EMPTY_LIST", "PUT", "BINPUT", "MEMOIZE", "APPEND", "APPENDS", "STOP", "PROTO", "FRAME"}
_TEXT = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE"}


def fields_of(data: h5py.Dataset, name: str, path: str) -> list[Variable]:
    """Return the columns of a compound data set."""
    where = f"{path}[{name}]"
    labels = data.dtype.names or ()
    units = texts_of_attribute(data, "units", len(labels), where)
    found: list[Variable] = []
    for number, label in enumerate(labels):
        unit = as_text(read_attribute(data, f"FIELD_{number}_ATTR_units", where)) or (units[number] if units else None)
        packing = _packing(data, f"{label}_dtype", where)
        if f"{label}_meta" in data.attrs:  # pandas writes text that is missing so
            packing = replace(packing, missing_text="nan")
        kind, shape = data.dtype[label].base, data.dtype[label].shape
        if len(shape) != 1:
            found.append(Variable(label, data, np.dtype(object) if shape else kind, label, None, unit, packing))
            continue
        columns = _block_names(data, label, shape[0], where) or [f"{label}[{k}]" for k in range(shape[0])]
        found += [Variable(column, data, kind, label, k, unit, packing) for k, column in enumerate(columns)]
    return found


def _packing(data: h5py.Dataset, key: str, where: str) -> Packing:
    """Return how pandas stored values, as an attribute says: truth values, times, or as they are."""
    kind = as_text(read_attribute(data, key, where)) or ""
    return Packing(meaning=kind if kind == "bool" or kind.startswith("datetime64[") else None)


def texts_of_pickle(pickled: bytes) -> list[str] | None:
    """Return the text of a pickled list; None if it is anything else."""
    texts = []
    try:
        for operation, argument, _ in pickletools.genops(pickled):
            if operation.name in _TEXT:
                texts.append(str(argument))
            elif operation.name not in _PLAIN:
                return None
    except Exception:  # what is no pickle fails in many ways
        return None
    return texts


def _block_names(data: h5py.Dataset, label: str, count: int, where: str) -> list[str] | None:
    """Return the names of the columns that pandas put together in one field of a table; None if it did not."""
    pickled = read_attribute(data, f"{label}_kind", where)
    texts = texts_of_pickle(pickled) if isinstance(pickled, bytes) else None
    return texts if texts is not None and len(texts) == count else None


def pandas_frame(file: h5py.File, names: Sequence[str], path: str) -> tuple[str, list[Variable]] | None:
    """Return the columns of a data frame that pandas stored in its ``fixed`` format; None if there is not just one.

    Parameters
    ----------
    file, path
        To be read.
    names
        Of all its data sets.

    Returns
    -------
    group, variables
        Name of the frame, and its columns.  Text is pickled there: such columns are of the type object, and cannot be
        read.
    """
    groups = [name.removesuffix("/axis0") for name in names if name.endswith("/axis0")]
    groups = [name for name in groups if as_text(read_attribute(file[name], "pandas_type", path)) == "frame"]
    if len(groups) != 1:
        return None
    group = groups[0]
    index = open_array(file, f"{group}/axis1", path)
    found = [Variable("index", index, index.dtype, packing=_packing(index, "kind", f"{path}[{group}/axis1]"))]
    blocks = sorted(name for name in names if name.startswith(f"{group}/block") and name.endswith("_items"))
    for items in blocks:
        labels = [label.decode(errors="replace") for label in open_array(file, items, path)[()].tolist()]
        stored = items.removesuffix("_items") + "_values"
        data = open_array(file, stored, path)
        packing = _packing(data, "value_type", f"{path}[{stored}]")
        if data.shape != (len(index), len(labels)):
            found += [Variable(label, data, np.dtype(object)) for label in labels]
        else:
            found += [Variable(n, data, data.dtype, None, k, packing=packing) for k, n in enumerate(labels)]
    return group, found

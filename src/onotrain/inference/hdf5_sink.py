"""Predictions as HDF5: ``class`` with ``probabilities``, or ``values``."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from onotrain.files import AtomicFile
from onotrain.hdf5_layout import lay_out
from onotrain.inference.outputs import Ids, Outputs

FILETYPE = "onotrain-predictions"
VERSION = 1


class Hdf5Sink:
    """Datasets, all with one row for each sample, and attributes of the file.

    ``class``
        Names of the classes (UTF-8, padded with zeros), or their numbers (int64) if they have no names; for multi-label
        networks uint8 ``(n, labels)``, 1 where a label is chosen.  Not there for a regression.
    ``probabilities`` or ``values``
        ``(n, width)``, the network's dtype, or float64 of scaled targets.  NaN, and no class, where a sample lacks a
        value.
        Of several values of each target the attribute ``columns`` says which is which.
    ``id_<column>``
        The columns that name the samples, as text.
    """

    def __init__(self, file: AtomicFile, outputs: Outputs, rows: int, ids: Ids) -> None:
        self._file, self._outputs = file, outputs
        self._ids = {f"id_{name}": _text(tuple(values.tolist())) for name, values in ids.items()}
        self._classes = _class_values(outputs)
        self._numbers = "values" if outputs.regression else "probabilities"
        arrays: list[tuple[str, tuple[int, ...], np.dtype]]
        arrays = [(self._numbers, (rows, outputs.width), outputs.dtype.newbyteorder("<"))]
        if self._classes is not None:
            labels = (outputs.width,) if outputs.task == "multilabel" else ()
            arrays.append(("class", (rows, *labels), self._classes.dtype))
        arrays += [(name, (rows,), values.dtype) for name, values in self._ids.items()]
        layout = lay_out(arrays, _attributes(outputs))
        self._offsets = layout.offsets
        file.reserve(layout.size)
        for offset, data in layout.around:
            file.write_at(offset, data)

    def write(self, begin: int, block: np.ndarray) -> None:
        """Write the block, and its classes, in their places."""
        self._put(self._numbers, begin, block.astype(block.dtype.newbyteorder("<"), copy=False))
        if self._classes is not None:
            chosen = self._outputs.decide(block)
            classes = self._classes[chosen] if chosen.ndim == 1 else chosen.astype(np.uint8)
            if chosen.ndim == 1:
                classes[np.isnan(block).any(axis=1)] = b"" if self._outputs.names is not None else -1
            self._put("class", begin, classes)
        for name, values in self._ids.items():
            self._put(name, begin, values[begin : begin + len(block)])

    def _put(self, name: str, begin: int, block: np.ndarray) -> None:
        data = np.ascontiguousarray(block)
        row_bytes = data.nbytes // len(data)
        self._file.write_at(self._offsets[name] + begin * row_bytes, data.view(np.uint8).reshape(-1))

    def finish(self) -> None:
        """Do nothing: everything is in its place."""


def _class_values(outputs: Outputs) -> np.ndarray | None:
    """Return what stands in ``class`` for each class, in the dtype that is stored; None for a regression."""
    if outputs.regression:
        return None
    if outputs.task == "multilabel":
        return np.arange(2, dtype=np.uint8)
    if outputs.names is None:
        return np.arange(len(outputs.shown_names), dtype="<i8")
    return _text(outputs.names)


def _attributes(outputs: Outputs) -> dict[str, Any]:
    named = {} if outputs.names is None else {"target_names" if outputs.regression else "class_names": outputs.names}
    if len(outputs.titles) > 1:
        named["columns"] = tuple(outputs.columns)
    return {
        "filetype": np.bytes_(FILETYPE),
        "version": np.array(VERSION, "<i4"),
        "task": np.bytes_(outputs.task),
        **{key: _text(names) for key, names in named.items()},
    }


def _text(names: tuple[str, ...]) -> np.ndarray:
    encoded = [name.encode("utf-8") for name in names]
    return np.array(encoded, h5py.string_dtype("utf-8", max(1, *map(len, encoded))))

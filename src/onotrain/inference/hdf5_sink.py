"""Predictions as HDF5: ``class`` with ``probabilities``, or ``values``.

libhdf5 lays the file out and never writes the predictions: where their bytes belong is asked of it, and they go there
by plain file calls.  What it does write (a few kilobytes) is kept in memory until it is done, because an error in the
middle of its own calls leaves it with a file that it can neither finish nor forget.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from onotrain.inference.output_file import OutputFile
from onotrain.inference.outputs import Outputs

FILETYPE = "onotrain-predictions"
VERSION = 1


class _Sketch:
    """The file object that h5py expects: remembers what is written where, and can always be written to."""

    def __init__(self) -> None:
        self.writes: list[tuple[int, bytes]] = []
        self.size = self._position = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + {0: 0, 1: self._position, 2: self.size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        begin, end = self._position, min(self._position + len(buffer), self.size)
        found = bytearray(max(0, end - begin))
        for offset, data in self.writes:
            low, high = max(begin, offset), min(end, offset + len(data))
            if low < high:
                found[low - begin : high - begin] = data[low - offset : high - offset]
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)

    def write(self, data: Any) -> int:
        self.writes.append((self._position, bytes(data)))
        self._position += len(data)
        self.size = max(self.size, self._position)
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        self.size = self._position if size is None else size
        return self.size

    def flush(self) -> None:
        """Do nothing: nothing is buffered."""


class Hdf5Sink:
    """Datasets, all with one row for each sample, and attributes of the file.

    ``class``
        Names of the classes (UTF-8, padded with zeros), or their numbers (int64) if they have no names; for multi-label
        networks uint8 ``(n, labels)``, 1 where a label is chosen.  Not there for a regression.
    ``probabilities`` or ``values``
        ``(n, width)``, the network's dtype.
    """

    def __init__(self, file: OutputFile, outputs: Outputs, rows: int) -> None:
        self._file, self._outputs = file, outputs
        self._classes = _class_values(outputs)
        numbers = outputs.dtype.newbyteorder("<")
        layout = {"values" if outputs.regression else "probabilities": ((rows, outputs.width), numbers)}
        if self._classes is not None:
            width = (outputs.width,) if outputs.task == "multilabel" else ()
            layout["class"] = ((rows, *width), self._classes.dtype)
        sketch = _Sketch()
        self._offsets = _lay_out(sketch, layout, outputs)
        ends = [self._offsets[name] + int(np.prod(shape)) * dtype.itemsize for name, (shape, dtype) in layout.items()]
        file.reserve(max(sketch.size, *ends))
        for offset, data in sketch.writes:
            file.write_at(offset, data)
        self._numbers = next(iter(layout))

    def write(self, begin: int, block: np.ndarray) -> None:
        """Write the block, and its classes, in their places."""
        self._put(self._numbers, begin, block.astype(block.dtype.newbyteorder("<"), copy=False))
        if self._classes is not None:
            chosen = self._outputs.decide(block)
            self._put("class", begin, self._classes[chosen] if chosen.ndim == 1 else chosen.astype(np.uint8))

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


def _text(names: tuple[str, ...]) -> np.ndarray:
    encoded = [name.encode("utf-8") for name in names]
    return np.array(encoded, h5py.string_dtype("utf-8", max(1, *map(len, encoded))))


def _lay_out(sketch: _Sketch, layout: dict[str, Any], outputs: Outputs) -> dict[str, int]:
    """Write attributes and empty datasets; return where each dataset's bytes begin."""
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, sketch)
    access.set_libver_bounds(h5py.h5f.LIBVER_V18, h5py.h5f.LIBVER_V18)  # readable by HDF5 1.8 (2008) and later
    # Space for the data now, and nobody fills it.
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    plan.set_obj_track_times(False)
    with h5py.File(h5py.h5f.create(b"predictions", h5py.h5f.ACC_TRUNC, fcpl=creation, fapl=access)) as file:
        file.attrs.create("filetype", np.bytes_(FILETYPE))
        file.attrs.create("version", np.array(VERSION, "<i4"))
        file.attrs.create("task", np.bytes_(outputs.task))
        if outputs.names is not None:
            names = _text(outputs.names)
            file.attrs.create("target_names" if outputs.regression else "class_names", names, dtype=names.dtype)
        offsets = {}
        for name, (shape, dtype) in layout.items():
            space = h5py.h5s.create_simple(shape)
            dataset = h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(dtype, logical=True), space, dcpl=plan)
            offsets[name] = dataset.get_offset()
        return offsets

"""Where predictions go: one file format each, chosen by the suffix of the output's name.

All of them are the same to the byte for the same predictions: no time stamps, and no trace of the order in which the
chunks came.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from onotrain.errors import UsageError
from onotrain.files import AtomicFile
from onotrain.inference.outputs import Ids, Outputs


class Sink(Protocol):
    """Gets the predictions on rank 0; chunks come in any order."""

    def write(self, begin: int, block: np.ndarray) -> None:
        """Keep the predictions ``(r, width)`` of the rows from `begin` on; `block` is valid only during the call."""
        ...

    def finish(self) -> None:
        """Write what is left, all chunks being there."""
        ...


class NpySink:
    """NumPy's format: one array ``(n, width)`` of probabilities or values, in the network's dtype."""

    def __init__(self, file: AtomicFile, outputs: Outputs, rows: int, ids: Ids) -> None:
        header = io.BytesIO()
        dtype = outputs.dtype.newbyteorder("<")
        description = {"descr": dtype.str, "fortran_order": False, "shape": (rows, outputs.width)}
        np.lib.format.write_array_header_1_0(header, description)
        self._file, self._begin, self._row_bytes = file, header.tell(), outputs.width * dtype.itemsize
        self._dtype = dtype
        file.reserve(self._begin + rows * self._row_bytes)
        file.write_at(0, header.getvalue())

    def write(self, begin: int, block: np.ndarray) -> None:
        """Write the block in its place."""
        self._file.write_at(self._begin + begin * self._row_bytes, np.ascontiguousarray(block, self._dtype))

    def finish(self) -> None:
        """Do nothing: everything is in its place."""


class CsvSink:
    """Text: the class and the probabilities, or the values; numbers as short as they can be read back exactly.

    A line's place depends on those before it, so chunks that come early wait in memory, as text, for their turn.
    """

    def __init__(self, file: AtomicFile, outputs: Outputs, rows: int, ids: Ids) -> None:
        self._file, self._outputs, self._ids = file, outputs, ids
        self._waiting: dict[int, tuple[int, bytes]] = {}
        self._next_row = 0
        first = {"multiclass": ["class"], "binary": ["class"], "multilabel": ["labels"]}.get(outputs.task, [])
        file.write(_line(_titles(ids, [*first, *outputs.columns])).encode())
        self._prefixes = [_line([name]).removesuffix("\n") + "," for name in outputs.shown_names]

    def write(self, begin: int, block: np.ndarray) -> None:
        """Turn the block to text, and write all text whose turn has come."""
        numbers = _texts(block, self._outputs)
        names = self._names(begin, len(block))
        text = "".join(
            f"{name}{prefix}{','.join(row)}\n"
            for name, prefix, row in zip(names, self._decisions(block), numbers, strict=True)
        )
        self._waiting[begin] = len(block), text.encode()
        while self._next_row in self._waiting:
            rows, data = self._waiting.pop(self._next_row)
            self._file.write(data)
            self._next_row += rows

    def _names(self, begin: int, rows: int) -> list[str]:
        """Return the ids of each row."""
        if not self._ids:
            return [""] * rows
        columns = [values[begin : begin + rows].tolist() for values in self._ids.values()]
        return [_line(list(fields)).removesuffix("\n") + "," for fields in zip(*columns, strict=True)]

    def _decisions(self, block: np.ndarray) -> list[str]:
        """Return what stands in front of each row's numbers; no class where nothing could be predicted."""
        if self._outputs.regression:
            return [""] * len(block)
        chosen, lost = self._outputs.decide(block), np.isnan(block).any(axis=1)
        if chosen.ndim == 1:
            return ["," if gone else self._prefixes[c] for c, gone in zip(chosen, lost, strict=True)]
        names = np.array(self._outputs.shown_names, object)
        return [_line([";".join(names[row])]).removesuffix("\n") + "," for row in chosen]

    def finish(self) -> None:
        """Do nothing: the last chunk has released all others."""


def _titles(ids: Sequence[str] | Ids, predicted: Sequence[str]) -> list[str]:
    """Return the names of all columns, each once: those of ids that predictions have, too, become ``id_<name>``."""
    titles: list[str] = []
    for name in ids:
        while name in predicted or name in titles:
            name = f"id_{name}"
        titles.append(name)
    return [*titles, *predicted]


def _texts(block: np.ndarray, outputs: Outputs) -> list[list[str]]:
    """Return numbers as text that is read back exactly; values from scaled targets with the digits that they have."""
    if outputs.digits is not None:
        texts = np.array([f"{value:.{outputs.digits}g}" for value in block.reshape(-1).tolist()], object)
        texts = texts.reshape(block.shape)
    else:
        texts = block.astype(str).astype(object)
    texts[np.isnan(block)] = ""
    return texts.tolist()


def _line(fields: list[str]) -> str:
    """Return one line of CSV, quoted where necessary."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue()


def _hdf5(file: AtomicFile, outputs: Outputs, rows: int, ids: Ids) -> Sink:
    from onotrain.inference.hdf5_sink import Hdf5Sink

    return Hdf5Sink(file, outputs, rows, ids)


#: Suffix of the output -> how it is written.
SINKS: dict[str, Callable[[AtomicFile, Outputs, int, Ids], Sink]] = {".h5": _hdf5, ".npy": NpySink, ".csv": CsvSink}


def check_output(
    output: str | os.PathLike[str],
    suffixes: Sequence[str] = tuple(SINKS),
    *,
    inputs: Sequence[str | os.PathLike[str]] = (),
) -> Path:
    """Return the path of an output file that can be made by its name; nothing is opened yet.

    Parameters
    ----------
    output
        The path.
    suffixes
        To choose from; empty for any.
    inputs
        Files that are read: none of them is replaced.

    Raises
    ------
    UsageError
        Another suffix, a directory, one of the inputs, or in a directory that is not there.
    """
    path = Path(output)
    if suffixes and path.suffix not in suffixes:
        raise UsageError(
            f"{path}: an output with the suffix {path.suffix!r}; expected one of {', '.join(suffixes)}",
            hint="the suffix says in which format to write",
        )
    if path.is_dir():
        raise UsageError(f"{path}: is a directory, expected the name of a file")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no directory {path.parent}", hint=f"make it: mkdir -p {path.parent}")
    if path.exists() and any(os.path.exists(name) and path.samefile(name) for name in inputs):
        raise UsageError(f"{path}: would replace a file that is read as well", hint="use another --output")
    return path

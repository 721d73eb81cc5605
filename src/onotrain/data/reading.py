"""How the files of a data set are read: one after another here, together by the ranks of a node in `parallel.reading`.

Both count what they read, and both give the parts of a data set in the order of its files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol, TypeVar

from onotrain.data.dataset import DataSpec
from onotrain.errors import ResourceError

__all__ = ["FileReader", "FilesRead", "Progress", "ReadFiles", "in_turn", "no_progress"]

P = TypeVar("P")

#: Called with the files of a data set that have been read and their number: before the first, and after each.
Progress = Callable[[int, int], None]


def no_progress(done: int, files: int) -> None:
    """Show nothing."""


class ReadFiles(Protocol):
    """Reads the files of a data set."""

    def __call__(self, read: Callable[[DataSpec], P], specs: Sequence[DataSpec]) -> list[P]:
        """Return what `read` makes of each file, in the order of `specs`.

        Parameters
        ----------
        read
            Reads one file; a function of a module, or a `functools.partial` of one, for it may be sent to other ranks.
        specs
            Of the files, at least one.

        Raises
        ------
        OnotrainError
            What `read` raises for the first file that cannot be read.
        """
        ...


def in_turn(read: Callable[[DataSpec], P], specs: Sequence[DataSpec]) -> list[P]:
    """Read files one after another (`ReadFiles`)."""
    return [read(spec) for spec in specs]


@dataclass(frozen=True)
class FilesRead:
    """What it took to read the files of a run's data.

    Parameters
    ----------
    files, nbytes
        Number and size of the files that were read on a node [bytes].
    seconds
        From the first to the last of them, on the first rank [s].
    ranks_files, ranks_bytes
        How many of them each rank of the job has read, and their size [bytes].
    """

    files: int
    nbytes: int
    seconds: float
    ranks_files: tuple[int, ...]
    ranks_bytes: tuple[int, ...]


class FileReader:
    """Reads files one after another (`ReadFiles`), and counts them.

    Parameters
    ----------
    progress
        Learns how many have been read.

    Attributes
    ----------
    files, nbytes
        Number and size of those that this process has read [bytes].
    seconds
        How long it took, concatenation not included [s].
    """

    def __init__(self, progress: Progress = no_progress) -> None:
        self._progress = progress
        self.files, self.nbytes, self.seconds = 0, 0, 0.0

    def __call__(self, read: Callable[[DataSpec], P], specs: Sequence[DataSpec]) -> list[P]:
        """Read files."""
        begin = perf_counter()
        try:
            return self._read_all(read, specs)
        finally:
            self.seconds += perf_counter() - begin

    def _read_all(self, read: Callable[[DataSpec], P], specs: Sequence[DataSpec]) -> list[P]:
        parts: list[P] = []
        self._progress(0, len(specs))
        for spec in specs:
            parts.append(self._read_one(read, spec))
            self._progress(len(parts), len(specs))
        return parts

    def _read_one(self, read: Callable[[DataSpec], P], spec: DataSpec) -> P:
        try:
            part = read(spec)
        except MemoryError as error:
            what = f"{spec.path}: no memory is left to read it: {error}"
            raise ResourceError(what, hint="use a machine with more, fewer files, or data.stream") from error
        self.files, self.nbytes = self.files + 1, self.nbytes + size_of(spec)
        return part


def size_of(spec: DataSpec) -> int:
    """Return the size of a file [bytes]; 0 for samples in memory, built-in data and what is not there."""
    try:
        return 0 if spec.held is not None else os.stat(os.path.expanduser(spec.path)).st_size
    except OSError:
        return 0

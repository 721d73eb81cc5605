"""What training and prediction know of data that stay on the disk, and what all kinds of them share."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np

from onotrain.errors import DataError

#: Fewest bytes in memory of the samples of a block, so that a disk or network file system reads in long strokes.
BLOCK_BYTES = 1 << 22
#: Files of a stream that are open at a time.
MOST_OPEN = 32

T = TypeVar("T")


class Stream(Protocol):
    """Samples that stay in files and are read row by row; it can be pickled, and opens its files again when it reads.

    Attributes
    ----------
    source
        For messages.
    rows, features
        Number of samples, and of features of a sample.
    dtype
        Of the features in memory.
    edges
        int64, rising from 0 to `rows`: where blocks, which are best read whole, begin and end.
    block_rows
        Rows that are well read at once.
    """

    source: str
    rows: int
    features: int
    dtype: np.dtype
    edges: np.ndarray
    block_rows: int

    @property
    def nbytes(self) -> int:
        """Size that the features would have in memory [bytes]."""
        ...

    def read(self, begin: int, end: int, out_features: np.ndarray) -> None:
        """Read the rows ``[begin, end)`` into an array `dtype` ``(end - begin, features)``."""
        ...

    def again(self) -> Self:
        """Return the same with open files of its own, for another thread."""
        ...

    def close(self) -> None:
        """Close the files."""
        ...


@dataclass(frozen=True)
class _AsFound:
    """A file as it was when it was found."""

    path: str
    #: Size [bytes] and time of the last change [ns]; None if there was no file.
    size_and_time: tuple[int, int] | None

    @classmethod
    def of(cls, path: str) -> _AsFound:
        try:
            status = os.stat(path)
        except OSError:
            return cls(path, None)
        return cls(path, (status.st_size, status.st_mtime_ns))

    def check(self) -> None:
        now = self.of(self.path).size_and_time
        if self.size_and_time is None or now == self.size_and_time:
            return
        how = "has gone"
        if now is not None:
            how = "has been written to"
            if now[0] != self.size_and_time[0]:
                how = f"has changed from {self.size_and_time[0]:,} to {now[0]:,} bytes"
        raise DataError(
            f"{self.path}: the file {how} since it was opened",
            hint="files must stay as they are while they are streamed",
        )


class OpenFiles(Generic[T]):
    """Files that are opened when they are asked for, and of which those used last stay open.

    Parameters
    ----------
    opener
        Opens the file of a number.
    paths
        Of the files, by number, or what `again` passes on.
    """

    def __init__(
        self, opener: Callable[[int], AbstractContextManager[T]], paths: Sequence[str] | Sequence[_AsFound]
    ) -> None:
        self._opener = opener
        self._found = [path if isinstance(path, _AsFound) else _AsFound.of(path) for path in paths]
        self._open: OrderedDict[int, tuple[T, ExitStack]] = OrderedDict()

    def __getitem__(self, number: int) -> T:
        if number not in self._open:
            while len(self._open) >= MOST_OPEN:
                self._open.popitem(last=False)[1][1].close()
            self.check(number)
            with ExitStack() as stack:
                self._open[number] = stack.enter_context(self._opener(number)), stack.pop_all()
        self._open.move_to_end(number)
        return self._open[number][0]

    def again(self) -> OpenFiles[T]:
        """Return the same files, none of them open."""
        return OpenFiles(self._opener, self._found)

    def check(self, number: int) -> None:
        """Refuse what has been read of a file that is not the one that was found; call it after each read.

        A library that reads behind the end of a file that has been cut may give back zeros.

        Raises
        ------
        DataError
            Its size or the time of its last change is another one.
        """
        self._found[number].check()

    def close(self) -> None:
        """Close all files."""
        while self._open:
            self._open.popitem()[1][1].close()

    def __getstate__(self) -> dict[str, Any]:
        return {"_opener": self._opener, "_found": self._found, "_open": OrderedDict()}


def check_rows(stream: Stream, begin: int, end: int, out_features: np.ndarray) -> None:
    """Refuse to read other rows than a stream has, or into an array that does not fit them."""
    if not 0 <= begin <= end <= stream.rows or out_features.shape != (end - begin, stream.features):
        raise ValueError(f"rows {begin} to {end} of {stream.rows} into {out_features.shape}")


def spans(ends: Sequence[int], begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (number, begin, end) of the parts that rows ``[begin, end)`` lie in; a part's rows count from 0.

    Parameters
    ----------
    ends
        Row after the last one of each part.
    """
    number = bisect_right(ends, begin)
    while begin < end:
        first = ends[number - 1] if number else 0
        stop = min(end, ends[number])
        if begin < stop:
            yield number, begin - first, stop - first
        begin, number = stop, number + 1


def joined_blocks(sizes: Iterable[int], least: int) -> np.ndarray:
    """Return the edges (int64) of blocks of at least `least` rows, but for the last one.

    Parameters
    ----------
    sizes
        Rows of what is not to be cut, one after the other; several make a block.
    least
        Fewest rows of a block.
    """
    edges = [0]
    for end in accumulate(sizes):
        if end - edges[-1] >= least:
            edges.append(end)
        last = end
    return np.array([*edges, last] if last > edges[-1] else edges, np.int64)

"""The order of the samples of files that are larger than the memory.

Blocks of the files, permuted anew in each epoch, are dealt to windows that fit in memory; inside a window the samples
are permuted one by one.  All of it is a function of (seed, epoch) and of the files, never of the number of ranks.  What
fits in one window is shuffled exactly as if it lay in memory.  `docs/data.md` says how good the shuffle is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

#: ``shuffle(start, n, key, out)``: ``out[j] = P(start + j)`` with P the permutation of ``range(n)`` that `key` names.
Shuffle = Callable[[int, int, int, np.ndarray], object]


@dataclass(frozen=True)
class Window:
    """Blocks that are in memory at the same time.

    Parameters
    ----------
    number
        Of the window in the epoch.
    begin
        Position in the epoch of its first sample.
    samples
        Number of its samples that are trained on.
    blocks
        Rows ``[begin, end)`` of the file of each block, ascending.  One after the other they are the window's buffer.
    key
        Of the permutation of its samples.
    """

    number: int
    begin: int
    samples: int
    blocks: tuple[tuple[int, int], ...]
    key: int

    @property
    def rows(self) -> int:
        """Rows of the buffer."""
        return sum(end - begin for begin, end in self.blocks)


@dataclass(frozen=True)
class Chunk:
    """Successive positions of an epoch that lie in one window.

    Parameters
    ----------
    window
        Number of the window.
    begin, end
        The positions ``[begin, end)``.
    rows
        int64: row of the window's buffer of each.
    """

    window: int
    begin: int
    end: int
    rows: np.ndarray


class BlockOrder:
    """Which sample stands at which position of one epoch.

    Parameters
    ----------
    edges
        int64, rising from 0 to the number of rows: where the blocks begin and end.
    window_blocks
        Most blocks of a window; windows are made equally large.
    epoch
        Number of the epoch.
    key
        ``key(*purpose)`` gives a 64-bit key for a purpose of the run, such as ``partial(feed.key, seed)``.
    shuffle
        The keyed permutation of the kernels, ``shuffle_positions``.
    index
        Sorted int64 rows to train on, or None for all.
    """

    def __init__(
        self,
        edges: np.ndarray,
        window_blocks: int,
        epoch: int,
        key: Callable[..., int],
        shuffle: Shuffle,
        index: np.ndarray | None = None,
    ) -> None:
        if min(len(edges) - 1, window_blocks) < 1:
            raise ValueError(f"{len(edges) - 1} blocks, {window_blocks} blocks a window")
        self._shuffle, self._index = shuffle, index
        self.samples = int(edges[-1]) if index is None else len(index)
        self.windows = self._deal(edges, window_blocks, epoch, key)
        self._begins = np.array([window.begin for window in self.windows])
        self._buffer_rows: tuple[int, np.ndarray | None] = (-1, None)

    def _deal(self, edges: np.ndarray, window_blocks: int, epoch: int, key: Callable[..., int]) -> tuple[Window, ...]:
        """Deal the permuted blocks to windows."""
        blocks = len(edges) - 1
        count = -(-blocks // window_blocks)
        order = np.empty(blocks, np.int64)
        self._shuffle(0, blocks, key("blocks", epoch), order)
        windows: list[Window] = []
        position = 0
        for number in range(count):
            # Ascending within a window: the disk is read in one direction, and a single window is the file itself.
            mine = np.sort(order[blocks * number // count : blocks * (number + 1) // count])
            spans = tuple((int(edges[b]), int(edges[b + 1])) for b in mine)
            samples = sum(self._samples_in(*span) for span in spans)
            purpose = ("order", epoch, number) if number else ("order", epoch)
            windows.append(Window(number, position, samples, spans, key(*purpose)))
            position += samples
        return tuple(windows)

    def _samples_in(self, begin: int, end: int) -> int:
        """Return how many of the file's rows ``[begin, end)`` are trained on."""
        if self._index is None:
            return end - begin
        low, high = np.searchsorted(self._index, (begin, end))
        return int(high - low)

    def _trained_rows(self, window: Window) -> np.ndarray | None:
        """Return the rows of the window's buffer that are trained on, or None for all."""
        if self._index is None:
            return None
        if self._buffer_rows[0] != window.number:
            parts, offset = [], 0
            for begin, end in window.blocks:
                low, high = np.searchsorted(self._index, (begin, end))
                parts.append(self._index[low:high] - begin + offset)
                offset += end - begin
            self._buffer_rows = (window.number, np.concatenate(parts))
        return self._buffer_rows[1]

    def window_at(self, position: int) -> int:
        """Return the number of the window that holds a position of the epoch."""
        if not 0 <= position < self.samples:
            raise IndexError(f"position {position} of an epoch of {self.samples} samples")
        # Windows without a sample to train on begin where the next one does: the last of equals is meant.
        return int(np.searchsorted(self._begins, position, side="right")) - 1

    def chunks(self, begin: int, end: int) -> Iterator[Chunk]:
        """Yield where the positions ``[begin, end)`` of the epoch are, window by window."""
        if not 0 <= begin <= end <= self.samples:
            raise IndexError(f"positions {begin} to {end} of an epoch of {self.samples} samples")
        while begin < end:
            window = self.windows[self.window_at(begin)]
            stop = min(end, window.begin + window.samples)
            rows = np.empty(stop - begin, np.int64)
            self._shuffle(begin - window.begin, window.samples, window.key, rows)
            trained = self._trained_rows(window)
            yield Chunk(window.number, begin, stop, rows if trained is None else trained[rows])
            begin = stop

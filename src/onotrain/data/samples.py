"""Samples to be judged or predicted in order, wherever their features lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from onotrain.data.streams import Stream


class Samples(Protocol):
    """Samples that can be had by their numbers ``0 .. len``."""

    #: Of the features.
    dtype: np.dtype

    def __len__(self) -> int: ...

    def features(self, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Return an array and the int64 rows of it that are the features of samples ``[begin, end)``."""
        ...

    def targets(self, begin: int, end: int) -> np.ndarray:
        """Return the encoded targets of samples ``[begin, end)``."""
        ...

    def weights(self, begin: int, end: int) -> np.ndarray | None:
        """Return how much each of samples ``[begin, end)`` counts, in the compute dtype; None: all alike."""
        ...


class ArraySamples:
    """Samples in memory: all rows of the arrays, or those of `index`; `weights` are of the samples, in their order."""

    def __init__(
        self,
        features: np.ndarray,
        targets: np.ndarray,
        index: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ) -> None:
        self.dtype = features.dtype
        self._features, self._targets, self._index, self._weights = features, targets, index, weights

    def __len__(self) -> int:
        return len(self._features) if self._index is None else len(self._index)

    def _rows(self, begin: int, end: int) -> np.ndarray:
        return np.arange(begin, end) if self._index is None else self._index[begin:end]

    def features(self, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the whole array and the samples' rows."""
        return self._features, self._rows(begin, end)

    def targets(self, begin: int, end: int) -> np.ndarray:
        """Return a copy of the samples' targets."""
        return self._targets[self._rows(begin, end)]

    def weights(self, begin: int, end: int) -> np.ndarray | None:
        """Return a view of the samples' weights, if they have any."""
        return None if self._weights is None else self._weights[begin:end]


class StreamSamples:
    """Samples whose features stay in files: all their rows, or the sorted ones of `index`; weights in memory."""

    def __init__(
        self,
        stream: Stream,
        targets: np.ndarray,
        index: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ) -> None:
        self.dtype = stream.dtype
        self._stream, self._targets, self._index, self._weights = stream, targets, index, weights
        self._block = np.empty((0 if index is None else stream.block_rows, stream.features), stream.dtype)

    def __len__(self) -> int:
        return self._stream.rows if self._index is None else len(self._index)

    def _rows(self, begin: int, end: int) -> np.ndarray:
        return np.arange(begin, end) if self._index is None else self._index[begin:end]

    def features(self, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Read the blocks of the file that hold the samples; return the samples alone."""
        out = np.empty((end - begin, self._stream.features), self.dtype)
        if self._index is None:
            self._stream.read(begin, end, out)
            return out, np.arange(len(out))
        rows, size = self._index[begin:end], len(self._block)
        for block in np.unique(rows // size):
            first, last = np.searchsorted(rows, (block * size, (block + 1) * size))
            low, high = int(rows[first]), int(rows[last - 1]) + 1
            self._stream.read(low, high, self._block[: high - low])
            out[first:last] = self._block[rows[first:last] - low]
        return out, np.arange(len(rows))

    def targets(self, begin: int, end: int) -> np.ndarray:
        """Return a copy of the samples' targets."""
        return self._targets[self._rows(begin, end)]

    def weights(self, begin: int, end: int) -> np.ndarray | None:
        """Return a view of the samples' weights, if they have any."""
        return None if self._weights is None else self._weights[begin:end]


def blocks_of(samples: Samples, rows: int) -> Iterator[np.ndarray]:
    """Yield the features of successive samples, `rows` at a time."""
    for begin in range(0, len(samples), rows):
        features, chosen = samples.features(begin, min(begin + rows, len(samples)))
        yield features[chosen]


def samples_of(
    features: np.ndarray | None,
    targets: np.ndarray,
    index: np.ndarray | None,
    stream: Stream | None,
    weights: np.ndarray | None = None,
) -> Samples:
    """Return samples whose features are in memory, or else in `stream`; weights are of the samples in `index`."""
    if stream is not None:
        return StreamSamples(stream, targets, index, weights)
    if features is None:
        raise ValueError("neither features nor a stream")
    return ArraySamples(features, targets, index, weights)

"""Long flat vectors, a block at a time, so that all passes over a block find it in the cache."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

#: Elements of a block: a handful of them fit in a core's second-level cache.
BLOCK = 8192


def blocks(*vectors: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield the same block of all `vectors`, which have one length, as views, from the first to the last."""
    for begin in range(0, len(vectors[0]), BLOCK):
        yield tuple(vector[begin : begin + BLOCK] for vector in vectors)


def flush_subnormals(values: np.ndarray) -> None:
    """Set to zero what is too small to be a normal number of the dtype; NaN stays.

    Running means whose input has vanished sink into them, and x86 takes ten times as long for each.
    """
    np.copyto(values, 0.0, where=np.abs(values) < np.finfo(values.dtype).tiny)

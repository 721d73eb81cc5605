"""The reference implementations of what makes a batch of the samples of an epoch; see `onotrain._kernels.reference`."""

from __future__ import annotations

import numpy as np

from onotrain._kernels.reference import Array, expect, shuffle_positions


def batch_order(position: int, offset: int, every: int, own: int, n: int, key: Array, out: Array) -> None:
    """Write ``out[j] = P_key(start + j)`` with ``start = offset + position // every * own``; see `shuffle_positions`.

    Parameters
    ----------
    position
        Of the epoch, at which the global batch begins.
    offset, every, own
        Where what is permuted begins, and by how many it moves on when the batch does by `every`.
    n
        Size of the permuted range, below 2^62.
    key
        uint64 ``(1,)``: names the permutation.
    out
        int64 ``(r,)``; positions beyond `n` raise IndexError.
    """
    expect("key", key, 1, dtype=np.uint64)
    start = offset + position // every * own
    if start < 0 or len(out) > n - start:
        raise IndexError(f"position {position}: expected positions below {n}")
    shuffle_positions(start, n, int(key[0]), out)


def take(source: Array, index: Array, out: Array) -> None:
    """Write ``out = source[index]``.

    Parameters
    ----------
    source
        uint8 ``(n, bytes)``: rows of any dtype.
    index
        int64 ``(r,)``, each in ``range(n)``, else IndexError.
    out
        uint8 ``(r, bytes)``.
    """
    expect("source", source, *source.shape, dtype=np.uint8)
    expect("index", index, len(index), dtype=np.int64)
    expect("out", out, len(index), source.shape[1], dtype=np.uint8)
    outside = (index < 0) | (index >= len(source))
    if outside.any():
        bad = int(np.argmax(outside))
        raise IndexError(f"index[{bad}]: got {index[bad]}, expected one of the {len(source)} rows of source")
    out[...] = source[index]

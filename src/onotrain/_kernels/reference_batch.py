"""The reference implementations of what makes a batch of the samples of an epoch; see `onotrain._kernels.reference`."""

from __future__ import annotations

import math

import numpy as np

from onotrain._kernels.reference import Array, expect, silent


def _mix(x: Array) -> Array:
    """Return the hash of SplitMix64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def shuffle_positions(start: int, n: int, key: int, out: Array) -> None:
    """Write ``out[j] = P_key(start + j)``, with ``P_key`` a bijection of ``range(n)``.

    A Feistel network on ``Z_a x Z_a``, ``a = ceil(sqrt(n))``; a value beyond n is sent through again until it falls
    into the range (Black and Rogaway: Ciphers with arbitrary finite domains. CT-RSA 2002).

    Parameters
    ----------
    start
        First position, at least 0.
    n
        Size of the permuted range, below 2^62.
    key
        uint64: names the permutation.
    out
        int64 ``(m,)``, with ``start + m <= n``.
    """
    if start < 0 or n < 0 or len(out) > n - start:
        raise ValueError(f"positions {start} to {start + len(out)} do not lie in range({n})")
    if n >= 1 << 62:
        raise ValueError(f"n: got {n}, expected less than 2^62")
    expect("out", out, len(out), dtype=np.int64)
    a = np.uint64(math.isqrt(n - 1) + 1 if n else 0)
    round_keys = _mix(np.array([(key + j * 0x9E3779B97F4A7C15) % (1 << 64) for j in range(1, 9)], np.uint64))
    x = np.arange(start, start + len(out), dtype=np.uint64)
    walking = np.ones(len(x), bool)
    while walking.any():
        left, right = np.divmod(x[walking], a)
        for round_key in round_keys:
            turn = ((_mix(right + round_key) >> np.uint64(32)) * a) >> np.uint64(32)
            left, right = right, (left + turn) % a
        x[walking] = left * a + right
        walking = x >= n
    out[...] = x


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


@silent
def gather(source: Array, index: Array, shift: Array, scale: Array, out: Array) -> None:
    """Write ``out = (source[index] - shift) * scale``.

    Parameters
    ----------
    source
        ``(n, i)`` uint8, float32 or float64.
    index
        int64 ``(r,)``, each in ``range(n)``, else IndexError.
    shift, scale
        ``(i,)``, float64 if `source` is, else the dtype of `out`.
    out
        ``(r, i)``.
    """
    if source.ndim != 2 or source.dtype not in (np.uint8, np.float32, np.float64):
        raise ValueError(f"source: got {source.dtype} {source.shape}, expected uint8, float32 or float64 (n, i)")
    expect("source", source, *source.shape)
    expect("index", index, len(index), dtype=np.int64)
    affine = np.float64 if source.dtype == np.float64 else out.dtype
    expect("shift", shift, source.shape[1], dtype=affine)
    expect("scale", scale, source.shape[1], dtype=affine)
    expect("out", out, len(index), source.shape[1])
    outside = (index < 0) | (index >= len(source))
    if outside.any():
        bad = int(np.argmax(outside))
        raise IndexError(f"index[{bad}]: got {index[bad]}, expected one of the {len(source)} rows of source")
    out[...] = (source[index] - shift) * scale


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

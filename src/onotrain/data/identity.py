"""Whether data are the same as before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import zip_longest

import numpy as np

#: Of an array larger than this, equally spaced rows count [bytes].
_MOST_BYTES = 1 << 28


#: Of features that may be streamed, samples that count.
_ROWS = 64


def some_rows(samples: int) -> np.ndarray:
    """Return the numbers of samples whose features stand for all, where they may stay on the disk."""
    return np.unique(np.linspace(0, samples - 1, min(samples, _ROWS)).astype(np.int64))


def digest_of(arrays: Iterable[np.ndarray | None]) -> str:
    """Return a digest of the values of arrays, in their order (text as UTF-32)."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        if array is None:
            continue
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        step = max(1, array.nbytes // _MOST_BYTES)
        digest.update(np.ascontiguousarray(array[::step]).view(np.uint8).data)
    return digest.hexdigest()


def known_to_both(one: str, other: str) -> tuple[str, str]:
    """Return two digests without the parts, between colons, that one of them leaves open."""
    pairs = [pair if all(pair) else ("", "") for pair in zip_longest(one.split(":"), other.split(":"), fillvalue="")]
    return ":".join(first for first, _ in pairs), ":".join(second for _, second in pairs)

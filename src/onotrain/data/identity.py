"""Whether data are the same as before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

import numpy as np

from onotrain.data.tables.table import Column

#: Of an array larger than this, equally spaced rows count [bytes].
_MOST_BYTES = 1 << 28


#: Of features that may be streamed, samples that count.
_ROWS = 64
#: Digests of a training file, of which a table has one.
_OF_TRAINING = 3


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


def digest_of_table(table: Iterable[Column]) -> str:
    """Return a digest of the values of columns, and of what the codes of text stand for."""
    return digest_of(each for column in table for each in (column.values, np.array(column.categories or (), str)))


def identity_of(train: Sequence[str], held_out: Mapping[str, str]) -> str:
    """Return the digest of all data of a run.

    Parameters
    ----------
    train
        Digests of the training file: of a table, or of targets, features and weights.
    held_out
        By part, of samples of its own.
    """
    every = [*train, *[""] * (_OF_TRAINING - len(train)), *(held_out.get(part, "") for part in ("validation", "test"))]
    return ":".join(every).rstrip(":")


def known_to_both(one: str, other: str) -> tuple[str, str]:
    """Return two digests without the parts, between colons, that one of them leaves open."""
    pairs = [pair if all(pair) else ("", "") for pair in zip_longest(one.split(":"), other.split(":"), fillvalue="")]
    return ":".join(first for first, _ in pairs), ":".join(second for _, second in pairs)

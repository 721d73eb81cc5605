"""Many files, read once per node: each rank of the node reads its share of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Share", "gathered", "read_share"]

T = TypeVar("T")


@dataclass(frozen=True)
class Share(Generic[T]):
    """What one rank has read.

    Parameters
    ----------
    numbers
        Of the files, counted from 0 in the order of all files.
    parts
        What each file held.
    files
        Number of all files, of all ranks.
    nbytes
        Size of these files: what was read from the disk, if `read` reads a file once.
    """

    numbers: tuple[int, ...]
    parts: tuple[T, ...]
    files: int
    nbytes: int


def read_share(
    paths: Sequence[str],
    rank: int,
    size: int,
    read: Callable[[str], T],
    progress: Callable[[int, int], None] | None = None,
) -> Share[T]:
    """Read the files ``paths[rank::size]``.

    It sends no messages: the ranks of a node call it at once, each with its own rank, and exchange what comes out, or
    have `read` write it into memory that they share.

    Parameters
    ----------
    paths
        Of all files, the same on every rank.
    rank, size
        Of this rank among those of its node, and their number.
    read
        Reads one file: a table, a data set, or only its shape.
    progress
        Called before the first and after every file with the files done and to do, of this rank.

    Raises
    ------
    ValueError
        There is no such rank.
    OnotrainError
        Whatever `read` raises, on this rank alone: ranks must agree on it before the next collective.
    """
    if not 0 <= rank < size:
        raise ValueError(f"rank {rank} of {size}")
    numbers = range(rank, len(paths), size)
    report = progress or (lambda done, total: None)
    report(0, len(numbers))
    parts, nbytes = [], 0
    for done, number in enumerate(numbers, 1):
        parts.append(read(paths[number]))
        nbytes += os.stat(os.path.expanduser(paths[number])).st_size
        report(done, len(numbers))
    return Share(tuple(numbers), tuple(parts), len(paths), nbytes)


def gathered(shares: Sequence[Share[T]]) -> list[T]:
    """Return what all ranks have read, in the order of the files.

    Raises
    ------
    ValueError
        A file is missing, or was read twice.
    """
    by_number = {number: part for share in shares for number, part in zip(share.numbers, share.parts, strict=True)}
    count, files = sum(len(share.numbers) for share in shares), shares[0].files
    if count != files or sorted(by_number) != list(range(files)):
        raise ValueError(f"{count} parts of {files} files: {sorted(by_number)}")
    return [by_number[number] for number in range(files)]

"""Blocks of rows: what ranks of a node sum over them, they sum in the same order for any number of ranks.

A batch is cut into nearly `BLOCKS` blocks of as many rows each, whoever computes them.
"""

from __future__ import annotations

#: Most blocks of a batch.  Ranks get whole blocks, so with few their slices are uneven; with many there is much to sum.
BLOCKS = 32


def block_rows(samples: int) -> int:
    """Return the rows of a block of a batch of `samples`; the last block may have less."""
    return max(1, -(-samples // BLOCKS))


def blocks(samples: int) -> int:
    """Return the number of blocks of a batch."""
    return -(-samples // block_rows(samples))

"""Samples that a rank has to itself, and where in an epoch they stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from onotrain.data.batches import Batch


@dataclass(frozen=True)
class Positions:
    """The positions of an epoch that a rank computes: its slices of the batches.

    Parameters
    ----------
    samples
        Of the epoch.
    batch_size
        Of all batches but the last, which may be shorter.
    local
        The rank's slice of a batch, the same in all batches of one length.
    """

    samples: int
    batch_size: int
    local: Callable[[Batch], Batch]

    def __len__(self) -> int:
        whole, rest = divmod(self.samples, self.batch_size)
        return whole * len(self._of(self.batch_size)) + len(self._of(rest))

    def place(self, samples: int, part: Batch) -> tuple[int, int, int]:
        """Return where `part` of its slice of a batch of `samples` begins among the rank's positions.

        Three numbers: it is ``first + begin // every * own`` for the batch that begins at `begin`.
        """
        first = part.begin - self._of(samples).begin
        return first, self.batch_size, len(self._of(self.batch_size))

    def _of(self, length: int) -> Batch:
        return self.local(Batch(0, length))


@dataclass(frozen=True)
class Pool:
    """What a rank trains on.

    Parameters
    ----------
    number
        Its number among those that compute.
    index
        int64 numbers of its samples, as many as its positions.
    sizes
        Of the pools of all ranks that compute.
    positions
        Where the rank's samples stand in an epoch.
    counts
        int64 ``(pools, classes)``, how many samples of each class are in each; None if they are not dealt out by it.
    """

    number: int
    index: np.ndarray
    sizes: tuple[int, ...]
    positions: Positions
    counts: np.ndarray | None = None

    @property
    def samples(self) -> int:
        """Samples of all ranks."""
        return self.positions.samples

    def summary(self) -> dict[str, Any]:
        """Return what a summary says of it (JSON-able)."""
        counts = {} if self.counts is None else {"label_counts": self.counts.tolist()}
        return {"samples": list(self.sizes), **counts}

    def place(self, samples: int, part: Batch) -> tuple[int, int, int]:
        """Return where `part` of the rank's slice begins among its positions: see `Positions.place`."""
        return self.positions.place(samples, part)

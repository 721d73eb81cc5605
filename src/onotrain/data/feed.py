"""The way of samples into a rank's buffers.

The order of the samples of an epoch is a keyed permutation, a function of (seed, epoch) alone: position ``p`` of the
epoch holds sample ``P(p)``, computed where it is needed.  No rank stores an order, and each computes only its own
slice.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from onotrain._kernels import Kernels
from onotrain.data.batches import Batch
from onotrain.data.normalization import Normalization
from onotrain.data.sample_pool import Pool
from onotrain.seeds import key


class Feed(Protocol):
    """Where a rank's samples come from."""

    #: Samples of an epoch.
    samples: int
    #: Windows that the samples of an epoch are shuffled in, and sizes of the pools that they are partitioned into, if
    #: they are; with the seed, they name the order.
    windows: int
    pools: tuple[int, ...]
    #: Whether samples have weights.
    weighted: bool
    #: How much each output counts in the loss of these samples, ``(outputs,)``; None: all alike, and no target is
    #: missing.
    output_weights: np.ndarray | None

    def fill(
        self,
        epoch: int,
        batch: Batch,
        part: Batch,
        x: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray | None = None,
    ) -> None:
        """Write the samples at the positions of `part` of `epoch` to ``x`` and ``targets``, which are as long as it.

        ``weights``, ``(r,)``, are written too unless they are None, which they must be where samples have none.

        *Collective* over the node where the data are streamed: the same `batch`, of which `part` is this rank's
        local slice, or a micro-batch of that.
        """
        ...


class ArrayFeed:
    """Samples of a data set that lies in memory (shared by the node).

    Parameters
    ----------
    features, targets
        Whole arrays, ``(n, d)`` and ``(n,)`` or ``(n, k)``.
    index
        int64 numbers of the samples to train on, or None for all.
    normalization
        Applied on the way.
    seed
        Of the order.
    kernels
        Kernels of the dtype to compute in.
    pool
        This rank's samples, if they are partitioned, which `index` then does not count for: they are permuted among the
        positions of this rank, the only ones that it may ask for.
    weights
        How much each sample counts, ``(n,)`` in the dtype to compute in; None: all alike.
    output_weights
        How much each output counts, ``(outputs,)`` in this dtype; None: all alike, and no target is missing.
    """

    def __init__(
        self,
        features: np.ndarray,
        targets: np.ndarray,
        index: np.ndarray | None,
        normalization: Normalization,
        seed: int,
        kernels: Kernels,
        pool: Pool | None = None,
        weights: np.ndarray | None = None,
        output_weights: np.ndarray | None = None,
    ) -> None:
        self._features, self._targets, self._pool, self._weights = features, targets, pool, weights
        self.weighted, self.output_weights = weights is not None, output_weights
        self._index = index if pool is None else pool.index
        self._kernels, self._seed = kernels, seed
        self._shift, self._scale = normalization.for_storage(features.dtype, features.shape[1], kernels.dtype)
        self._own = len(features) if self._index is None else len(self._index)
        self.samples = self._own if pool is None else pool.samples
        self.windows, self.pools = 1, () if pool is None else pool.sizes
        self._key = (-1, 0)
        self._positions = np.empty(0, np.int64)

    def fill(
        self,
        epoch: int,
        batch: Batch,
        part: Batch,
        x: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray | None = None,
    ) -> None:
        """Gather, normalise and copy; no communication."""
        if self._key[0] != epoch:
            purpose = ("order", epoch) if self._pool is None else ("order", epoch, self._pool.number)
            self._key = (epoch, key(self._seed, *purpose))
        if len(self._positions) < len(part):
            self._positions = np.empty(len(part), np.int64)
        rows = self._positions[: len(part)]
        begin = part.begin if self._pool is None else self._pool.begin(batch, part)
        self._kernels.shuffle_positions(begin, self._own, self._key[1], rows)
        if self._index is not None:
            rows = self._index[rows]
        self._kernels.gather(self._features, rows, self._shift, self._scale, x)
        np.take(self._targets, rows, axis=0, out=targets, mode="clip")
        if weights is not None and self._weights is not None:
            np.take(self._weights, rows, out=weights, mode="clip")

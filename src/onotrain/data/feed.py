"""The way of samples into a rank's buffers.

The order of the samples of an epoch is a keyed permutation, a function of (seed, epoch) alone: position ``p`` of the
epoch holds sample ``P(p)``, computed where it is needed.  No rank stores an order, and each computes only its own
slice.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from onotrain._kernels import Kernels
from onotrain._kernels.recording import Live
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

    def begin_epoch(self, epoch: int) -> None:
        """Take the samples in the order of this epoch from now on."""
        ...

    def record(
        self, samples: int, part: Batch, x: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
    ) -> list[Any]:
        """Return the calls that fetch samples of a batch, for a program (`onotrain._kernels.Kernels.program`).

        They write to ``x`` and ``targets``, which are as long as `part`, and to ``weights``, ``(r,)``, unless they are
        None, which they must be where samples have none.

        *Collective* over the node where the data are streamed: the same steps.

        Parameters
        ----------
        samples
            Of the global batch, which begins at the position at which the program runs.
        part
            Which rows of it: this rank's local slice, or a micro-batch of that.
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
        numbers = index if pool is None else pool.index
        self._index = None if numbers is None else np.ascontiguousarray(numbers)
        self._kernels, self._seed = kernels, seed
        self._shift, self._scale = normalization.for_storage(features.dtype, features.shape[1], kernels.dtype)
        self._own = len(features) if self._index is None else len(self._index)
        self.samples = self._own if pool is None else pool.samples
        self.windows, self.pools = 1, () if pool is None else pool.sizes
        #: Of the epoch's order.
        self._key = np.zeros(1, np.uint64)

    def begin_epoch(self, epoch: int) -> None:
        """Choose the key of the epoch's order."""
        purpose = ("order", epoch) if self._pool is None else ("order", epoch, self._pool.number)
        self._key[0] = key(self._seed, *purpose)

    def record(
        self, samples: int, part: Batch, x: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
    ) -> list[Any]:
        """Gather, normalise and copy; no communication."""
        if not len(part):
            return []
        record = self._kernels.record
        numbers = rows = np.empty(len(part), np.int64)
        offset, every, own = (part.begin, 1, 1) if self._pool is None else self._pool.place(samples, part)
        calls = [record("batch_order", Live.POSITION, offset, every, own, self._own, self._key, numbers)]
        if self._index is not None:
            rows = np.empty_like(numbers)
            calls.append(record("take", _as_bytes(self._index), numbers, _as_bytes(rows)))
        calls.append(record("gather", self._features, rows, self._shift, self._scale, x))
        calls.append(record("take", _as_bytes(self._targets), rows, _as_bytes(targets)))
        if weights is not None and self._weights is not None:
            calls.append(record("take", _as_bytes(self._weights), rows, _as_bytes(weights)))
        return calls


def _as_bytes(array: np.ndarray) -> np.ndarray:
    """Return an array, C-contiguous, as uint8 ``(rows, bytes)`` in the same memory."""
    return array.reshape(len(array), -1).view(np.uint8)

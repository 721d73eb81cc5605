"""What a test asks of a feed: the batches of an epoch, and samples at once instead of a program of many steps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onotrain import _kernels
from onotrain.data.batches import Batch
from onotrain.data.feed import Feed


def batches(samples: int, batch_size: int, start: int = 0) -> Iterator[Batch]:
    """Yield the global batches of an epoch from position `start` on; the last may be short."""
    for begin in range(start, samples, batch_size):
        yield Batch(begin, min(begin + batch_size, samples))


def fill(
    feed: Feed,
    epoch: int,
    batch: Batch,
    part: Batch,
    x: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray | None = None,
) -> None:
    """Write the samples at the positions of `part` of `epoch` to the arrays."""
    feed.begin_epoch(epoch)
    rows = Batch(part.begin - batch.begin, part.end - batch.begin)
    calls = feed.record(len(batch), rows, x, targets, weights)
    _kernels.load("float32").program(calls).run(0, batch.begin)

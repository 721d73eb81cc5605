"""What a test asks of a feed: the batches of an epoch, and samples at once instead of a program of many steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from onotrain import _kernels
from onotrain._kernels.recording import Live, PythonCall
from onotrain.data.batches import Batch
from onotrain.data.feed import ArrayFeed, Feed

#: Takes the epoch, positions within it, and the features and targets that were fetched for them.
Note = Callable[[int, Batch, np.ndarray, np.ndarray], None]


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


def watch(monkeypatch: pytest.MonkeyPatch, note: Note) -> None:
    """Let `note` learn of what this rank fetches from samples in memory, in every step."""
    begin_epoch, record = ArrayFeed.begin_epoch, ArrayFeed.record
    current = -1

    def begun(feed: ArrayFeed, epoch: int) -> None:
        nonlocal current
        current = epoch
        begin_epoch(feed, epoch)

    def recorded(feed: ArrayFeed, samples: int, part: Batch, x: np.ndarray, targets: np.ndarray, *more: Any) -> Any:
        def fetched(position: int) -> None:
            note(current, Batch(position + part.begin, position + part.end), x, targets)

        return [*record(feed, samples, part, x, targets, *more), PythonCall(fetched, Live.POSITION)]

    monkeypatch.setattr(ArrayFeed, "begin_epoch", begun)
    monkeypatch.setattr(ArrayFeed, "record", recorded)

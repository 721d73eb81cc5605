"""Batches: a partition of the epoch, and the same samples whatever the number of ranks."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from feeding import batches, fill
from onotrain import _kernels
from onotrain.data.batches import Batch
from onotrain.data.feed import ArrayFeed
from onotrain.data.normalization import Normalization
from onotrain.seeds import key


@given(st.integers(1, 300), st.integers(1, 64), st.integers(1, 9), st.integers(1, 4))
def test_batches_slices_and_micro_batches_partition_an_epoch(samples: int, size: int, ranks: int, count: int) -> None:
    """Nothing is dropped or taken twice; parts of a batch differ by one sample at most."""
    position = 0
    for batch in batches(samples, size):
        assert batch.begin == position and 0 < len(batch) <= size
        parts = [batch.slice(rank, ranks) for rank in range(ranks)]
        lengths = [len(part) for part in parts]
        assert max(lengths) - min(lengths) <= 1 and sum(lengths) == len(batch)
        flat = [rows for part in parts for rows in part.micro_batches(count)]
        assert [p for rows in flat for p in range(rows.begin, rows.end)] == list(range(batch.begin, batch.end))
        position = batch.end
    assert position == samples


def take(feed: ArrayFeed, epoch: int, batch: Batch, ranks: int) -> np.ndarray:
    """Return the targets that all ranks together get of a batch."""
    got = []
    for rank in range(ranks):
        part = batch.slice(rank, ranks)
        x, y = np.empty((len(part), 2), np.float32), np.empty(len(part), np.int32)
        fill(feed, epoch, batch, part, x, y)
        np.testing.assert_array_equal(x[:, 0], y)
        np.testing.assert_allclose(x[:, 1], (y / 255 - 0.5) / 0.25, rtol=1e-5, atol=1e-6)
        got.append(y)
    return np.concatenate(got)


def test_same_samples_for_any_number_of_ranks() -> None:
    """The order is a function of seed and epoch; every epoch holds every sample of the index once."""
    n = 200
    features = np.stack([np.arange(n), np.arange(n)], axis=1).astype(np.uint8)
    normalization = Normalization.given((0.0, 0.5), (1 / 255, 0.25))
    index = np.flatnonzero(np.arange(n) % 3)
    feed = ArrayFeed(features, np.arange(n, dtype=np.int32), index, normalization, 4, _kernels.load("float32"))
    assert feed.samples == len(index)
    orders = []
    for epoch in (0, 1):
        by_ranks = [
            np.concatenate([take(feed, epoch, b, ranks) for b in batches(len(index), 32)]) for ranks in (1, 3, 50)
        ]
        np.testing.assert_array_equal(by_ranks[0], by_ranks[1])
        np.testing.assert_array_equal(by_ranks[0], by_ranks[2])
        assert sorted(by_ranks[0]) == index.tolist()
        orders.append(by_ranks[0].tolist())
    assert orders[0] != orders[1] and orders[0] != sorted(orders[0])


def test_keys_of_purposes_differ() -> None:
    """Dropout and order of one seed share no stream, nor do epochs."""
    keys = {key(0, "order", 0), key(0, "order", 1), key(1, "order", 0), key(0, "dropout"), key(0, "blocks", 0)}
    assert len(keys) == 5 and all(0 <= k < 2**64 for k in keys)

"""Partitions: every sample once in an epoch, by the rank that it belongs to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeding import batches, fill
from onotrain import _kernels
from onotrain.data import partition
from onotrain.data.batches import Batch
from onotrain.data.feed import ArrayFeed
from onotrain.data.normalization import Normalization
from onotrain.data.partition import label_counts, pool_by_label, pool_by_rank
from onotrain.data.sample_pool import Pool, Positions

KERNELS = _kernels.load("float32")


def slices_of(samples: int, batch_size: int, ranks: int) -> list[Positions]:
    """Return the slices of each rank."""

    def of(rank: int) -> Positions:
        return Positions(samples, batch_size, lambda batch: batch.slice(rank, ranks))

    return [of(rank) for rank in range(ranks)]


def by_label(labels: np.ndarray, counts: np.ndarray, seed: int) -> list[np.ndarray]:
    """Return all pools."""
    return [
        pool_by_label(number, counts, lambda samples: labels[samples], seed, KERNELS) for number in range(len(counts))
    ]


def assert_partition(pools: Sequence[np.ndarray], sizes: Sequence[int]) -> None:
    """Pools have their sizes, are disjoint and cover everything."""
    assert [len(pool) for pool in pools] == list(sizes)
    np.testing.assert_array_equal(np.sort(np.concatenate(pools)), np.arange(sum(sizes)))


@given(st.integers(1, 300), st.integers(1, 64), st.integers(1, 9))
def test_slices_count_the_positions_of_a_rank(samples: int, batch_size: int, ranks: int) -> None:
    """Against counting; also of a short last batch, and of batches of fewer samples than there are ranks."""
    for rank, slices in enumerate(slices_of(samples, batch_size, ranks)):
        own: list[int] = []
        for batch in batches(samples, batch_size):
            mine = Batch(0, len(batch)).slice(rank, ranks)
            for row in range(mine.begin, mine.end):
                first, every, step = slices.place(len(batch), Batch(row, mine.end))
                own.append(first + batch.begin // every * step)
        assert own == list(range(len(slices)))


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any), st.integers(0, 2**64 - 1))
def test_pools_by_rank_are_a_partition(sizes: list[int], seed: int) -> None:
    """And a function of the seed."""
    pools = [pool_by_rank(number, sizes, seed, KERNELS) for number in range(len(sizes))]
    assert_partition(pools, sizes)
    np.testing.assert_array_equal(pools[-1], pool_by_rank(len(sizes) - 1, sizes, seed, KERNELS))


def test_pools_by_rank_are_random() -> None:
    """Another seed has others; a pool is drawn from everywhere."""
    pools = [pool_by_rank(1, [500] * 4, seed, KERNELS) for seed in (0, 1)]
    assert 60 < len(np.intersect1d(*pools)) < 190  # 125 expected
    for pool in pools:
        assert (np.bincount(pool // 500, minlength=4) > 80).all()


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=12).filter(any),
    st.integers(1, 9),
    st.floats(1e-6, 1e6),
    st.integers(0, 2**64 - 1),
    st.data(),
)
def test_pools_by_label_are_a_partition(
    class_sizes: list[int], pools: int, alpha: float, seed: int, data: st.DataObject
) -> None:
    """Of any sizes, with any concentration: rows and columns have their sums, and pools hold what the counts say."""
    n = sum(class_sizes)
    cuts = sorted(data.draw(st.lists(st.integers(0, n), min_size=pools - 1, max_size=pools - 1)))
    sizes = np.diff([0, *cuts, n]).tolist()
    counts = label_counts(np.array(class_sizes), sizes, alpha, seed)
    assert counts.min() >= 0
    assert counts.sum(axis=1).tolist() == sizes and counts.sum(axis=0).tolist() == class_sizes
    np.testing.assert_array_equal(counts, label_counts(np.array(class_sizes), sizes, alpha, seed))
    labels = np.random.default_rng(3).permutation(np.repeat(np.arange(len(class_sizes)), class_sizes))
    made = by_label(labels, counts, seed)
    assert_partition(made, sizes)
    for pool, count in zip(made, counts, strict=True):
        np.testing.assert_array_equal(np.bincount(labels[pool], minlength=len(class_sizes)), count)


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pools are the same in whatever count the samples are looked at."""
    labels = np.random.default_rng(0).integers(0, 5, 1000)
    counts = label_counts(np.bincount(labels), [300, 300, 400], 0.5, 0)
    whole = by_label(labels, counts, 0)
    monkeypatch.setattr(partition, "_BLOCK", 37)
    for pool, again in zip(whole, by_label(labels, counts, 0), strict=True):
        np.testing.assert_array_equal(pool, again)


def skew(class_sizes: Sequence[int], pools: int, alpha: float, seed: int) -> float:
    """Return how far the pools' shares of classes are from those of all samples: mean total variation, 0 to 1."""
    sizes = np.full(pools, sum(class_sizes) // pools)
    sizes[: sum(class_sizes) % pools] += 1
    counts = label_counts(np.array(class_sizes), sizes.tolist(), alpha, seed)
    shares, whole = counts / sizes[:, None], np.array(class_sizes) / sum(class_sizes)
    return float(np.abs(shares - whole).sum(axis=1).mean() / 2)


@given(st.lists(st.integers(300, 400), min_size=4, max_size=10), st.integers(2, 8), st.integers(0, 2**31))
def test_concentration_says_how_alike_pools_are(class_sizes: list[int], pools: int, seed: int) -> None:
    """A large one makes them like the whole, to rounding in the limit, and a small one leaves them few classes."""
    assert skew(class_sizes, pools, 1e6, seed) < 0.02
    assert skew(class_sizes, pools, 100.0, seed) < 0.12
    few, all_alike = (np.mean([skew(class_sizes, pools, alpha, seed + n) for n in range(8)]) for alpha in (0.01, 100.0))
    assert few > 2 * all_alike + 0.1  # of one draw alone, chance may make two pools much alike


def test_skew_falls_with_concentration() -> None:
    """On average over seeds, and also where classes are of very different sizes."""
    for class_sizes in ([1000] * 10, [5000, 2000, 1000, 500, 500]):
        means = [np.mean([skew(class_sizes, 8, alpha, seed) for seed in range(20)]) for alpha in (0.05, 0.5, 5.0, 50.0)]
        assert all(before > 1.3 * after for before, after in zip(means, means[1:], strict=False)), means


def test_shares_are_those_of_the_distribution() -> None:
    """While classes last: moments of a symmetric Dirichlet, whose draws are `exp` of what is computed, normalised."""
    logs = partition.log_shares(np.full(4, 0.5), 20_000, 7)
    shares = np.exp(logs - logs.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares.mean(axis=0), 0.25, atol=0.01)
    np.testing.assert_allclose(shares.var(axis=0), 0.25 * 0.75 / 3.0, atol=0.003)


@pytest.mark.parametrize(("ranks", "batch_size"), [(1, 32), (3, 32), (4, 30), (7, 5), (4, 500)])
def test_an_epoch_permutes_each_pool_among_its_rank_s_positions(ranks: int, batch_size: int) -> None:
    """Every sample once in an epoch, by the same rank in all epochs, in another order; also piece by piece."""
    n = 203
    features = np.arange(n, dtype=np.float32)[:, None]
    index = np.random.default_rng(0).permutation(n)[:150]
    each = slices_of(len(index), batch_size, ranks)
    sizes = tuple(len(slices) for slices in each)
    orders = []
    for rank, slices in enumerate(each):
        own = index[pool_by_rank(rank, sizes, 5, KERNELS)]
        pool = Pool(rank, own, sizes, slices)
        feed = ArrayFeed(features, np.arange(n, dtype=np.int32), index, Normalization.none(), 5, KERNELS, pool)
        assert feed.samples == len(index) and feed.pools == sizes
        epochs = [taken(feed, epoch, batch_size, rank, ranks, count) for epoch, count in ((0, 1), (0, 3), (1, 1))]
        assert epochs[0] == epochs[1]
        for epoch in epochs:
            assert sorted(epoch) == sorted(own)
        if len(own) > 5:
            assert epochs[0] != epochs[2]
            orders.append(np.argsort(np.argsort(epochs[0])).tolist())
    assert all(a != b for a, b in zip(orders, orders[1:], strict=False))  # pools are not all permuted alike


def taken(feed: ArrayFeed, epoch: int, batch_size: int, rank: int, ranks: int, count: int) -> list[int]:
    """Return the samples of an epoch that a rank gets, in their order."""
    got: list[int] = []
    for batch in batches(feed.samples, batch_size):
        for part in batch.slice(rank, ranks).micro_batches(count):
            x, y = np.empty((len(part), 1), np.float32), np.empty(len(part), np.int32)
            fill(feed, epoch, batch, part, x, y)
            np.testing.assert_array_equal(x[:, 0], y)
            got += y.tolist()
    return got


def test_where_a_rank_computes_nothing() -> None:
    """Servers have no positions, and may ask for an empty part."""
    slices = Positions(10, 4, lambda batch: Batch(batch.begin, batch.begin))
    assert len(slices) == 0
    pool = Pool(0, np.empty(0, np.int64), (10,), slices)
    feed = ArrayFeed(
        np.zeros((10, 1), np.float32), np.zeros(10, np.int32), None, Normalization.none(), 0, KERNELS, pool
    )
    fill(feed, 0, Batch(4, 8), Batch(4, 4), np.empty((0, 1), np.float32), np.empty(0, np.int32))
    assert feed.samples == 10

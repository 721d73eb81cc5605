"""Slices of the global batch in proportion to throughput."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onotrain.data.batches import Batch
from onotrain.strategies.balance import Balance, LocalSlices, apportion
from onotrain.strategies.telemetry import Clock

WEIGHTS = st.lists(st.one_of(st.integers(1, 10), st.integers(1, 2**32)), min_size=1, max_size=12)


def rows(balance: Balance, batch: int) -> list[int]:
    """Return the rows of each rank."""
    bounds = balance.bounds(batch)
    assert bounds.dtype == np.int64 and bounds[0] == 0 and bounds[-1] == batch
    return np.diff(bounds).tolist()


@pytest.mark.parametrize(
    ("total", "weights", "expected"),
    [
        (10, [1, 1], [5, 5]),
        (10, [1, 1, 1], [4, 3, 3]),  # 3.33 each: the first wins the tie
        (10, [3, 2, 1], [5, 3, 2]),  # 5, 3.33, 1.67
        (10, [6, 3, 3], [5, 3, 2]),  # 5, 2.5, 2.5
        (4, [100, 1, 1], [2, 1, 1]),  # 3.92, 0.04, 0.04: nobody goes without
        (4, [100, 101, 1, 1], [1, 1, 1, 1]),
        (5, [100, 101, 1, 1], [1, 2, 1, 1]),  # 2.46, 2.49: the faster one keeps its second
        (2, [1, 5, 5], [0, 1, 1]),  # fewer rows than ranks
        (0, [3, 4], [0, 0]),
    ],
)
def test_apportion_by_hand(total: int, weights: list[int], expected: list[int]) -> None:
    """Largest remainder; at least 1 where there is enough."""
    assert apportion(total, weights) == expected


@given(st.integers(0, 5000), WEIGHTS)
def test_apportion(total: int, weights: list[int]) -> None:
    """The sum is kept, nobody goes without, who is faster has no less, and quotas are kept where there is room."""
    parts = apportion(total, weights)
    assert sum(parts) == total and min(parts) >= (1 if total >= len(parts) else 0)
    ordered = sorted(zip(weights, parts, strict=True))
    assert all(a[0] == b[0] or a[1] <= b[1] for a, b in zip(ordered, ordered[1:], strict=False))
    quotas = [total * weight / sum(weights) for weight in weights]
    if min(quotas) >= 1.0:
        assert all(abs(part - quota) < 1.0 + 1e-9 for part, quota in zip(parts, quotas, strict=True))


@given(st.lists(st.floats(1.0, 1e6), min_size=1, max_size=9), st.integers(1, 300), st.data())
def test_a_rank_has_memory_for_whatever_it_may_get(speeds: list[float], full: int, data: st.DataObject) -> None:
    """Of a full batch, and of a short one at the end of an epoch, which may have fewer rows than there are ranks."""
    balance = Balance(len(speeds), full, min_gain=0.0)
    balance.observe([1000] * len(speeds), [1000.0 / speed for speed in speeds])
    short = data.draw(st.integers(1, full))
    for rank in range(len(speeds)):
        world: Any = SimpleNamespace(rank=rank, size=len(speeds))
        slices = LocalSlices(world, lambda ranks: balance, Clock())
        assert max(len(slices.local(Batch(0, count))) for count in (full, short)) <= slices.capacity(full) <= full


@given(st.integers(1, 9), st.integers(1, 300), st.booleans(), st.data())
def test_slices_without_a_balance_fit(ranks: int, full: int, in_blocks: bool, data: st.DataObject) -> None:
    """Of whole blocks, too, which are smaller in a short batch; they make up the batch."""
    slices = [
        LocalSlices(SimpleNamespace(rank=rank, size=ranks), None, Clock(), in_blocks=in_blocks)  # type: ignore[arg-type]
        for rank in range(ranks)
    ]
    for count in (full, data.draw(st.integers(1, full))):
        parts = [each.local(Batch(0, count)) for each in slices]
        assert [part.begin for part in parts] == [0, *(part.end for part in parts[:-1])] and parts[-1].end == count
        assert max(map(len, parts)) <= slices[0].capacity(full) <= full


class Ranks:
    """The ranks of a job, in one process: what they tell each other is known beforehand."""

    def __init__(self, measured: list[tuple[int, float]]) -> None:
        self._measured = measured

    def world(self, rank: int) -> Any:
        """Return the job as a rank sees it."""
        return SimpleNamespace(rank=rank, size=len(self._measured), comm=SimpleNamespace(Allgather=self._gather))

    def _gather(self, mine: np.ndarray, everyone: np.ndarray) -> None:
        assert tuple(mine) in self._measured
        everyone[:] = self._measured


@given(st.integers(0, 3), st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 90), st.booleans())
def test_servers_get_nothing_and_workers_all(servers: int, factors: list[int], full: int, balanced: bool) -> None:
    """Whatever the workers measured: slices make up the batch, and nobody gets more than there is room for."""
    measured = [(0, 0.0)] * servers + [(60, 0.01 * factor) for factor in factors]
    ranks = Ranks(measured)
    make = (lambda count: Balance(count, full, min_gain=0.0)) if balanced else None
    slices = [
        LocalSlices(ranks.world(rank), make, Clock(), servers, exchange_every=None) for rank in range(len(measured))
    ]
    for each, (rows, seconds) in zip(slices, measured, strict=True):
        each.observe(rows // 2, seconds / 2)
        each.observe(rows // 2, seconds / 2)
        assert each.steps == (2 if balanced else 0)
        each.exchange()
        assert each.steps == 0
    batch = Batch(1000, 1000 + full)
    parts = [each.local(batch) for each in slices]
    assert [len(part) for part in parts[:servers]] == [0] * servers
    assert [part.begin for part in parts[servers:]] == [1000, *(part.end for part in parts[servers:-1])]
    assert parts[-1].end == 1000 + full
    assert all(len(part) <= each.capacity(full) for part, each in zip(parts, slices, strict=True))
    counts = [len(part) for part in parts[servers:]]
    assert slices[0].report() == ({"rows": counts} if balanced else {})
    if balanced and full >= 20 * len(factors):
        shares = [1 / factor / sum(1 / other for other in factors) for factor in factors]
        assert all(abs(count - full * share) <= 1 for count, share in zip(counts, shares, strict=True))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_slices_go_on_from_notes(factors: list[int]) -> None:
    """Those of a rank that has measured nothing yet; where slices are equal now, they stay so."""
    ranks = Ranks([(0, 0.0), *((60, 0.01 * factor) for factor in factors)])
    one, other = (LocalSlices(ranks.world(1), lambda count: Balance(count, 90), Clock(), 1) for _ in range(2))
    one.observe(60, 0.01 * factors[0])
    one.exchange()
    other.restore(one.notes())
    assert other.report() == one.report() and other.notes() == one.notes()
    equal = LocalSlices(ranks.world(1), None, Clock(), 1)
    equal.restore(one.notes())
    assert equal.local(Batch(0, 90)) == Batch(0, 90).slice(0, len(factors)) and equal.notes() == {}


@given(st.integers(1, 9), st.integers(0, 300))
def test_without_measurements_the_cut_is_the_usual_one(ranks: int, batch: int) -> None:
    """A run that balances begins as one that does not."""
    whole = Batch(0, batch)
    expected = [len(whole.slice(rank, ranks)) for rank in range(ranks)]
    assert rows(Balance(ranks, 64), batch) == expected


def test_a_slow_rank_gets_less() -> None:
    """Half as fast, half as many rows; a short last batch is cut in the same proportion."""
    balance = Balance(3, 100)
    assert balance.observe([34, 33, 33], [0.34, 0.33, 0.66])
    assert rows(balance, 100) == [40, 40, 20]
    assert rows(balance, 10) == [4, 4, 2]
    assert rows(balance, 1) == [1, 0, 0]


def test_nothing_changes_for_a_gain_of_less_than_5_percent() -> None:
    """Two ranks of 50 rows: at 0.9 of the other's speed the slowest rank's time would fall by 4 %, at 0.8 by 12 %."""
    balance = Balance(2, 100, smoothing=1.0)
    assert not balance.observe([50, 50], [0.50, 0.50 / 0.9])
    assert rows(balance, 100) == [50, 50]
    assert balance.observe([50, 50], [0.50, 0.50 / 0.8])
    assert rows(balance, 100) == [56, 44]
    # And back only for a gain, too.
    assert not balance.observe([56, 44], [0.56, 0.44 / 0.85])
    assert balance.observe([56, 44], [0.56, 0.44])
    assert rows(balance, 100) == [50, 50]


def test_one_odd_measurement_is_averaged_away() -> None:
    """Half new, half old; the first is taken as it is."""
    balance = Balance(2, 100)
    assert not balance.observe([50, 50], [1.0, 1.0])
    balance.observe([50, 50], [1.0, 2.0])
    assert balance.speeds == pytest.approx([50.0, 0.5 * 25 + 0.5 * 50], rel=1e-14)


@pytest.mark.parametrize(("count", "seconds"), [(0, 0.0), (0, 1.0), (5, 0.0), (5, -1.0), (5, math.nan), (5, math.inf)])
def test_a_measurement_that_says_nothing_is_passed_over(count: int, seconds: float) -> None:
    """It changes no average, and before there is one of every rank nothing is decided."""
    balance = Balance(2, 100)
    assert not balance.observe([50, count], [1.0, seconds])
    assert balance.speeds == [50.0, None] and rows(balance, 100) == [50, 50]
    assert balance.observe([50, 50], [1.0, 2.0])
    speeds = balance.speeds
    balance.observe([67, count], [67 / 50, seconds])
    assert balance.speeds == pytest.approx(speeds, rel=1e-14)


def test_more_ranks_than_rows() -> None:
    """There is nothing to gain, and nothing to divide by zero."""
    balance = Balance(3, 2)
    assert not balance.observe([1, 1, 1], [1.0, 1.0, 1.0])
    assert sorted(rows(balance, 2)) == [0, 1, 1]


MEASUREMENTS = st.lists(
    st.lists(st.tuples(st.integers(0, 50), st.one_of(st.floats(1e-6, 10.0), st.floats())), min_size=4, max_size=4),
    max_size=8,
)


@given(MEASUREMENTS, st.integers(0, 200), st.integers(0, 8))
def test_every_rank_cuts_the_same_and_a_resumed_one_too(
    rounds: list[list[tuple[int, float]]], batch: int, stop: int
) -> None:
    """Lists or arrays, resumed or not; the sum is kept whatever was measured."""
    one, other = Balance(4, 64), Balance(4, 64)
    for number, measured in enumerate(rounds):
        if number == stop:
            resumed = Balance(4, 64)
            resumed.restore(other.state())
            other = resumed
        counts, seconds = zip(*measured, strict=True)
        changed = one.observe(counts, seconds)
        assert other.observe(np.array(counts), np.array(seconds)) == changed
        assert rows(one, batch) == rows(other, batch)
        assert min(rows(one, batch)) >= (1 if batch >= 4 else 0)


@given(st.lists(st.floats(0.1, 10.0), min_size=2, max_size=8))
def test_a_change_is_a_gain(speeds: list[float]) -> None:
    """By the true speeds the slowest rank is done more than 5 % sooner."""
    balance = Balance(len(speeds), 256)
    before = rows(balance, 256)
    times = [count / speed for count, speed in zip(before, speeds, strict=True)]
    changed = balance.observe(before, times)
    after = max(count / speed for count, speed in zip(rows(balance, 256), speeds, strict=True))
    assert max(times) / after > 1.05 if changed else after == max(times)


def test_measurements_of_another_number_of_ranks_are_forgotten() -> None:
    """A run may be resumed with more ranks or fewer."""
    balance = Balance(2, 100)
    balance.observe([50, 50], [1.0, 2.0])
    resumed = Balance(3, 90)
    resumed.restore(balance.state())
    assert rows(resumed, 90) == [30, 30, 30] and resumed.speeds == [None] * 3


def test_nobody_can_write_to_the_bounds() -> None:
    """They are handed out again for the next batch of that size."""
    with pytest.raises(ValueError, match="read-only"):
        Balance(2, 10).bounds(10)[0] = 1

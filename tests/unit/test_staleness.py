"""Stale-synchronous clocks under random schedules, and the histogram of staleness."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onotrain.strategies.parameter_server.staleness import Clocks, Staleness


def test_bound_0_is_a_barrier() -> None:
    """Nobody goes on before all are there, and then all do, in order."""
    clocks = Clocks(3, 0)
    assert clocks.release() == [0, 1, 2]
    released = []
    for worker in (2, 0, 1):
        clocks.advance(worker)
        released.append(clocks.release())
    assert released == [[], [], [0, 1, 2]]


def test_bound_1_by_hand() -> None:
    """A worker is parked two steps ahead of the slowest, and let go by the slowest's step."""
    clocks = Clocks(2, 1)
    clocks.release()
    clocks.advance(0)
    assert clocks.release() == [0]
    clocks.advance(0)
    assert clocks.release() == []
    clocks.advance(1)
    assert clocks.release() == [0, 1]


def test_a_step_that_nobody_allowed_is_an_error() -> None:
    """The bound would be broken without a word."""
    clocks = Clocks(2, 0)
    with pytest.raises(RuntimeError, match="worker 0 finished a step that it was not to begin"):
        clocks.advance(0)
    clocks.release()
    clocks.advance(0)
    with pytest.raises(RuntimeError, match="worker 0 finished"):
        clocks.advance(0)


@given(st.data(), st.integers(1, 6), st.none() | st.integers(0, 4))
def test_the_bound_holds_and_nobody_starves_in_every_schedule(
    data: st.DataObject, workers: int, bound: int | None
) -> None:
    """Workers finish in any order; the clocks are kept a second time, by their definition."""
    clocks = Clocks(workers, bound)
    count, working, waiting = [0] * workers, set[int](), set(range(workers))
    for _ in range(data.draw(st.integers(0, 40))):
        free = sorted(w for w in waiting if bound is None or count[w] - min(count) <= bound)
        assert clocks.release() == free
        working |= set(free)
        waiting -= set(free)
        assert working  # the slowest of all may always go on
        assert all(bound is None or count[w] - min(count) <= bound for w in working)
        worker = data.draw(st.sampled_from(sorted(working)))
        clocks.advance(worker)
        count[worker] += 1
        working.remove(worker)
        waiting.add(worker)
        assert clocks.steps == count


def test_histogram_by_hand() -> None:
    """Counts, mean and maximum, of the run and of the epoch."""
    staleness = Staleness()
    for updates in (0, 2, 2, 4):
        staleness.add(updates)
    assert staleness.counts.tolist() == [1, 0, 2, 0, 1] and staleness.counts.dtype == np.int64
    assert staleness.take_epoch() == {"gradients": 4, "mean": 2.0, "max": 4}
    staleness.add(1)
    assert staleness.take_epoch() == {"gradients": 1, "mean": 1.0, "max": 1}
    assert staleness.take_epoch() == {"gradients": 0, "mean": 0.0, "max": 0}


def test_a_negative_staleness_is_an_error() -> None:
    """As an index it would count at the other end."""
    with pytest.raises(ValueError, match="-1 updates"):
        Staleness().add(-1)


@given(
    st.lists(st.one_of(st.integers(0, 5), st.integers(0, 2000)), max_size=30), st.integers(0, 30), st.integers(0, 30)
)
def test_histogram_of_anything(updates: list[int], epoch: int, stop: int) -> None:
    """It grows as it must; the epoch's numbers and a resumed run are right wherever they are cut."""
    staleness = Staleness()
    for number, value in enumerate(updates):
        if number == epoch:
            staleness.take_epoch()
        if number == stop:
            resumed = Staleness()
            resumed.restore(staleness.state())
            staleness = resumed
        staleness.add(value)
    assert staleness.counts.tolist() == np.bincount(updates).tolist() if updates else not len(staleness.counts)
    last = updates[epoch:] if epoch < len(updates) else updates
    expected = {"gradients": len(last), "mean": sum(last) / max(1, len(last)), "max": max(last, default=0)}
    assert staleness.take_epoch() == pytest.approx(expected)

"""One clock for all ranks: offsets by messages, with clocks that differ and drift."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onotrain.parallel.clocks import Clocks, Offset, offset_of

#: Of another node's clock: ahead by hours, and 40 us a second too fast.
AHEAD, DRIFT = 12_345.678_9, 40e-6


def other(time: float) -> float:
    """Return what the other node's clock shows at a time of rank 0's."""
    return time * (1 + DRIFT) + AHEAD


def exchange(begin: float, there: float, back: float) -> tuple[float, float, float]:
    return begin, other(begin + there), begin + there + back


latencies = st.floats(1e-6, 1e-2)


@given(st.lists(st.tuples(latencies, latencies), min_size=1, max_size=9))
def test_an_offset_is_wrong_by_its_uncertainty_at_most(pairs: list[tuple[float, float]]) -> None:
    """However unlike both directions are."""
    exchanges = [exchange(100.0 + index, *pair) for index, pair in enumerate(pairs)]
    found = offset_of(exchanges)
    assert found.uncertainty == pytest.approx(min(sum(pair) for pair in pairs) / 2, abs=1e-9)
    true = found.at - (found.at - AHEAD) / (1 + DRIFT)
    assert abs(found.ahead - true) <= found.uncertainty + 1e-9


@given(latencies, latencies, st.floats(0.0, 1.0))
def test_times_between_two_measurements_are_on_the_first_clock(there: float, back: float, part: float) -> None:
    before, after = offset_of([exchange(1000.0, there, back)]), offset_of([exchange(1060.0, back, there)])
    clocks = Clocks(before, after)
    time = 1000.0 + part * 60.0
    (found,) = clocks.to_first_rank(np.array([round(other(time) * 1e9)])).tolist()
    assert abs(found * 1e-9 - time) <= clocks.uncertainty + 3e-6  # both are a little away from the measurements
    # Without the rate it would be wrong by up to 2.4 ms.
    assert abs((after.ahead - before.ahead) - 60.0 * DRIFT) <= 2 * clocks.uncertainty + 1e-6


def test_order_and_digits_are_kept() -> None:
    """Events of 1 ns, months after the computer was started."""
    clocks = Clocks(Offset(1e7, 5e6, 1e-6), Offset(1e7 + 10, 5e6 - 1e-3, 1e-6))
    times = 10_000_000_000_000_000 + np.arange(0, 10**10, 12_345_679)
    found = clocks.to_first_rank(np.sort(np.concatenate([times, times + 1])))
    assert (np.diff(found) >= 0).all()
    assert found[0] == 10_000_000_000_000_000 - 5_000_000_000_000_000
    same = Clocks(Offset(3.0, 0.0, 0.0), Offset(3.0, 0.0, 0.0))
    assert same.to_first_rank(times).tolist() == times.tolist()

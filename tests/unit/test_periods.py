"""Local SGD's periods: fixed, post-local and adaptive."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import config
from onotrain.strategies.local_sgd.periods import PERIODS, Adaptive, Fixed, Period, PostLocal

#: Each period's section of a configuration.
OPTIONS = {
    name: config(strategy={"name": "local_sgd", "period": {"name": name, "steps": 12, **more}}).strategy.period
    for name, more in {"fixed": {}, "post_local": {"from_epoch": 1}, "adaptive": {}}.items()
}


def steps(period: Period, rates: list[float], losses: list[float | None]) -> list[int]:
    """Return the period of each epoch."""
    pairs = zip(rates, losses, strict=True)
    return [period.observe(epoch, rate, loss) for epoch, (rate, loss) in enumerate(pairs)]


def adaptive(first: int, losses: list[float | None]) -> list[int]:
    """Return AdaComm's period of each epoch."""
    return steps(Adaptive(first), [0.1] * len(losses), losses)


def test_fixed() -> None:
    """Whatever happens."""
    assert steps(Fixed(7), [0.1, 0.01, 0.001], [None, math.nan, 0.0]) == [7, 7, 7]


def test_post_local_begins_at_the_first_drop_of_the_rate_and_not_at_a_warm_up() -> None:
    """Rates rise, stay, drop, and rise again: from the drop on it is local for good."""
    assert steps(PostLocal(8), [0.05, 0.1, 0.1, 0.01, 0.1], [None] * 5) == [1, 1, 1, 8, 8]


def test_post_local_from_an_epoch() -> None:
    """Counted from 0; drops of the rate are then of no account."""
    assert steps(PostLocal(8, 2), [0.1, 0.01, 0.01, 0.01], [None] * 4) == [1, 1, 8, 8]
    assert steps(PostLocal(8, 0), [0.1], [None]) == [8]


def test_adaptive_by_hand() -> None:
    """tau_0 = 10, F_0 = 4: ceil(10 sqrt(F / 4)) where that is less than before, else the half."""
    losses: list[float | None] = [None, 4.0, 1.0, 0.9, 0.85, 0.3, 0.29, 0.01, 0.01]
    # none; F_0; 5; 4.74 -> 5 does not fall: 3; 4.6 -> 5: 2; 2.74 -> 3: 1; then 1 for good
    assert adaptive(10, losses) == [10, 10, 5, 3, 2, 1, 1, 1, 1]
    assert adaptive(10, [4.0, 3.0, 2.5]) == [10, 9, 8]  # 8.66 and 7.9


def test_adaptive_halves_where_the_loss_rises_beyond_all_bounds() -> None:
    """A ratio that overflows is no error."""
    assert adaptive(9, [1e-300, 1e300, 1e300]) == [9, 5, 3]
    assert adaptive(9, [5e-324, 1e308]) == [9, 5]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -1.0])
def test_adaptive_keeps_its_period_at_a_loss_of_which_nothing_can_be_said(bad: float) -> None:
    """And says so, until the next good one."""
    period = Adaptive(10)
    assert (period.observe(0, 0.1, bad), period.problem is None) == (10, False)
    assert (period.observe(1, 0.1, 4.0), period.problem) == (10, None)  # becomes F_0
    assert period.observe(2, 0.1, bad) == 10
    assert period.problem is not None and "stays 10" in period.problem
    assert (period.observe(3, 0.1, 1.0), period.problem) == (5, None)


def test_adaptive_with_a_first_loss_of_zero() -> None:
    """Nothing can be divided by it; the first positive one takes its place.  A later zero is the best there is."""
    period = Adaptive(10)
    assert period.observe(0, 0.1, 0.0) == 10
    assert period.problem is not None and "first loss is 0" in period.problem
    assert period.observe(1, 0.1, 2.0) == 10 and period.problem is None
    assert period.observe(2, 0.1, 0.0) == 1 and period.problem is None


@given(st.integers(1, 1000), st.lists(st.none() | st.floats(), max_size=20))
def test_adaptive_never_grows_and_always_falls_at_a_good_loss(first: int, losses: list[float | None]) -> None:
    """Down to 1; only a loss that is missing, bad or the first leaves it as it is."""
    period = Adaptive(first)
    started = False
    for epoch, loss in enumerate(losses):
        before = period.steps
        after = period.observe(epoch, 0.1, loss)
        good = loss is not None and math.isfinite(loss) and loss >= 0.0
        falls = good and started and before > 1
        assert 1 <= after <= before and (after < before) == falls
        assert (period.problem is None) == (loss is None or (good and (started or loss > 0.0)))
        started = started or (good and loss != 0.0)


@given(
    st.sampled_from(sorted(PERIODS)),
    st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.05]), st.none() | st.floats(0.0, 5.0)), max_size=12),
    st.integers(0, 12),
)
def test_a_resumed_period(name: str, epochs: list[tuple[float, float | None]], stop: int) -> None:
    """State after any epoch is all there is."""
    whole, first, second = (PERIODS[name](OPTIONS[name]) for _ in range(3))
    expected = [whole.observe(epoch, *seen) for epoch, seen in enumerate(epochs)]
    got = [first.observe(epoch, *seen) for epoch, seen in enumerate(epochs[:stop])]
    second.restore(first.state())
    assert second.steps == first.steps
    got += [second.observe(stop + i, *seen) for i, seen in enumerate(epochs[stop:])]
    assert got == expected


def test_the_registry_passes_the_options_on() -> None:
    """Each name its class, with both options."""
    made = {name: make(OPTIONS[name]) for name, make in PERIODS.items()}
    seen = {name: steps(period, [0.1, 0.1, 0.1], [4.0, 1.0, 1.0]) for name, period in made.items()}
    assert seen == {"fixed": [12, 12, 12], "post_local": [1, 12, 12], "adaptive": [12, 6, 3]}

"""Strategy-Switch: when the loss is stable, when to go back, and that nothing is decided in silence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

import builders
from onotrain.strategies.strategy_switch.rules import SwitchBackRule, SwitchRule, relative_change

NAN, INF = math.nan, math.inf


def verdicts(rule: SwitchRule, losses: Sequence[float]) -> list[bool]:
    """Return what the rule says after each epoch."""
    return [rule.observe(epoch, loss) for epoch, loss in enumerate(losses)]


def test_epoch_of_firing_by_hand() -> None:
    """With w = 3, each s_t is the mean of the last two relative changes: 1/2 and 1/4, 1/4 and 1/6, 1/6 and 0."""
    rule = SwitchRule(window=3, threshold=0.1)
    values = []
    fired = []
    for epoch, loss in enumerate([8.0, 4.0, 3.0, 2.5, 2.5, 2.5]):
        fired.append(rule.observe(epoch, loss))
        values.append(rule.value)
    assert values[:2] == [None, None]
    assert values[2:] == pytest.approx([0.375, 5 / 24, 1 / 12, 0.0], rel=1e-14)
    assert fired == [False, False, False, False, True, True]


def test_defaults_are_those_of_the_paper() -> None:
    """Six losses; a fall of 1 % each is just stable, of 1.1 % is not."""
    options = builders.config(strategy="strategy_switch").strategy
    for ratio, stable in ((0.9901, True), (0.989, False)):
        rule = SwitchRule(options.window, options.threshold, options.at_epoch)
        assert verdicts(rule, [ratio**i for i in range(7)]) == [False] * 5 + [stable] * 2


def test_the_threshold_itself_counts_as_stable() -> None:
    """``s_t <= theta``; 1/4 is exact."""
    assert verdicts(SwitchRule(2, 0.25), [4.0, 3.0]) == [False, True]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(0.0, 0.0, 0.0), (0.0, 1e-300, INF), (-2.0, -1.0, 0.5), (2.0, 0.0, 1.0), (INF, 1.0, NAN), (1.0, INF, INF),
     (0.0, NAN, NAN), (NAN, 0.0, NAN), (5e-324, 1e308, INF)],
)  # fmt: skip
def test_relative_change(before: float, after: float, expected: float) -> None:
    """Zero and what is not finite have a defined change."""
    assert relative_change(before, after) == pytest.approx(expected, nan_ok=True)


def test_a_loss_of_zero_that_stays_is_stable() -> None:
    """A network that has learnt all by heart must switch, without a division by zero."""
    rule = SwitchRule(3, 0.01)
    assert verdicts(rule, [1.0, 0.0, 0.0, 0.0]) == [False, False, False, True]
    assert rule.problem is None


def test_a_rise_from_zero_is_reported_and_leaves_the_window() -> None:
    """Infinite change: no switch, and the user is told why."""
    rule = SwitchRule(3, 0.01)
    assert verdicts(rule, [0.0, 0.0, 1.0]) == [False] * 3
    assert rule.value == INF and rule.problem is not None and "rose from 0" in rule.problem
    assert [rule.observe(3, 1.0), rule.observe(4, 1.0)] == [False, True]
    assert rule.problem is None


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_loss_that_is_not_finite_never_switches_and_never_in_silence(bad: float) -> None:
    """As long as it is in the window there is a problem to show; afterwards the rule works again."""
    rule = SwitchRule(4, 0.01)
    for epoch, loss in enumerate([1.0, bad, 1.0, 1.0, 1.0]):
        fired = rule.observe(epoch, loss)
        assert not fired
        assert (rule.problem is None) == (epoch == 0)
        assert rule.value is None or not math.isfinite(rule.value)
    assert rule.observe(5, 1.0)
    assert rule.problem is None and rule.value == 0.0


def test_a_forced_switch_happens_at_its_epoch_and_not_before() -> None:
    """Stable losses do not bring it forward, bad ones do not hinder it; s_t is still there for the log; once."""
    rule = SwitchRule(2, 0.01, at_epoch=3)
    assert verdicts(rule, [1.0, 1.0, NAN]) == [False, False, True]
    resumed = SwitchRule(2, 0.01, at_epoch=3)
    resumed.restore(rule.state())
    assert not rule.observe(3, 1.0) and not resumed.observe(3, 1.0)  # after a way back, and another start
    assert rule.problem is not None and "epoch 3 all the same" in rule.problem
    assert verdicts(SwitchRule(2, 0.01, at_epoch=1), [1.0]) == [True]


LOSSES = st.lists(st.one_of(st.floats(), st.sampled_from([0.0, 1.0, 1.0 + 1e-9])), max_size=20)


@given(LOSSES, st.integers(2, 7), st.floats(0.0, 1.0))
def test_it_switches_when_the_formula_says_so(losses: list[float], window: int, threshold: float) -> None:
    """Against the formula written down for one window; whenever it cannot be evaluated there is a problem."""
    rule = SwitchRule(window, threshold)
    for epoch, loss in enumerate(losses):
        fired = rule.observe(epoch, loss)
        last = losses[max(0, epoch + 1 - window) : epoch + 1]
        if len(last) < window:
            assert not fired and rule.value is None
        elif all(map(math.isfinite, last)) and all(last):
            value = sum(abs(b - a) / abs(a) for a, b in zip(last, last[1:], strict=False)) / (window - 1)
            assert rule.value == pytest.approx(value)
            assert fired == (rule.value <= threshold)
        if rule.value is not None:
            assert (rule.problem is None) == math.isfinite(rule.value)
        assert not (fired and rule.problem)


@given(LOSSES, st.integers(0, 20), st.one_of(st.none(), st.integers(1, 10)))
def test_a_resumed_rule_goes_on_as_if_nothing_had_happened(losses: list[float], stop: int, forced: int | None) -> None:
    """State after any epoch is all there is."""
    whole, first, second = (SwitchRule(3, 0.1, forced) for _ in range(3))
    expected = verdicts(whole, losses)
    seen = verdicts(first, losses[:stop])
    second.restore(first.state())
    seen += [second.observe(stop + i, loss) for i, loss in enumerate(losses[stop:])]
    assert seen == expected
    assert (second.value, second.problem) == pytest.approx((whole.value, whole.problem), nan_ok=True)


def test_after_a_way_back_the_window_fills_anew() -> None:
    """Otherwise the losses that led to the first switch would lead to the next at once."""
    rule = SwitchRule(3, 0.01)
    assert verdicts(rule, [1.0, 1.0, 1.0]) == [False, False, True]
    rule.reset()
    assert [rule.observe(epoch, 1.0) for epoch in (3, 4, 5)] == [False, False, True]


def back_rule(
    patience: int | None = None, min_delta: float = 0.0, max_staleness: float | None = None
) -> SwitchBackRule:
    """Return a rule that looks at what is given alone."""
    return SwitchBackRule(patience, min_delta, max_staleness)


def back(rule: SwitchBackRule, losses: Sequence[float | None]) -> list[bool]:
    """Return after which epochs the rule says to go back."""
    return [rule.observe(loss, None) is not None for loss in losses]


def test_back_after_patience_epochs_above_the_best() -> None:
    """1.05 is within min_delta of the best; a fall in between begins the count anew."""
    losses = [1.0, 1.2, 1.05, 1.2, 1.15, 0.9, 1.01]
    assert back(back_rule(2, 0.1), losses) == [False, False, False, False, True, False, False]
    assert back(back_rule(1, 0.1), losses) == [False, True, False, True, True, False, True]


def test_a_slow_rise_is_compared_with_the_best_and_not_with_the_epoch_before() -> None:
    """Each step is below min_delta, their sum is not."""
    assert back(back_rule(1, 0.1), [1.0, 1.06, 1.12]) == [False, False, True]


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_validation_loss_that_is_not_finite_has_risen(bad: float) -> None:
    """One worker's NaN once disabled the way back; minus infinity must not become the best."""
    assert back(back_rule(2), [1.0, bad, bad]) == [False, False, True]
    assert back(back_rule(2), [bad, bad, 1.0, 1.5, 1.5]) == [False, True, False, False, True]
    reason = back_rule(1).observe(bad, None)
    assert reason is not None and "none was finite" in reason


def test_epochs_without_validation_count_for_nothing() -> None:
    """Neither as risen nor as a fall."""
    assert back(back_rule(2), [1.0, 2.0, None, 2.0]) == [False, False, False, True]
    assert back(back_rule(None), [1.0, 2.0, 3.0]) == [False] * 3


def test_staleness_beyond_its_bound() -> None:
    """Above, not at it; NaN is above; without a bound nothing is."""
    rule = back_rule(max_staleness=3.0)
    assert [rule.observe(None, s) is not None for s in (None, 0.0, 3.0, 3.01, NAN)] == [False, False, False, True, True]
    assert back_rule().observe(5.0, 1e9) is None


@given(st.lists(st.floats(-10, 10) | st.just(NAN), max_size=15), st.integers(0, 15))
def test_a_resumed_way_back(losses: list[float], stop: int) -> None:
    """State after any epoch is all there is, and `reset` is as new."""
    expected = back(back_rule(3, 0.5), losses)
    first, second = back_rule(3, 0.5), back_rule(3, 0.5)
    seen = back(first, losses[:stop])
    second.restore(first.state())
    assert seen + back(second, losses[stop:]) == expected
    second.reset()
    assert back(second, losses) == expected

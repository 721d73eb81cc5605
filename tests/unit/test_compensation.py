"""What a server does with stale gradients, against the formulas in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import config
from builders import optimizer as rule_of
from onotrain.errors import ResourceError
from onotrain.strategies.blocks import BLOCK
from onotrain.strategies.parameter_server.compensation import (
    COMPENSATIONS,
    Compensation,
    ConstantBatch,
    Delay,
    Place,
    Step,
    rate_power,
)


def options(name: str, **more: Any) -> Any:
    """Return a compensation's section of a configuration."""
    server = {"name": "parameter_server", "staleness": 2, "compensation": {"name": name, **more}}
    return config(strategy=server).strategy.compensation


OPTIONS = {
    "none": options("none"),
    "learning_rate": options("learning_rate"),
    "delay": options("delay", strength=0.3, adaptive=True, decay=0.9),
    "constant_batch": options("constant_batch", limit=2),
}
SIZES = [1, BLOCK, 2 * BLOCK + 3]


def place(size: int, dtype: str = "float64", batch_size: int = 12) -> Place:
    """Return a server of three workers."""
    return Place(size, dtype, 3, batch_size, {"mean_square": np.zeros(size, dtype)})


def applied(step: Step | None) -> Step:
    """Return the step that there must be."""
    assert step is not None
    return step


def test_none_applies_every_gradient_as_it_is() -> None:
    """At the full rate, however stale."""
    gradient = np.array([1.0, -2.0])
    rule = COMPENSATIONS["none"](OPTIONS["none"], place(2))
    step = applied(rule.push(0, gradient, np.zeros(2), 50, 4))
    assert step.gradient.tolist() == [1.0, -2.0] and step.factor == 1.0


def test_learning_rate_falls_with_staleness() -> None:
    """1 / max(1, tau): a gradient that is one update stale still counts in full."""
    rule = COMPENSATIONS["learning_rate"](OPTIONS["learning_rate"], place(2))
    steps = [applied(rule.push(0, np.ones(2), np.zeros(2), tau, 4)) for tau in (0, 1, 2, 5)]
    assert [step.factor for step in steps] == [1.0, 1.0, 0.5, 0.2]
    assert all(step.gradient.tolist() == [1.0, 1.0] for step in steps)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_delay_is_its_formula(size: int, adaptive: bool) -> None:
    """Each worker's own copy counts; the running mean is one for all."""
    rng = np.random.default_rng(1)
    rule = Delay(place(size), 0.3, adaptive, 0.9)
    sent = rng.normal(size=(3, size))
    for worker in range(3):
        rule.sent(worker, sent[worker])
    mean = np.zeros(size)
    for worker in (2, 0, 2, 1):
        g, w = rng.normal(size=(2, size))
        mean = 0.9 * mean + 0.1 * g * g
        strength = 0.3 / np.sqrt(mean + 1e-7) if adaptive else 0.3
        expected = g + strength * g * g * (w - sent[worker])
        before = w.copy()
        step = applied(rule.push(worker, g, w, 1, 4))
        assert step.gradient is g and step.factor == 1.0
        np.testing.assert_allclose(g, expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(w, before)


def test_delay_keeps_what_was_sent_and_not_what_became_of_it() -> None:
    """The server goes on to write to the same vector."""
    rule = Delay(place(1), 0.5, False, 0.95)
    w = np.array([1.0])
    rule.sent(0, w)
    w[0] = 3.0
    assert applied(rule.push(0, np.array([2.0]), w, 1, 1)).gradient[0] == 2.0 + 0.5 * 4.0 * 2.0


@pytest.mark.parametrize("adaptive", [False, True])
def test_delay_of_a_fresh_gradient_is_the_gradient(adaptive: bool) -> None:
    """Where nothing has changed since, to the bit."""
    rng = np.random.default_rng(2)
    rule = Delay(place(50, "float32"), 2.0, adaptive, 0.95)
    w, g = rng.normal(size=(2, 50)).astype("float32")
    rule.sent(1, w)
    np.testing.assert_array_equal(applied(rule.push(1, g.copy(), w, 0, 4)).gradient, g)


def test_delay_is_exact_for_its_own_model_of_the_curvature() -> None:
    """For the loss ``-log(1 - w)`` the gradient is ``g = 1 / (1 - w)`` and the second derivative is ``g*g``."""
    old, new = 0.2, 0.201
    rule = Delay(place(1), 1.0, False, 0.95)
    rule.sent(0, np.array([old]))
    corrected = applied(rule.push(0, np.array([1 / (1 - old)]), np.array([new]), 1, 1)).gradient[0]
    assert corrected == pytest.approx(1 / (1 - new), abs=3e-6)  # second order in 0.001
    assert abs(1 / (1 - old) - 1 / (1 - new)) > 1e-3


def test_a_running_mean_that_has_vanished_becomes_zero() -> None:
    """Of a unit that gets no gradient any more."""
    server = place(1, "float32")
    rule = Delay(server, 1.0, True, 0.95)
    server.vectors["mean_square"][:] = np.finfo("float32").tiny
    rule.push(0, np.zeros(1, "float32"), np.zeros(1, "float32"), 0, 1)
    assert server.vectors["mean_square"][0] == 0.0


def test_delay_without_memory_says_how_much_it_needs() -> None:
    """A copy for each worker is no small thing."""
    with pytest.raises(ResourceError, match="copy of the parameters for each of 3 workers"):
        Delay(Place(2**50, "float64", 3, 12), 1.0, False, 0.95)


def test_constant_batch_makes_one_step_of_a_global_batch() -> None:
    """4 + 2 + 6 samples of 12: the mean over the samples, not over the pushes."""
    rule = ConstantBatch(place(2), 2)
    w = np.zeros(2)
    assert rule.push(0, np.array([1.0, 3.0]), w, 0, 4) is None
    assert rule.push(1, np.array([5.0, 0.0]), w, 2, 2) is None
    step = applied(rule.push(2, np.array([2.0, -1.0]), w, 1, 6))
    np.testing.assert_allclose(step.gradient, [26 / 12, 6 / 12], rtol=1e-15)
    assert step.factor == 1.0 and rule.dropped_samples == 0


def test_constant_batch_gives_no_weight_to_what_is_too_stale() -> None:
    """The others weigh what they would have weighed; what was dropped is counted; the next batch begins anew."""
    rule = ConstantBatch(place(1), 2)
    w = np.zeros(1)
    assert rule.push(0, np.array([100.0]), w, 3, 6) is None
    assert applied(rule.push(1, np.array([4.0]), w, 2, 6)).gradient[0] == 2.0
    assert rule.dropped_samples == 6
    assert rule.push(0, np.array([1.0]), w, 0, 6) is None
    assert applied(rule.push(0, np.array([3.0]), w, 0, 6)).gradient[0] == 2.0


def test_constant_batch_of_nothing_but_stale_gradients_is_no_update() -> None:
    """A step of zeros would still move the momentum."""
    rule = ConstantBatch(place(1), 0)
    assert rule.push(0, np.ones(1), np.zeros(1), 1, 12) is None
    assert rule.dropped_samples == 12 and rule.flush() is None


def test_constant_batch_flushes_the_rest_of_an_epoch() -> None:
    """Over the samples that there are, as a short last batch; twice gives nothing twice."""
    rule = ConstantBatch(place(1), 2)
    rule.push(0, np.array([3.0]), np.zeros(1), 0, 2)
    rule.push(0, np.array([6.0]), np.zeros(1), 0, 1)
    assert applied(rule.flush()).gradient[0] == 4.0
    assert rule.flush() is None


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(0, 4)), max_size=40), st.integers(1, 20))
def test_constant_batch_uses_every_sample_once(pushes: list[tuple[int, int]], batch_size: int) -> None:
    """Steps times their samples is the sum of all gradients that were fresh enough."""
    rule = ConstantBatch(place(1, batch_size=batch_size), 2)
    waiting, used, total, expected = 0, 0, 0.0, 0.0
    for number, (samples, staleness) in enumerate(pushes):
        g = float(number + 1)
        waiting += samples
        if staleness <= 2:
            used += samples
            expected += g * samples
        step = rule.push(0, np.array([g]), np.zeros(1), staleness, samples)
        assert (step is not None) == (waiting >= batch_size and used > 0)
        if waiting >= batch_size:
            total += 0.0 if step is None else step.gradient[0] * waiting
            waiting = used = 0
    rest = rule.flush()
    total += 0.0 if rest is None else rest.gradient[0] * waiting
    assert total == pytest.approx(expected)
    assert rule.dropped_samples == sum(samples for samples, staleness in pushes if staleness > 2)


def history(rule: Compensation, seed: int, pushes: int) -> list[np.ndarray]:
    """Return what a server applies, as (factor, gradient)."""
    rng = np.random.default_rng(seed)
    found = []
    for worker in range(3):  # as after a start and after a restart
        rule.sent(worker, rng.normal(size=BLOCK + 5).astype("float32"))
    for number in range(pushes):
        g, w = rng.normal(size=(2, BLOCK + 5)).astype("float32")
        step = rule.push(number % 3, g, w, number % 4, 5)
        if step is not None:
            found.append(np.append(step.gradient * 1.0, step.factor))
    return found


@pytest.mark.parametrize("name", sorted(COMPENSATIONS))
def test_a_resumed_server_goes_on_to_the_bit(name: str) -> None:
    """Vectors are all there is, when what was held back is applied, as it is at every synchronisation point."""
    assert OPTIONS[name].vector_names == (("mean_square",) if name == "delay" else ())
    assert options("delay", adaptive=False).vector_names == ()
    servers = [place(BLOCK + 5, "float32") for _ in range(3)]
    whole, first, second = (COMPENSATIONS[name](OPTIONS[name], server) for server in servers)
    for rule in (whole, first):
        history(rule, 0, 4)
        rule.flush()
    servers[2].vectors["mean_square"][:] = servers[1].vectors["mean_square"]
    expected, seen = history(whole, 1, 6), history(second, 1, 6)
    assert len(expected) == len(seen) > 0
    np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
@pytest.mark.parametrize("name", sorted(COMPENSATIONS))
def test_a_gradient_that_has_diverged_stays_visible(name: str, bad: float) -> None:
    """It makes no noise here and does not become small; the neighbour is not touched."""
    rule = COMPENSATIONS[name](OPTIONS[name], place(2, "float32", batch_size=4))
    w = np.ones(2, "float32")
    rule.sent(0, w)
    step = applied(rule.push(0, np.array([bad, 1.0], "float32"), w, 0, 4))
    assert not np.abs(step.gradient[0]) < 1e38 and step.gradient[1] == 1.0


@pytest.mark.parametrize("name", sorted(COMPENSATIONS))
def test_the_gaps_of_the_flat_vector_stay_zero(name: str) -> None:
    """They hold zeros on all ranks."""
    server = place(2, batch_size=4)
    rule = COMPENSATIONS[name](OPTIONS[name], server)
    rule.sent(0, np.array([1.0, 0.0]))
    assert applied(rule.push(0, np.array([1.0, 0.0]), np.array([2.0, 0.0]), 1, 4)).gradient[1] == 0.0
    assert server.vectors["mean_square"][1] == 0.0


@pytest.mark.parametrize(
    ("optimizer", "strategy", "power"),
    [
        ("sgd", {}, 1.0),
        ("adam", {}, 0.5),
        ("lamb", {}, 0.5),
        ("adam", {"compensation": "delay", "staleness": 2}, 0.5),
        ("adam", {"rate_scaling": "linear"}, 1.0),
        ("sgd", {"rate_scaling": "root"}, 0.5),
        ("sgd", {"rate_scaling": "none"}, 0.0),
        ("sgd", {"compensation": "constant_batch"}, 0.0),
        ("sgd", {"staleness": 0}, 0.0),
    ],
)
def test_rates_go_with_the_share_of_the_batch(optimizer: str, strategy: dict[str, Any], power: float) -> None:
    """As the optimiser's do, unless the configuration says otherwise or updates are of whole batches."""
    made = config(optimizer=optimizer, strategy={"name": "parameter_server", "staleness": "unbounded", **strategy})
    assert rate_power(made.strategy, rule_of(made)) == power

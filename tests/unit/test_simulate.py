"""Delays to order: how long, and the same ones whatever happens."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import config
from onotrain.config import load_config
from onotrain.errors import ConfigError
from onotrain.strategies import injection
from onotrain.strategies.injection import Delays, Injection, uniform
from onotrain.strategies.parameter_server.roles import Roles


def test_a_slow_rank_takes_a_multiple_of_its_time() -> None:
    """Three times as long is twice as much more; other ranks are as they are."""
    delays = Delays(slow_ranks={1: 3.0})
    assert [delays.extra_seconds(rank, 5, 0.25) for rank in (0, 1, 2)] == [0.0, 0.5, 0.0]


def test_nothing_is_asked_for_nothing_is_added() -> None:
    """The default is the machine as it is."""
    assert Delays().extra_seconds(3, 7, 1.0) == 0.0 and Delays().message_seconds == 0.0


def test_messages() -> None:
    """Milliseconds in, seconds out."""
    assert Delays(delay_ms=2.5).message_seconds == 0.0025
    assert Delays(bandwidth_mbit=8.0).byte_seconds == 1e-6 and Delays().byte_seconds == 0.0


@given(st.integers(0, 2**63), st.integers(0, 5000), st.integers(0, 2**40), st.floats(0.0, 1e3), st.floats(0.0, 4.0))
def test_extra_time_is_a_function_of_seed_rank_and_step(
    seed: int, rank: int, step: int, seconds: float, jitter: float
) -> None:
    """Never negative, finite, in proportion to the step's own time, and the same from another object."""
    extra = Delays(jitter=jitter, seed=seed).extra_seconds(rank, step, seconds)
    assert extra >= 0.0 and math.isfinite(extra)
    again = Delays(jitter=jitter, seed=seed)
    again.extra_seconds(rank, step + 1, 1.0)
    assert again.extra_seconds(rank, step, seconds) == extra
    assert again.extra_seconds(rank, step, 2.0 * seconds) == pytest.approx(2.0 * extra)


def test_the_same_numbers_for_ever() -> None:
    """A later version, or another machine, must not draw others."""
    seen = [uniform(0, 0, 0), uniform(0, 0, 1), uniform(0, 1, 0), uniform(1, 0, 0)]
    assert seen == [0.5671086526454134, 0.6970923827778391, 0.7620978879446088, 0.15138967714591745]


def test_jitter_is_exponential_with_its_mean() -> None:
    """Mean, spread and median of 4000 draws; the slow rank's is in proportion."""
    delays = Delays(slow_ranks={1: 2.0}, jitter=0.5, seed=3)
    draws = np.array([delays.extra_seconds(0, step, 1.0) for step in range(4000)])
    assert draws.mean() == pytest.approx(0.5, rel=0.06) and draws.std() == pytest.approx(0.5, rel=0.06)
    assert np.median(draws) == pytest.approx(0.5 * math.log(2.0), rel=0.06)
    slow = np.array([delays.extra_seconds(1, step, 1.0) for step in range(4000)])
    assert slow.mean() == pytest.approx(2.0 * 1.5 - 1.0, rel=0.06)


def test_ranks_steps_and_seeds_are_independent() -> None:
    """No two of 3 x 3 x 500 numbers are equal, and neighbours are not correlated."""
    table = np.array([[[uniform(s, r, t) for t in range(500)] for r in range(3)] for s in range(3)])
    assert len(np.unique(table)) == table.size and table.min() >= 0.0 and table.max() < 1.0
    rows = table.reshape(9, 500)
    correlation = np.corrcoef(np.vstack([rows[:, :-1], rows[:1, 1:]]))
    assert np.abs(correlation - np.eye(10)).max() < 0.2


@pytest.mark.parametrize(
    ("simulate", "rank", "expected", "slept"),
    [
        (None, 1, 0.25, []),
        ({}, 1, 0.25, []),
        ({"slow_ranks": [{"rank": 1, "factor": 3.0}]}, 0, 0.25, []),
        ({"slow_ranks": [{"rank": 1, "factor": 3.0}]}, 1, 0.75, [0.5]),
        ({"slow_ranks": [{"rank": 1, "factor": 3.0}], "delay_ms": 4.0}, 1, 0.75, [0.5, 0.003]),
        ({"delay_ms": 4.0}, 0, 0.25, [0.003]),
        ({"delay_ms": 0.5}, 0, 0.25, []),
    ],
)
def test_what_is_slept_is_reported_as_computing(
    monkeypatch: pytest.MonkeyPatch, simulate: Any, rank: int, expected: float, slept: list[float]
) -> None:
    """A quarter of a second of computing and one message; load balancing must see what the simulated rank takes."""
    seen: list[float] = []
    monkeypatch.setattr(injection, "sleep", seen.append)
    world: Any = SimpleNamespace(rank=rank, size=2)
    injected = Injection.of(config(simulate=simulate), world, now=lambda: 12.0)
    assert injected.inject_delay(7, 0.25) == expected
    link = injected.link(ranks=1)
    link.put(0, at=11.999)  # a quarter of its time ago
    link.inject_latency()
    assert seen == pytest.approx(slept)


class Time:
    """A clock that goes on by what is slept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds, self.slept = 100.0, 0
        monkeypatch.setattr(injection, "sleep", self._sleep)

    def __call__(self) -> float:
        return self.seconds

    def _sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.slept += 1


#: Of 8 Mbit/s: a byte takes a microsecond.
LINK = {"bandwidth_mbit": 8.0}


@pytest.mark.parametrize(
    ("simulate", "ranks", "nbytes", "seconds"),
    [
        (None, 1, 10**9, 0.0),
        ({"bandwidth_mbit": None}, 1, 10**9, 0.0),
        ({"ranks_per_node": 1}, 1, 10**9, 0.0),
        (LINK, 1, 0, 0.0),
        (LINK, 1, 500_000, 0.5),
        (LINK, 4, 500_000, 2.0),
        ({**LINK, "delay_ms": 30.0}, 4, 500_000, 2.03),
        ({"delay_ms": 30.0}, 4, 500_000, 0.03),
    ],
)
def test_an_exchange_takes_latency_and_bytes(
    monkeypatch: pytest.MonkeyPatch, simulate: Any, ranks: int, nbytes: int, seconds: float
) -> None:
    """The ranks of a node share its link; computing is not slower."""
    time, world = Time(monkeypatch), SimpleNamespace(rank=0, size=8)
    injected = Injection.of(config(simulate=simulate), world, now=time)  # type: ignore[arg-type]
    assert injected.inject_delay(1, 0.25) == 0.25
    link = injected.link(ranks)
    link.put(nbytes, time())
    link.inject_latency()
    assert time() - 100.0 == pytest.approx(seconds) and time.slept == (seconds > 0.0)
    assert injected.active == (simulate not in (None, {"bandwidth_mbit": None}, {"ranks_per_node": 1}))


def test_a_link_carries_one_thing_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a rank computes, too; and an idle link saves nothing up."""
    time = Time(monkeypatch)
    link = Injection(0, Delays(delay_ms=10.0, bandwidth_mbit=8.0), time).link(ranks=1)
    assert link.put(300_000, at=100.0) == pytest.approx(100.3)
    assert link.put(200_000, at=100.1) == pytest.approx(100.5)  # behind the first
    assert link.put(100_000, at=101.0) == pytest.approx(101.1)  # idle for half a second
    time.seconds = 101.05
    link.inject_latency()
    assert time() == pytest.approx(101.11)
    time.seconds = 102.0
    link.inject_latency()
    assert time() == 102.0 and time.slept == 1


def test_both_directions_carry_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a link of its own to the rank."""
    injected = Injection(0, Delays(bandwidth_mbit=8.0), Time(monkeypatch))
    assert [injected.link(1).put(500_000, at=100.0) for _ in range(2)] == [pytest.approx(100.5)] * 2


@pytest.mark.parametrize("wrong", [0, -1.0, "fast", True])
def test_a_bandwidth_that_is_none(wrong: Any) -> None:
    """Nothing would ever arrive."""
    with pytest.raises(ConfigError, match=r"simulate.bandwidth_mbit"):
        config(simulate={"bandwidth_mbit": wrong})


@pytest.mark.parametrize(
    ("nodes", "servers", "senders"),
    [
        ((0, 0, 0, 0), 1, (0, 0, 0, 0)),
        ((0, 1, 2, 3), 1, (1, 1, 1, 1)),
        ((0, 0, 1, 1), 1, (1, 1, 2, 2)),  # the worker beside the only server sends to nobody else
        ((0, 0, 1, 1), 2, (2, 2, 2, 2)),
        ((0, 1, 0, 1), 2, (2, 2, 2, 2)),
    ],
)
def test_who_shares_a_link_of_a_parameter_server(nodes: Any, servers: int, senders: tuple[int, ...]) -> None:
    """Ranks that have something to send to other nodes."""
    seen = []
    for rank in range(len(nodes)):
        roles: Any = SimpleNamespace(rank=rank, nodes=nodes, servers=servers, workers=len(nodes) - servers)
        seen.append(Roles.senders.fget(roles))  # type: ignore[attr-defined]
    assert tuple(seen) == senders


def test_a_mapping_of_ranks_is_short_for_the_list(tmp_path: Path) -> None:
    """As people write it; ranks that are none are refused in the words of the long form."""
    file = tmp_path / "c.yaml"
    text = "data: {train: digits}\nmodel: {layers: [{dense: 10}]}\nloss: cross_entropy\n"
    text += "training: {epochs: 1, batch_size: 8}\n"
    file.write_text(text + "simulate: {slow_ranks: {1: 2.0, 0: 3}, jitter: 0.1}\n")
    found = load_config(file).simulate
    assert found is not None
    assert [(slow.rank, slow.factor) for slow in found.slow_ranks] == [(1, 2.0), (0, 3.0)]
    for wrong in ("{first: 2}", "{1: 0.5}", "{-1: 2}"):
        file.write_text(text + f"simulate: {{slow_ranks: {wrong}}}\n")
        with pytest.raises(ConfigError, match="simulate.slow_ranks"):
            load_config(file)

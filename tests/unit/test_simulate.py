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
    injected.inject_latency(began=11.999)  # a quarter of its time ago
    assert seen == pytest.approx(slept)


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

"""Parts of a date are learned from where the target depends on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onotrain.cli.program import run
from onotrain.config import load_config
from onotrain.config.columns import DateColumn
from onotrain.data import DataSpec
from onotrain.data.tables.info import describe_table
from onotrain.data.tables.seasons import seasonal_parts

DAYS = np.datetime64("2015-01-01", "us") + np.arange(1200) * np.timedelta64(1, "D")
#: Hours of 50 days.
HOURS = np.datetime64("2015-01-01", "us") + np.arange(1200) * np.timedelta64(1, "h")
MONTH = DAYS.astype("datetime64[M]").astype(int) % 12
WEEKDAY = DAYS.astype("datetime64[D]").astype(int) % 7


def noise(*shape: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(7)).normal(size=shape or (1200,))


CASES = {
    "noise": (DAYS, noise(), ()),
    "trend": (DAYS, 0.1 * np.arange(1200) + noise(), ()),
    "bent trend": (DAYS, np.linspace(-1, 1, 1200) ** 3 + 0.01 * noise(), ()),
    "month": (DAYS, np.sin(2 * np.pi * MONTH / 12) + noise(), ("month",)),
    "weekday": (DAYS, np.cos(2 * np.pi * WEEKDAY / 7) + noise(), ("weekday",)),
    "hour": (HOURS, np.sin(2 * np.pi * (np.arange(1200) % 24) / 24) + noise(), ("hour",)),
    "classes": (DAYS, np.where(np.sin(2 * np.pi * MONTH / 12) + noise() > 0.5, "rain", "sun"), ("month",)),
    "numbered classes": (DAYS, (np.cos(2 * np.pi * MONTH / 12) + noise() > 0).astype(np.int64), ("month",)),
    "one of two targets": (DAYS, np.stack([noise(), np.sin(2 * np.pi * MONTH / 12)], axis=1), ("month",)),
    "constant": (DAYS, np.full(1200, 3.7), ()),
    "nothing left": (DAYS[:4], np.arange(4.0), ()),
    "no sample": (DAYS[:0], np.zeros(0), ()),
    "one moment": (np.repeat(DAYS[:1], 1200), noise(), ()),
}


@pytest.mark.parametrize(("dates", "targets", "expected"), CASES.values(), ids=CASES)
def test_parts_on_which_the_target_depends(dates: np.ndarray, targets: np.ndarray, expected: tuple[str, ...]) -> None:
    assert seasonal_parts(dates, targets) == expected


def test_missing_dates_and_targets_do_not_count() -> None:
    dates, targets = DAYS.copy(), np.sin(2 * np.pi * MONTH / 12) + noise()
    dates[::7], targets[::5] = np.datetime64("NaT"), np.nan
    assert seasonal_parts(dates, targets) == ("month",)
    words = np.where(np.isnan(targets), "", np.where(targets > 0, "up", "down"))
    assert seasonal_parts(dates, words) == ("month",)


def test_chance_finds_a_part_in_one_of_a_thousand() -> None:
    """Of 500 targets of noise alone, two parts each, one is expected; more than five come once in 1,700 times."""
    found = [seasonal_parts(DAYS, column) for column in noise(500, 1200)]
    assert sum(map(len, found)) <= 5


def test_many_samples_are_looked_at_in_part() -> None:
    dates = np.tile(DAYS, 100)
    assert seasonal_parts(dates, np.tile(np.sin(2 * np.pi * MONTH / 12), 100)) == ("month",)


@pytest.mark.parametrize(("target", "parts"), [(noise(), ("trend",)), (MONTH % 11 + noise(), ("trend", "month"))])
def test_info_and_init_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: np.ndarray, parts: tuple[str, ...]
) -> None:
    """What `data info` shows is what `init` writes."""
    monkeypatch.chdir(tmp_path)
    lines = [f"{day},{value:.6f}" for day, value in zip(DAYS.astype("datetime64[D]"), target, strict=True)]
    Path("a.csv").write_text("\n".join(["when,y", *lines]) + "\n")
    info = describe_table(DataSpec("a.csv"))
    assert info.roles.guesses["when"].parts == parts
    assert "the target depends on" in info.columns[0].why
    assert run(["init", "a.csv"]) == 0
    written = load_config("config.yaml").data.columns["when"]
    assert isinstance(written, DateColumn) and written.parts == parts

"""Dates: how they may be written, and what they become."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from onotrain.data import DataSpec
from onotrain.data.tables.dates import parse_dates
from onotrain.data.tables.info import describe_table, kinds_of
from onotrain.data.tables.memory import table_of
from onotrain.errors import DataError
from tables import fitted, prepared, read, write

MOMENTS = [datetime(2023, 12, 31, 22, 15) + timedelta(days=17 * k, hours=5 * k, minutes=k) for k in range(40)]


@pytest.mark.parametrize(
    "form",
    ["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%d.%m.%Y %H:%M", "%Y/%m/%d %H:%M", "%m/%d/%Y %I:%M %p", "%d %B %Y %H:%M"],
)
def test_usual_forms(form: str) -> None:
    found = parse_dates([moment.strftime(form) for moment in MOMENTS])
    assert found is not None
    assert found.astype("datetime64[s]").tolist() == MOMENTS


def test_all_values_decide_what_days_and_months_are() -> None:
    """13.2. cannot be the second of a thirteenth month, whatever stands first."""
    found = parse_dates(["01/02/2024", "13/02/2024"])
    assert found is not None
    assert found.astype("datetime64[D]").astype(str).tolist() == ["2024-02-01", "2024-02-13"]
    assert parse_dates(["01/13/2024", "13/02/2024"]) is None


def test_time_zones_are_utc() -> None:
    found = parse_dates(["2024-01-01T12:00:00+02:00", "2024-01-01T12:00:00-01:30"])
    assert found is not None
    assert found.astype("datetime64[m]").astype(str).tolist() == ["2024-01-01T10:00", "2024-01-01T13:30"]


@pytest.mark.parametrize("text", ["20240101", "12", "red", "2024-13-01", "1.5", ""])
def test_what_is_no_date(text: str) -> None:
    assert parse_dates([text]) is None


def test_parts_are_those_of_the_calendar() -> None:
    parts = ["trend", "year", "month", "day", "weekday", "hour", "minute"]
    table = table_of({"t": np.array(MOMENTS, "datetime64[us]")}, ["t"])
    made = fitted(table, {"t": {"name": "date", "parts": parts}})
    got = dict(zip(made.names, made.transform(table, "float64").T, strict=True))
    cycles = {
        "month": [(moment.month - 1) / 12 for moment in MOMENTS],
        "day": [(moment.day - 1) / 31 for moment in MOMENTS],
        "weekday": [moment.weekday() / 7 for moment in MOMENTS],
        "hour": [(moment.hour + moment.minute / 60) / 24 for moment in MOMENTS],
        "minute": [moment.minute / 60 for moment in MOMENTS],
    }
    for part, turns in cycles.items():
        np.testing.assert_allclose(got[f"t {part} sin"], [math.sin(2 * math.pi * turn) for turn in turns], atol=1e-12)
        np.testing.assert_allclose(got[f"t {part} cos"], [math.cos(2 * math.pi * turn) for turn in turns], atol=1e-12)
    days = np.array([(moment - datetime(1970, 1, 1)) / timedelta(days=1) for moment in MOMENTS])
    np.testing.assert_allclose(got["t trend"], (days - days.mean()) / days.std(), rtol=1e-9)
    years = np.array([moment.year for moment in MOMENTS])
    np.testing.assert_allclose(got["t year"], (years - years.mean()) / years.std(), rtol=1e-9)


def test_parts_that_do_not_vary_are_left_out() -> None:
    days = {"t": np.array(["2024-01-01", "2024-01-03", "2024-01-09"], "datetime64[D]")}
    assert fitted(table_of(days, ["t"]), {"t": "date"}).names == ("t trend", "t weekday sin", "t weekday cos")


def test_a_missing_date_is_at_the_mean_and_nowhere_in_a_cycle() -> None:
    days = {"t": np.array(["2024-01-01", "NaT", "2024-03-05"], "datetime64[D]")}
    table = table_of(days, ["t"])
    assert fitted(table, {"t": "date"}).transform(table, "float64")[1].tolist() == [0, 0, 0, 0, 0]


def test_dates_before_1970_and_leap_days() -> None:
    table = table_of({"t": np.array(["1969-12-31", "1904-02-29", "1970-01-01"], "datetime64[D]")}, ["t"])
    made = fitted(table, {"t": {"name": "date", "parts": ["day", "weekday"]}})
    got = made.transform(table, "float64")
    weekdays = [datetime(1969, 12, 31).weekday(), datetime(1904, 2, 29).weekday(), datetime(1970, 1, 1).weekday()]
    np.testing.assert_allclose(got[:, 2], [math.sin(2 * math.pi * day / 7) for day in weekdays], atol=1e-12)
    np.testing.assert_allclose(got[:, 0], [math.sin(2 * math.pi * day / 31) for day in (30, 28, 0)], atol=1e-12)


def test_a_date_that_is_none_is_named_with_its_place(tmp_path: Path) -> None:
    path = write(tmp_path, "t,a,y\n2024-01-01,5,1\n2024-02-30,6,2\n2024-03-01,8,3\n")
    with pytest.raises(DataError, match=r"a.csv:3:1: column 't' is '2024-02-30', expected a date"):
        prepared(path, columns={"t": "date"})
    with pytest.raises(DataError, match=r"a.csv:2:1: column 't' is '2024-01-01', expected a date such as %d.%m.%Y"):
        prepared(path, columns={"t": {"name": "date", "format": "%d.%m.%Y"}})
    given = {"t": {"name": "date", "format": "%Y|%d|%m"}}
    path = write(tmp_path, "t,y\n2024|25|12,1\n2024|01|02,2\n2024|03|02,4\n")
    assert fitted(read(path, delimiter=","), given).names[0] == "t trend"


@pytest.mark.parametrize(
    ("texts", "first"),
    [
        (["Mon Jan 04 2021", "Tue Jan 05 2021"], "2021-01-04T00:00"),
        (["4-Jan-21", "15-Feb-21"], "2021-01-04T00:00"),
        (["2021W05", "2021-W07"], "2021-02-01T00:00"),
        (["2021-01-04T12:30:00Z", "2021-01-04T12:30:00.5+02:00"], "2021-01-04T12:30"),
        (["2021-01-04 12:30:00 +0100", "2021-01-05 12:30:00 +0000"], "2021-01-04T11:30"),
        (["1/4/21 5:30 PM", "1/14/21 5:30 AM"], "2021-01-04T17:30"),
        (["Mon, 04 Jan 2021 12:30:00 +0000", "Tue, 05 Jan 2021 12:30:00 -0100"], "2021-01-04T12:30"),
        (["Mon Jan  4 12:30:05 2021", "Tue Jan  5 12:30:05 2021"], "2021-01-04T12:30"),
        (["12:30", "7:05"], "1900-01-01T12:30"),
        (["12:30:05.5", "12:31:00.25"], "1900-01-01T12:30"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_other_usual_forms(texts: list[str], first: str) -> None:
    found = parse_dates(texts)
    assert found is not None and str(found[0].astype("M8[m]")) == first


@pytest.mark.parametrize("texts", [["3:1", "2:2"], ["25:30", "12:00"], ["12:30", "2021-01-04"]])
def test_what_is_no_time(texts: list[str]) -> None:
    assert parse_dates(texts) is None


def test_a_time_of_day_is_cyclic(tmp_path: Path) -> None:
    """Midnight lies halfway between 18:00 and 6:00, and there is no trend."""
    made = fitted(read(write(tmp_path, "t,y\n00:00,1\n06:00,2\n18:00,3\n12:00,4\n")), {"t": "date"})
    assert made.names == ("t hour sin", "t hour cos")


def test_eight_digits_are_days_where_all_are(tmp_path: Path) -> None:
    days = [f"202101{day:02d}" for day in (4, 5, 6, 7)]
    path = write(tmp_path, "day,seconds,y\n" + "".join(f"{d},{1609459200 + k},{k}\n" for k, d in enumerate(days)))
    guesses = describe_table(DataSpec(path)).roles.guesses
    assert guesses["day"].kind == "date" and "20210104" in guesses["day"].why and guesses["seconds"].kind == "numeric"
    other = write(tmp_path, "day,y\n" + "".join(f"{d},1.5\n" for d in [*days, "20210199"]), "b.csv")
    assert describe_table(DataSpec(other)).roles.guesses["day"].kind == "numeric"
    assert fitted(read(path), {"day": "date"}).names[0] == "day trend"


def test_an_order_that_is_not_known_is_noted_and_can_be_changed(tmp_path: Path) -> None:
    path = write(tmp_path, "when,y\n" + "".join(f"{1 + k % 12:02d}/{1 + k // 4:02d}/2021,{k}.5\n" for k in range(40)))
    info = describe_table(DataSpec(path))
    assert "read as %m/%d/%Y, though %d/%m/%Y fits as well" in info.roles.guesses["when"].why
    assert any("%d/%m/%Y fits as well" in note for note in info.roles.notes())
    assert kinds_of(info)["when"]["format"] == "%m/%d/%Y"
    clear = write(tmp_path, "when,y\n" + "".join(f"{13 + k % 12}/01/2021,{k}.5\n" for k in range(40)), "b.csv")
    info = describe_table(DataSpec(clear))
    assert "fits as well" not in info.roles.guesses["when"].why and kinds_of(info)["when"]["format"] == "%d/%m/%Y"

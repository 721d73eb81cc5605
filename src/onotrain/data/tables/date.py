"""What a column of dates becomes for a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from onotrain.config.columns import DateColumn, DatePart
from onotrain.data.tables.columns import as_text
from onotrain.data.tables.dates import COMPACT, are_times, order_of_parts, parse_dates
from onotrain.data.tables.numeric import shift_and_spread
from onotrain.data.tables.table import Column, Table
from onotrain.data.tables.values import entry
from onotrain.errors import DataError
from onotrain.text import quoted

#: Parts that are taken if they are not all the same.
VARYING: tuple[DatePart, ...] = ("month", "weekday", "hour", "minute")
#: Parts of a date that go round, and how far [in their own units].
CYCLES = {"month": 12.0, "weekday": 7.0, "day": 31.0, "hour": 24.0, "minute": 60.0}
_DAY = np.timedelta64(1, "D").astype("timedelta64[us]").astype(np.int64)


@dataclass(frozen=True)
class DateEncoder:
    """Parts of a date: the trend in days and the year, standardised; what goes round as sine and cosine.

    Parameters
    ----------
    parts
        See `onotrain.config.columns`.
    written
        Format of the text, or None.
    trend, year
        Mean and standard deviation in the training data.
    """

    kind: ClassVar[str] = "date"
    parts: tuple[str, ...]
    written: str | None
    trend: tuple[float, float]
    year: tuple[float, float]

    @classmethod
    def fit(cls, options: DateColumn, table: Table, column: Column, rows: np.ndarray | None) -> Any:
        """Return the encoder for the training part (`rows`) of a column."""
        dates = dates_of(table, column, options.format)
        dates = dates if rows is None else dates[rows]
        found = parts_of(dates[~np.isnat(dates)])
        if not found["trend"].size:
            raise DataError(
                f"{table.source}: column {column.name!r} has no value in the training data", hint="ignore it"
            )
        parts = options.parts
        if parts is None:
            varying: list[DatePart] = [part for part in VARYING if np.ptp(found[part]) > 0]
            parts = tuple(varying) if varying and are_times(dates) else ("trend", *varying)
        standard = {part: shift_and_spread("standard", found[part]) for part in ("trend", "year")}
        written = options.format or order_of_parts(column.categories or ())
        return cls(tuple(parts or ()), written, standard["trend"], standard["year"])

    def names(self, name: str) -> tuple[str, ...]:
        """Return the names of the columns that it writes."""
        return tuple(
            f"{name} {part}{form}" for part in self.parts for form in ((" sin", " cos") if part in CYCLES else ("",))
        )

    def encode(self, table: Table, column: Column, out: np.ndarray, *, lenient: bool = False) -> None:
        """Write to ``out (n, columns)``; a missing date is at the mean, and nowhere in any cycle."""
        dates = dates_of(table, column, self.written)
        lost = np.isnat(dates)
        found = parts_of(np.where(lost, np.datetime64(0, "us"), dates))
        target = 0
        for part in self.parts:
            if part in CYCLES:
                out[:, target : target + 2] = np.where(lost[:, None], 0.0, around(part, found[part]))
                target += 2
            else:
                mean, std = self.trend if part == "trend" else self.year
                out[:, target] = np.where(lost, 0.0, (found[part] - mean) / std)
                target += 1

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {"parts": list(self.parts), "written": self.written, "trend": list(self.trend), "year": list(self.year)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DateEncoder:
        """Return the encoder that `to_dict` wrote."""
        trend, year = ((float(data[part][0]), float(data[part][1])) for part in ("trend", "year"))
        parts, written = tuple(str(part) for part in data["parts"]), data["written"]
        if not {*parts} <= {*CYCLES, "trend", "year"} or not trend[1] > 0 or not year[1] > 0:
            raise ValueError(f"parts of a date are {parts}, their deviations {trend[1]} and {year[1]}")
        return cls(parts, None if written is None else str(written), trend, year)


def around(part: str, values: np.ndarray) -> np.ndarray:
    """Return sine and cosine of a part that goes round: ``(n, 2)``."""
    angle = 2 * np.pi * values / CYCLES[part]
    return np.stack([np.sin(angle), np.cos(angle)], axis=1)


def dates_of(table: Table, column: Column, written: str | None) -> np.ndarray:
    """Return a column as datetime64[us].

    Raises
    ------
    DataError
        An entry is no date; names its place.
    """
    if column.is_date:
        return column.values.astype("datetime64[us]")
    if column.categories is None:  # digits alone
        column, written = as_text(column), written or COMPACT
    assert column.categories is not None
    found = parse_dates(column.categories, written)
    if found is None:
        each = [parse_dates([text], written) for text in column.categories]
        code = next((code for code, date in enumerate(each) if date is None), 0)
        row = int(np.argmax(column.values == code))
        raise DataError(
            f"{table.where(row, column)}: column {column.name!r} is {quoted(entry(column.categories[code]))}, "
            "expected a date" + (f" such as {written}" if written else " written as all others of the column"),
            hint="say how dates are written with `format` of this column (data.columns); numbers that stand for times "
            "are numeric",
        )
    return np.append(found, np.datetime64("NaT", "us"))[column.values]


def parts_of(dates: np.ndarray) -> dict[str, np.ndarray]:
    """Return the parts of dates (datetime64, none missing), float64."""
    micros = dates.astype("datetime64[us]").astype(np.int64)
    days = micros // _DAY
    within = micros - days * _DAY
    years = dates.astype("datetime64[Y]").astype(np.int64)
    months = dates.astype("datetime64[M]").astype(np.int64)
    first = dates.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    found: Sequence[tuple[str, np.ndarray]] = (
        ("trend", micros / _DAY),
        ("year", years + 1970),
        ("month", months - 12 * years),
        ("day", days - first),
        ("weekday", (days + 3) % 7),
        ("hour", within / (_DAY / 24)),
        ("minute", within / (_DAY / 1440) % 60),
    )
    return {name: np.asarray(values, np.float64) for name, values in found}

"""What one column becomes for a network: fitted on the training part, and kept with the model.

An encoder writes its column's values to one or several columns of a matrix.  It says what it knows as plain data
(`to_dict`), from which it is made again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from onotrain.config.columns import BooleanColumn, CategoricalColumn, DateColumn, NumericColumn
from onotrain.data.tables.dates import parse_dates
from onotrain.data.tables.table import Column, Table
from onotrain.errors import DataError

#: Points of the distribution that ``scale: quantile`` keeps.
_QUANTILES = 1001
_MISSING_HINT = (
    "set `missing` of this column to mean, median or a constant (data.columns), or remove these samples; "
    "`onotrain data info` counts them per column"
)


def numbers(table: Table, column: Column, *, missing: bool = False) -> np.ndarray:
    """Return a column as float64.

    Parameters
    ----------
    table
        That the column is of, for the message.
    column
        Numbers, or text that stands for numbers.
    missing
        Whether values may be missing (NaN).

    Raises
    ------
    DataError
        An entry is something else; names the place of the first.
    """
    if column.is_date:
        raise DataError(f"{table.where(0, column)}: column {column.name!r} is a date, expected a number")
    values, bad = column.as_numbers()
    if bad.any():
        row, count = int(np.argmax(bad)), int(np.count_nonzero(bad))
        raise DataError(
            f"{table.where(row, column)}: column {column.name!r} is {_cut(str(column.texts(np.array([row]))[0]))!r}, "
            f"expected a number{_first_of(count)}",
            hint=_not_a_number(column, count),
        )
    infinite = np.isinf(values)
    if infinite.any():
        row, count = int(np.argmax(infinite)), int(np.count_nonzero(infinite))
        raise DataError(
            f"{table.where(row, column)}: column {column.name!r} is {values[row]}, expected a finite number"
            f"{_first_of(count)}",
            hint="remove these samples; `onotrain data info` counts them per column",
        )
    if not missing and np.isnan(values).any():
        lost = np.isnan(values)
        row, count = int(np.argmax(lost)), int(np.count_nonzero(lost))
        raise DataError(
            f"{table.where(row, column)}: column {column.name!r} has a missing value{_first_of(count)}",
            hint=_MISSING_HINT,
        )
    return values


def _not_a_number(column: Column, count: int) -> str:
    if 2 * count >= len(column):
        return "make it a category or leave it out: data.columns, --exclude; `onotrain init` writes a kind for each column"
    return (
        "correct it, or name it in data.csv.missing if it stands for a missing value; "
        "a column of categories is `categorical` in data.columns"
    )


def _cut(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}..."


def _first_of(count: int) -> str:
    return "" if count == 1 else f" (the first of {count:,})"


@dataclass(frozen=True)
class NumericEncoder:
    """``(f(x) - shift) / scale``: f clips, and takes a logarithm or the place in the training data's distribution.

    Parameters
    ----------
    fill
        What stands for a missing value; None: nothing may be missing.
    indicator
        Whether a second column says where values were missing.
    clip
        Least and largest value, or None.
    curve
        ``linear``, ``log`` or ``quantile``.
    quantiles
        Of the training data, where the curve is ``quantile``.
    """

    kind: ClassVar[str] = "numeric"
    shift: float
    scale: float
    fill: float | None = None
    indicator: bool = False
    clip: tuple[float, float] | None = None
    curve: str = "linear"
    quantiles: tuple[float, ...] = ()

    @classmethod
    def fit(cls, options: NumericColumn, scale: Any, table: Table, column: Column, rows: np.ndarray | None) -> Any:
        """Return the encoder for the training part (`rows`) of a column; `scale` is a scaling, or (mean, std)."""
        values = numbers(table, column, missing=options.missing != "error")
        known = values if rows is None else values[rows]
        finite = known[~np.isnan(known)]
        if not finite.size:
            raise DataError(f"{table.source}: column {column.name!r} has no value in the training data", hint="ignore it")
        fill: float | None = None
        if options.missing == "mean":
            fill = float(finite.mean())
        elif options.missing == "median":
            fill = float(np.median(finite))
        elif options.missing != "error":
            fill = float(options.missing.constant)
        clip = None if options.clip is None else (float(options.clip[0]), float(options.clip[1]))
        bent = cls(0.0, 1.0, fill, options.indicator, clip)
        if scale == "log":
            if finite.min() < 0:
                row = int(np.nanargmin(values))
                raise DataError(
                    f"{table.where(row, column)}: column {column.name!r} is {values[row]:g}, and scale log is for values "
                    "that are not negative",
                    hint="use scale: standard, robust or quantile",
                )
            bent = cls(0.0, 1.0, fill, options.indicator, clip, "log")
        elif scale == "quantile":
            points = np.quantile(finite, np.linspace(0, 1, min(_QUANTILES, max(finite.size, 2))))
            bent = cls(0.0, 1.0, fill, options.indicator, clip, "quantile", tuple(points.tolist()))
        x = bent.bend(known)
        shift, spread = _shift_and_spread(scale, x)
        return cls(shift, spread, fill, options.indicator, clip, bent.curve, bent.quantiles)

    def bend(self, values: np.ndarray) -> np.ndarray:
        """Return values before shift and scale, float64."""
        x = values if self.fill is None else np.where(np.isnan(values), self.fill, values)
        if self.clip is not None:
            x = np.clip(x, *self.clip)
        if self.curve == "log":
            with np.errstate(invalid="ignore", divide="ignore"):
                x = np.log1p(np.maximum(x, 0.0))
        elif self.curve == "quantile":
            from scipy.special import ndtri

            points = np.asarray(self.quantiles)
            places = np.linspace(0, 1, len(points))
            up = np.interp(x, points, places)
            down = 1 - np.interp(-x, -points[::-1], places)
            # Halfway between both ends where a value comes often.
            x = ndtri(np.clip((up + down) / 2, 1e-3, 1 - 1e-3))
        return x

    def names(self, name: str) -> tuple[str, ...]:
        """Return the names of the columns that it writes."""
        return (name, f"{name} is missing") if self.indicator else (name,)

    def encode(self, table: Table, column: Column, out: np.ndarray, *, lenient: bool = False) -> None:
        """Write to ``out (n, columns)``; if `lenient`, NaN where a value is missing that must not be."""
        values = numbers(table, column, missing=lenient or self.fill is not None)
        out[:, 0] = (self.bend(values) - self.shift) / self.scale
        if self.indicator:
            out[:, 1] = np.isnan(values)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {
            "shift": self.shift, "scale": self.scale, "fill": self.fill, "indicator": self.indicator,
            "clip": None if self.clip is None else list(self.clip), "curve": self.curve,
            "quantiles": list(self.quantiles),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NumericEncoder:
        """Return the encoder that `to_dict` wrote."""
        clip = data["clip"]
        return cls(
            float(data["shift"]), float(data["scale"]), None if data["fill"] is None else float(data["fill"]),
            bool(data["indicator"]), None if clip is None else (float(clip[0]), float(clip[1])), str(data["curve"]),
            tuple(float(point) for point in data["quantiles"]),
        )  # fmt: skip


def _shift_and_spread(scale: Any, x: np.ndarray) -> tuple[float, float]:
    """Return what is subtracted and what is divided by; a constant column is divided by 1."""
    lowest, highest = float(x.min()), float(x.max())
    if isinstance(scale, tuple):
        return float(scale[0]), float(scale[1])
    if scale == "none":
        return 0.0, 1.0
    if scale == "minmax":
        return lowest, highest - lowest if highest > lowest else 1.0
    if scale == "robust":
        low, middle, high = (float(point) for point in np.quantile(x, (0.25, 0.5, 0.75)))
        return middle, high - low if high > low else float(x.std()) or 1.0
    mean = float(x.mean())
    # About the mean, and judged by the extremes: rounding leaves a constant column a tiny deviation.
    spread = float(np.sqrt(np.square(x - mean).mean()))
    return mean, spread if highest > lowest and spread > 0 else 1.0


@dataclass(frozen=True)
class CategoricalEncoder:
    """One column of 0 and 1 for each value.

    Parameters
    ----------
    values
        That have a column of their own.
    other, missing
        Whether there is a column for all other values, and one for missing ones.
    """

    kind: ClassVar[str] = "categorical"
    values: tuple[str, ...]
    other: bool
    missing: bool

    @classmethod
    def fit(cls, options: CategoricalColumn, table: Table, column: Column, rows: np.ndarray | None) -> Any:
        """Return the encoder for the training part (`rows`) of a column."""
        texts = column.texts() if rows is None else column.texts(rows)
        names, counts = np.unique(texts[texts != ""], return_counts=True)
        order = np.lexsort((names, -counts))[: options.most]
        often = sorted(str(names[c]) for c in order if counts[c] >= options.rare * len(texts))
        values = tuple(often) if options.values is None else options.values
        others = bool(set(map(str, names)) - set(values))
        return cls(values, others, bool((texts == "").any()))

    def names(self, name: str) -> tuple[str, ...]:
        """Return the names of the columns that it writes."""
        extra = (["other"] if self.other else []) + (["missing"] if self.missing else [])
        return tuple(f"{name} = {value}" for value in (*self.values, *extra))

    def encode(self, table: Table, column: Column, out: np.ndarray, *, lenient: bool = False) -> None:
        """Write to ``out (n, columns)``; a value that was never seen is an `other`, or none at all."""
        if column.categories is not None:
            texts, codes = np.array((*column.categories, "")), column.values
        else:
            texts, codes = np.unique(column.texts(), return_inverse=True)
        place = {value: index for index, value in enumerate(self.values)}
        if self.missing:
            place[""] = len(self.values) + self.other
        fallback = len(self.values) if self.other else -1
        of_code = np.array([place.get(str(text), fallback if text != "" else -1) for text in texts], np.int64)
        chosen = of_code[codes]
        out[:] = 0.0
        rows = np.flatnonzero(chosen >= 0)
        out[rows, chosen[rows]] = 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {"values": list(self.values), "other": self.other, "missing": self.missing}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CategoricalEncoder:
        """Return the encoder that `to_dict` wrote."""
        return cls(tuple(str(value) for value in data["values"]), bool(data["other"]), bool(data["missing"]))


@dataclass(frozen=True)
class BooleanEncoder:
    """0 for the first of two values in sorted order, 1 for the second, 0.5 for a missing one."""

    kind: ClassVar[str] = "boolean"
    values: tuple[str, str]

    @classmethod
    def fit(cls, options: BooleanColumn, table: Table, column: Column, rows: np.ndarray | None) -> Any:
        """Return the encoder for a column; its values in all rows count."""
        names = sorted({text for text in np.unique(column.texts()).tolist() if text})
        if len(names) != 2:
            raise DataError(
                f"{table.source}: column {column.name!r} has {len(names)} different values, expected 2 (boolean)",
                hint="make it categorical or ignore it in data.columns",
            )
        return cls((names[0], names[1]))

    def names(self, name: str) -> tuple[str, ...]:
        """Return the name of the column that it writes."""
        return (f"{name} = {self.values[1]}",)

    def encode(self, table: Table, column: Column, out: np.ndarray, *, lenient: bool = False) -> None:
        """Write to ``out (n, 1)``.

        Raises
        ------
        DataError
            A third value.
        """
        texts = column.texts()
        wrong = (texts != "") & (texts != self.values[0]) & (texts != self.values[1])
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(
                f"{table.where(row, column)}: column {column.name!r} is {_cut(str(texts[row]))!r}, expected "
                f"{self.values[0]} or {self.values[1]}{_first_of(int(wrong.sum()))}"
            )
        out[:, 0] = np.where(texts == "", 0.5, texts == self.values[1])

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {"values": list(self.values)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BooleanEncoder:
        """Return the encoder that `to_dict` wrote."""
        first, second = data["values"]
        return cls((str(first), str(second)))


#: Parts of a date that go round, and how far [in their own units].
_CYCLES = {"month": 12.0, "weekday": 7.0, "day": 31.0, "hour": 24.0, "minute": 60.0}
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
        found = _parts(dates[~np.isnat(dates)])
        if not found["trend"].size:
            raise DataError(f"{table.source}: column {column.name!r} has no value in the training data", hint="ignore it")
        parts = options.parts
        if parts is None:
            varying = [part for part in ("month", "weekday", "hour", "minute") if np.ptp(found[part]) > 0]
            parts = ("trend", *varying)  # type: ignore[assignment]
        standard = {part: _shift_and_spread("standard", found[part]) for part in ("trend", "year")}
        return cls(tuple(parts or ()), options.format, standard["trend"], standard["year"])

    def names(self, name: str) -> tuple[str, ...]:
        """Return the names of the columns that it writes."""
        return tuple(
            f"{name} {part}{form}" for part in self.parts for form in ((" sin", " cos") if part in _CYCLES else ("",))
        )

    def encode(self, table: Table, column: Column, out: np.ndarray, *, lenient: bool = False) -> None:
        """Write to ``out (n, columns)``; a missing date is at the mean, and nowhere in any cycle."""
        dates = dates_of(table, column, self.written)
        lost = np.isnat(dates)
        found = _parts(np.where(lost, np.datetime64(0, "us"), dates))
        target = 0
        for part in self.parts:
            if part in _CYCLES:
                angle = 2 * np.pi * found[part] / _CYCLES[part]
                out[:, target], out[:, target + 1] = np.where(lost, 0, np.sin(angle)), np.where(lost, 0, np.cos(angle))
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
        return cls(tuple(str(part) for part in data["parts"]), data["written"], trend, year)


def dates_of(table: Table, column: Column, written: str | None) -> np.ndarray:
    """Return a column as datetime64[us].

    Raises
    ------
    DataError
        An entry is no date; names its place.
    """
    if column.is_date:
        return column.values.astype("datetime64[us]")
    if column.categories is None:
        raise DataError(
            f"{table.where(0, column)}: column {column.name!r} holds numbers, expected dates",
            hint="numbers that stand for times are numeric (data.columns)",
        )
    found = parse_dates(column.categories, written)
    if found is None:
        each = [parse_dates([text], written) for text in column.categories]
        code = next((code for code, date in enumerate(each) if date is None), 0)
        row = int(np.argmax(column.values == code))
        raise DataError(
            f"{table.where(row, column)}: column {column.name!r} is {_cut(column.categories[code])!r}, expected a date"
            + (f" such as {written}" if written else " written as all others of the column"),
            hint="say how dates are written with `format` of this column (data.columns)",
        )
    return np.append(found, np.datetime64("NaT", "us"))[column.values]


def _parts(dates: np.ndarray) -> dict[str, np.ndarray]:
    """Return the parts of dates, float64."""
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


Encoder = NumericEncoder | CategoricalEncoder | BooleanEncoder | DateEncoder
ENCODERS: dict[str, type[Encoder]] = {
    cls.kind: cls for cls in (NumericEncoder, CategoricalEncoder, BooleanEncoder, DateEncoder)
}

"""What a column of numbers becomes for a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from onotrain.config.columns import NumericColumn
from onotrain.config.number_format import NumberFormat
from onotrain.data.tables.number_formats import with_format
from onotrain.data.tables.table import Column, Table
from onotrain.data.tables.values import numbers
from onotrain.errors import DataError

#: Points of the distribution that ``scale: quantile`` keeps.
_QUANTILES = 1001
#: Least place in the distribution (and 1 less the largest) that is told from others.
LEAST_QUANTILE = 1e-3


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
    written
        How numbers are written where they are text (`onotrain.config.number_format`); None: as programs write them.
    """

    kind: ClassVar[str] = "numeric"
    shift: float
    scale: float
    fill: float | None = None
    indicator: bool = False
    clip: tuple[float, float] | None = None
    curve: str = "linear"
    quantiles: tuple[float, ...] = ()
    written: str | None = None

    @classmethod
    def fit(cls, options: NumericColumn, scale: Any, table: Table, column: Column, rows: np.ndarray | None) -> Any:
        """Return the encoder for the training part (`rows`) of a column; `scale` is a scaling, or (mean, std)."""
        values = numbers(table, _as_written(column, options.format), missing=options.missing != "error")
        known = values if rows is None else values[rows]
        finite = known[~np.isnan(known)]
        if not finite.size:
            raise DataError(
                f"{table.source}: column {column.name!r} has no value in the training data", hint="ignore it"
            )
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
                    f"{table.where(row, column)}: column {column.name!r} is {values[row]:g}, and scale log is for "
                    "values that are not negative",
                    hint="use scale: standard, robust or quantile",
                )
            bent = cls(0.0, 1.0, fill, options.indicator, clip, "log")
        elif scale == "quantile":
            points = np.quantile(finite, np.linspace(0, 1, min(_QUANTILES, max(finite.size, 2))))
            bent = cls(0.0, 1.0, fill, options.indicator, clip, "quantile", tuple(points.tolist()))
        x = bent.bend(known)
        shift, spread = shift_and_spread(scale, x)
        written = options.format or column.written
        return cls(shift, spread, fill, options.indicator, clip, bent.curve, bent.quantiles, written)

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
            x = ndtri(np.clip((up + down) / 2, LEAST_QUANTILE, 1 - LEAST_QUANTILE))
        return x

    def names(self, name: str) -> tuple[str, ...]:
        """Return the names of the columns that it writes."""
        return (name, f"{name} is missing") if self.indicator else (name,)

    def encode(self, table: Table, column: Column, out: np.ndarray, *, lenient: bool = False) -> None:
        """Write to ``out (n, columns)``; if `lenient`, NaN where a value is missing that must not be."""
        column = _as_written(column, self.written)
        values = numbers(table, column, missing=lenient or self.fill is not None)
        out[:, 0] = (self.bend(values) - self.shift) / self.scale
        if self.indicator:
            out[:, 1] = np.isnan(values)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {
            "shift": self.shift, "scale": self.scale, "fill": self.fill, "indicator": self.indicator,
            "clip": None if self.clip is None else list(self.clip), "curve": self.curve,
            "quantiles": list(self.quantiles), "written": self.written,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NumericEncoder:
        """Return the encoder that `to_dict` wrote."""
        clip, written = data["clip"], data.get("written")
        if data["curve"] not in ("linear", "log", "quantile") or not float(data["scale"]) > 0:
            raise ValueError(f"curve is {data['curve']!r}, and scale {data['scale']!r}")
        return cls(
            float(data["shift"]), float(data["scale"]), None if data["fill"] is None else float(data["fill"]),
            bool(data["indicator"]), None if clip is None else (float(clip[0]), float(clip[1])), str(data["curve"]),
            tuple(float(point) for point in data["quantiles"]),
            None if written is None else str(written),
        )  # fmt: skip


def _as_written(column: Column, written: str | None) -> Column:
    """Return text as numbers where it is known how they are written."""
    form = NumberFormat.of_example(written) if written and column.is_text and column.numbers is None else None
    return column if form is None else with_format(column, form)


def shift_and_spread(scale: Any, x: np.ndarray) -> tuple[float, float]:
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
        return middle, high - low if high > low else float(x.std()) if highest > lowest else 1.0
    mean = float(x.mean())
    # About the mean, and judged by the extremes: rounding leaves a constant column a tiny deviation.
    spread = float(np.sqrt(np.square(x - mean).mean()))
    return mean, spread if highest > lowest and spread > 0 else 1.0

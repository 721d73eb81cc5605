"""Rows of the comparison: what is measured, what it shall come to, and what it came to."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of the table.

    `target` is what the figure shall be: at least so much, or at most if `at_most` is set; None for a figure that is
    only told.  `unit` is that of the figure; `side_unit` that of the two sides which it is made of, if there are two.
    """

    name: str
    what: str
    target: float | None
    unit: str
    at_most: bool = False
    side_unit: str = ""


@dataclass(frozen=True)
class Reading:
    """What one pair gave: the figure, and the two sides that it is made of."""

    figure: float
    ours: float | None = None
    beside: float | None = None

    @classmethod
    def times_faster(cls, ours: float, beside: float) -> Reading:
        """Return how many times shorter ours took."""
        return cls(beside / ours, ours, beside)


@dataclass
class Result:
    """A row with the figure of each pair, and the sides that figures are made of, if there are any."""

    row: Row
    figures: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)

    def add(self, reading: Reading) -> None:
        """Take in what one more pair gave."""
        self.figures.append(reading.figure)
        if reading.ours is not None and reading.beside is not None:
            self.ours.append(reading.ours)
            self.beside.append(reading.beside)

    @property
    def median(self) -> float:
        """Median of the pairs."""
        return statistics.median(self.figures)

    @property
    def met(self) -> bool | None:
        """Whether the median is what it shall be; None where nothing is asked."""
        if self.row.target is None:
            return None
        return self.median <= self.row.target if self.row.at_most else self.median >= self.row.target

    @property
    def sides(self) -> dict[str, float | None]:
        """Medians of both sides; None if the figure has none."""
        both = {"ours": self.ours, "beside": self.beside}
        return {name: statistics.median(values) if values else None for name, values in both.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able data; of the sides only the medians."""
        return {**asdict(self.row), "median": self.median, "met": self.met, "figures": self.figures, **self.sides}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Result:
        """Return what `to_dict` made data of."""
        row = Row(**{name: data[name] for name in Row.__dataclass_fields__})
        return cls(row, data["figures"], *([] if data[side] is None else [data[side]] for side in ("ours", "beside")))


def summary(results: Sequence[Result]) -> str:
    """Return one line of text for each row."""
    return "\n".join(
        f"{result.row.name:<22} {result.median:8.3f} {result.row.unit:<24} {min(result.figures):.3f} to "
        f"{max(result.figures):.3f}  {'met' if result.met else '' if result.met is None else 'NOT MET'}"
        for result in results
    )

"""Rows of the comparison: what is measured, what it shall come to, and what it came to."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import nan
from typing import Any, Literal

#: The side that is ours, where others have names of their own.
OURS = "onotrain"
#: Who takes so many times as long as the best of the others in each of the first pairs is not timed again.
FAR_BEHIND, TRIALS = 1.25, 2


@dataclass(frozen=True)
class Row:
    """One line of the table.

    `target` is what the figure shall be, by `sense`: at least so much, at most, or so near to 1; None for a figure
    that is only given.  `unit` is that of the figure.  A figure of two sides is how many times less the other side has:
    `side_unit` is that of both, `beside` names the other sides, empty for all that a case has, and the best of them is
    the opponent, except for those that stand `aside`: they are only shown.
    """

    name: str
    what: str
    target: float | None
    unit: str = "times"
    sense: Literal["at least", "at most", "within"] = "at least"
    side_unit: str = ""
    beside: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What one run of a program came to: seconds, say, and the score of what it has trained."""

    value: float
    score: float | None = None


@dataclass(frozen=True)
class Absent:
    """A program that did not run, with its own words on why."""

    reason: str


Side = Outcome | Absent


@dataclass(frozen=True)
class Reading:
    """What one pair gave: our side and the others by name, or a figure that has no sides."""

    ours: Side
    beside: Mapping[str, Side] = field(default_factory=dict)

    @classmethod
    def of(cls, figure: float) -> Reading:
        """Return the reading of a figure that has no sides."""
        return cls(Outcome(figure))

    @property
    def score(self) -> float:
        """Score of our side; not a number if it has none."""
        score = self.ours.score if isinstance(self.ours, Outcome) else None
        return nan if score is None else score


@dataclass
class Result:
    """A row with what each pair gave, and the reasons of what did not run."""

    row: Row
    ours: list[Outcome] = field(default_factory=list)
    beside: dict[str, list[Outcome]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def add(self, reading: Reading) -> None:
        """Take in what one more pair gave."""
        wanted = self.row.beside or tuple(reading.beside)
        sides = {OURS: reading.ours, **{name: reading.beside[name] for name in wanted if name in reading.beside}}
        for name, side in sides.items():
            if isinstance(side, Absent):
                self.absent[name] = side.reason
            else:
                (self.ours if name == OURS else self.beside.setdefault(name, [])).append(side)

    @property
    def medians(self) -> dict[str, float]:
        """Median over the pairs of each other side that ran in every pair."""
        return {
            name: statistics.median(outcome.value for outcome in outcomes)
            for name, outcomes in self.beside.items()
            if len(outcomes) == len(self.ours)
        }

    @property
    def opponent(self) -> str | None:
        """The best of the others that count, by its median; None where there is none."""
        rivals = {name: median for name, median in self.medians.items() if name not in self.row.aside}
        return min(rivals, key=lambda name: rivals[name], default=None)

    @property
    def figures(self) -> list[float]:
        """The figure of each pair; none if a side is missing."""
        if not self.row.side_unit:
            return [outcome.value for outcome in self.ours]
        if self.opponent is None:
            return []
        others = self.beside[self.opponent]
        return [other.value / mine.value for mine, other in zip(self.ours, others, strict=True)]

    @property
    def median(self) -> float | None:
        """Median of the pairs' figures; None if there are none."""
        return statistics.median(self.figures) if self.figures else None

    @property
    def met(self) -> bool | None:
        """Whether the median is what it shall be; None where nothing is asked, or nothing was measured."""
        target, median = self.row.target, self.median
        if target is None or median is None:
            return None
        if self.row.sense == "within":
            return abs(median - 1.0) <= target
        return median <= target if self.row.sense == "at most" else median >= target

    def score(self, name: str) -> float | None:
        """Return the median score of a side; None if it has none."""
        scores = [o.score for o in (self.ours if name == OURS else self.beside.get(name, [])) if o.score is not None]
        return statistics.median(scores) if scores else None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able data."""
        return {
            **asdict(self.row), "median": self.median, "met": self.met, "opponent": self.opponent,
            "figures": self.figures, "ours": _lists(self.ours),
            "others": {name: _lists(outcomes) for name, outcomes in self.beside.items()}, "absent": self.absent,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Result:
        """Return what `to_dict` made data of."""
        sides = {name: tuple(data[name]) for name in ("beside", "aside")}
        row = Row(**{**{name: data[name] for name in Row.__dataclass_fields__}, **sides})
        others = {name: _outcomes(lists) for name, lists in data["others"].items()}
        return cls(row, _outcomes(data["ours"]), others, data["absent"])


def far_behind(results: Sequence[Result]) -> frozenset[str]:
    """Return the others of a case that were far behind the best in all rows and pairs; no row asks for them by name."""
    asked = {name for result in results for name in result.row.beside}
    names = {name for result in results for name in result.beside} - asked
    races = {name: [result for result in results if name in result.beside] for name in names}
    return frozenset(name for name, among in races.items() if all(_behind(result, name) for result in among))


def _behind(result: Result, name: str) -> bool:
    others, best = result.beside[name], result.beside.get(result.opponent or "", [])
    return len(others) == len(best) and all(
        other.value > FAR_BEHIND * least.value for other, least in zip(others, best, strict=True)
    )


def _lists(outcomes: Sequence[Outcome]) -> dict[str, list[Any]]:
    return {"values": [outcome.value for outcome in outcomes], "scores": [outcome.score for outcome in outcomes]}


def _outcomes(lists: Mapping[str, Sequence[Any]]) -> list[Outcome]:
    return [Outcome(value, score) for value, score in zip(lists["values"], lists["scores"], strict=True)]


def summary(results: Sequence[Result]) -> str:
    """Return one line of text for each row, and one for each program that did not run."""
    lines = [f"{result.row.name:<22} {_came_to(result)}" for result in results]
    absent = {name: why for result in results for name, why in result.absent.items()}
    return "\n".join([*lines, *(f"  {name} did not run: {why}" for name, why in absent.items())])


def _came_to(result: Result) -> str:
    if result.median is None:
        return "not measured"
    met = {None: "", True: "met", False: "NOT MET"}[result.met]
    spread = f"{min(result.figures):.3f} to {max(result.figures):.3f}"
    return f"{result.median:9.3f} {result.row.unit:<10} {spread:<20} {met:<8} {result.opponent or ''}".rstrip()

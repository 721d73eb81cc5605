"""What is shown of a run: plain values, of which the terminal and the page show the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """A metric over optimiser steps."""

    title: str
    #: Of epochs, and of intervals within them where there are any; of epochs on validation data.
    train: Points
    validation: Points

    @property
    def last(self) -> dict[str, float]:
        """The newest value of each line."""
        lines = {"train": self.train, "validation": self.validation}
        return {name: points[-1][1] for name, points in lines.items() if points}


@dataclass(frozen=True)
class RankTime:
    """Where the time of a rank went in the last epoch [s]."""

    rank: int
    role: str
    compute: float
    wait: float
    communication: float


@dataclass(frozen=True)
class Ranks:
    """All ranks of a run."""

    count: int
    nodes: int
    #: Epoch that the times are of; 0: none has ended yet, and there are no times.
    epoch: int
    #: Who plays which role.
    roles: str
    #: Means over the ranks.
    mean: RankTime | None
    #: All of them, or those that computed the longest.
    rows: list[RankTime]
    #: The rank that computed the longest, in words; empty where there is one rank alone.
    slowest: str
    #: What is to be said of ranks at this moment.
    now: list[str]


@dataclass(frozen=True)
class Staleness:
    """Of the gradients of the last epoch, in updates."""

    mean: float | None
    max: float | None
    histogram: list[int]


@dataclass(frozen=True)
class Event:
    """Something that has happened."""

    #: Unix time [s]; None if it is not known.
    at: float | None
    kind: str
    words: str
    #: Whether somebody should know of it.
    bad: bool = False


@dataclass(frozen=True)
class View:
    """A run at one moment."""

    name: str
    path: str
    #: running, silent, died, stopped, failed, finished, ended (before its last epoch, as was asked), or idle.
    state: str
    #: The state in words.
    words: str
    #: Names and values that do not change.
    facts: list[tuple[str, str]]
    epoch: int | None = None
    epochs: int | None = None
    step: int | None = None
    steps: int | None = None
    #: How much of all steps is made.
    fraction: float | None = None
    seconds: float | None = None
    seconds_left: float | None = None
    samples_per_second: float | None = None
    learning_rate: float | None = None
    #: Steps of the newest checkpoint.
    saved: int | None = None
    curves: list[Curve] = field(default_factory=list)
    #: Steps at which the strategy was switched, and to which.
    switches: list[tuple[int, str]] = field(default_factory=list)
    ranks: Ranks | None = None
    staleness: Staleness | None = None
    #: The newest last.
    events: list[Event] = field(default_factory=list)
    #: Request -> what has become of it.
    requests: dict[str, str] = field(default_factory=dict)
    #: Whether somebody is there to hear a request.
    hears: bool = False
    #: What should be known besides, such as warnings and lines that cannot be read.
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able data."""
        return asdict(self)

"""What a rank measures of itself: seconds, bytes, and what a strategy reports after an epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any, Protocol


@dataclass(slots=True)
class Clock:
    """Seconds of this rank that were not its own work."""

    #: Time source [s].
    now: Callable[[], float] = perf_counter
    #: Waiting for other ranks of the node.
    wait: float = 0.0
    #: Exchanging data, and waiting for them.
    communication: float = 0.0
    #: Working while data were under way.
    hidden: float = 0.0

    @property
    def elsewhere(self) -> float:
        """Seconds so far in which this rank could not work."""
        return self.wait + self.communication

    def take(self, total: float) -> dict[str, float]:
        """Return where `total` seconds went, and begin anew; what was hidden is part of what was computed."""
        seconds = {
            "compute": total - self.elsewhere, "wait": self.wait, "communication": self.communication,
            "hidden": self.hidden,
        }  # fmt: skip
        self.wait = self.communication = self.hidden = 0.0
        return seconds


@dataclass(slots=True)
class Traffic:
    """Bytes of parameters and gradients that this rank sent to ranks that it shares no memory with for them."""

    #: What they would have been without a codec.
    raw: int = 0
    sent: int = 0

    def add(self, raw: int, sent: int) -> None:
        """Count what was sent."""
        self.raw += raw
        self.sent += sent

    def take(self) -> dict[str, int]:
        """Return the bytes so far, and begin anew."""
        found = asdict(self)
        self.raw = self.sent = 0
        return found


class Reporter(Protocol):
    """A part of a strategy that has something to report."""

    def report(self) -> dict[str, Any]:
        """Return what belongs into the record of the epoch that has ended (rank 0; JSON-able), and begin anew."""
        ...


class Telemetry:
    """Clock, traffic and reports of a strategy on this rank.

    Parameters
    ----------
    now
        Time source [s].
    """

    def __init__(self, now: Callable[[], float] = perf_counter) -> None:
        self.clock, self.traffic = Clock(now), Traffic()
        self._reporters: list[Reporter] = []

    def include(self, *reporters: Reporter) -> None:
        """Let these parts of the strategy report, too."""
        self._reporters.extend(reporters)

    def report(self) -> dict[str, Any]:
        """Return what belongs into the record of the epoch that has ended (rank 0; JSON-able), and begin anew."""
        return {key: value for reporter in self._reporters for key, value in reporter.report().items()}

"""What a rank measures of itself: seconds, bytes, and what a strategy reports after an epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any, Protocol

from onotrain._kernels.recording import Events, Label


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
    #: Gets what the seconds were for; None: nobody wants to know.
    events: Events | None = None

    @property
    def elsewhere(self) -> float:
        """Seconds so far in which this rank could not work."""
        return self.wait + self.communication

    def waited(self, what: str, begin: float, end: float | None = None) -> float:
        """Count a wait for other ranks, until now if no end is given; return its end."""
        end = self.now() if end is None else end
        self.wait += end - begin
        if self.events is not None:
            self.events.add(Label("wait", what), begin, end)
        return end

    def communicated(self, what: str, begin: float, end: float | None = None, *, nbytes: int = 0) -> float:
        """Count an exchange of data, until now if no end is given, and of so many bytes sent; return its end."""
        end = self.now() if end is None else end
        self.communication += end - begin
        if self.events is not None:
            self.events.add(Label("communication", what), begin, end, nbytes=nbytes)
        return end

    def message(
        self, kind: str, what: str, begin: float, end: float | None = None, *, number: int, nbytes: int, peer: int = -1
    ) -> None:
        """Put down a message for those who want to know (`events`); nothing is counted.

        Parameters
        ----------
        kind
            ``sent``, ``received``, or ``flight``: from its beginning to its end.
        what
            Its name, the same at both ends.
        begin, end
            When; until now if no end is given [s].
        number
            Of the message between these ranks, the same at both ends.
        nbytes
            Its size.
        peer
            Rank at the other end; -1: several.
        """
        if self.events is not None:
            self.events.add(Label(kind, what), begin, self.now() if end is None else end, number, nbytes, peer)

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
    events
        Gets what the seconds were for, by the same clock; None: nobody wants to know.
    """

    def __init__(self, now: Callable[[], float] = perf_counter, events: Events | None = None) -> None:
        self.clock, self.traffic = Clock(now, events=events), Traffic()
        self._reporters: list[Reporter] = []

    def include(self, *reporters: Reporter) -> None:
        """Let these parts of the strategy report, too."""
        self._reporters.extend(reporters)

    def report(self) -> dict[str, Any]:
        """Return what belongs into the record of the epoch that has ended (rank 0; JSON-able), and begin anew."""
        return {key: value for reporter in self._reporters for key, value in reporter.report().items()}

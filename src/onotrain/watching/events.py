"""What has happened to a run, in words."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from onotrain.runs import live
from onotrain.runs.live import Request
from onotrain.runs.records import check_record
from onotrain.watching.view import Event

_MOST_EVENTS = 200
#: Events of which somebody should know.
_BAD = frozenset({"failed", "launched again", "not launched again", "noted"})


class Events:
    """What is kept of the event log."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        #: The newest beginning; and the end, if one came after it.
        self.start: dict[str, Any] = {}
        self.last_end: dict[str, Any] | None = None
        self.shown: deque[Event] = deque(maxlen=_MOST_EVENTS)
        self._since: dict[str, str] = {}

    def take(self, row: dict[str, Any]) -> None:
        """Take an event."""
        live.check_event(row)
        kind = row["event"]
        if kind in ("started", "resumed"):
            check_record({key: row[key] for key in ("ranks", "nodes", "strategy", "method") if key in row})
            self.start, self.last_end = row, None
        elif kind in ("stopped", "failed", "ended"):
            self.last_end = row
        if kind == "asked" and row.get("request") in tuple(Request):
            self._since[row["request"]] = ""
        elif kind == "saved":
            self._since = dict.fromkeys(self._since, kind)
        event = Event(unix_time(row["time"]), kind, _words(row), kind in _BAD)
        # Of checkpoints one after the other the newest says enough.
        if kind == "saved" and self.shown and self.shown[-1].kind == "saved":
            self.shown.pop()
        self.shown.append(event)

    def ask_again(self, request: Request) -> None:
        """Forget what has come of a request before."""
        self._since.pop(request, None)

    def since_asked(self, request: Request) -> str:
        """Return what has come of a request that was heard; empty: nothing yet."""
        return self._since.get(request, "")


def _words(row: Mapping[str, Any]) -> str:
    """Return an event in words."""
    step, kind = row.get("step"), row["event"]
    made = f"at step {step}" if step is not None else ""
    if kind in ("started", "resumed"):
        after = f" after step {step}" if kind == "resumed" else ""
        return f"{kind}{after} on {row.get('ranks', '?')} ranks"
    if kind == "saved":
        return f"checkpoint of step {step}{', the best so far' if row.get('best') is True else ''}"
    if kind == "switched":
        return f"switched to {row.get('to')} after epoch {row.get('epoch')}: {row.get('reason')}"
    if kind == "asked":
        return f"asked to {row.get('request')}, from {row.get('host')}"
    if kind == "ended":
        how = "stopped early" if row.get("stopped_early") is True else "ended"
        return f"{how} {made}" + (f": {row['stopped_by']}" if row.get("stopped_by") else "")
    message = str(row.get("message") or kind).partition("\n")[0]
    return message if kind in ("noted", "launched again", "not launched again") else f"{kind}: {message}"


def unix_time(text: Any) -> float | None:
    """Return the Unix time that a text stands for [s]; None if it stands for none."""
    with suppress(ValueError, TypeError, OverflowError, OSError):
        return datetime.fromisoformat(text).timestamp()
    return None

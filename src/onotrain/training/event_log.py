"""What has happened to a run, as `events.jsonl` has it: rank 0 writes it, and so does what launches the run again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from onotrain.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, OnotrainError, StoppedOnRequest
from onotrain.runs.live import add_event
from onotrain.training.observers import Observer, RunStart

#: What of the facts of a run's start is elsewhere, or is for its user alone.
_LEFT_OUT = ("output", "notes", "files_read", "validation_samples", "test_samples")


class EventLog(Observer):
    """Writes down what happens.  A context manager: an error that leaves it is an event, too.

    Parameters
    ----------
    run
        Directory of the run.
    outlives_ranks
        Whether the run goes on after the error that the death of a rank is.
    """

    def __init__(self, run: Path, *, outlives_ranks: bool) -> None:
        self._run, self._outlives_ranks = run, outlives_ranks

    def started(self, start: RunStart) -> None:
        """Note the facts of the run."""
        facts = {key: value for key, value in asdict(start).items() if key not in _LEFT_OUT}
        add_event(self._run, "resumed" if start.first_step else "started", step=start.first_step, **facts)

    def epoch_ended(self, record: Mapping[str, Any]) -> None:
        """Note a switch of strategies."""
        switch = record.get("switch") or {}
        if switch.get("to") is not None:
            facts = {key: switch.get(key) for key in ("to", "reason")}
            add_event(self._run, "switched", epoch=record["epoch"], step=record["steps"], **facts)

    def noted(self, message: str) -> None:
        """Note what is worth a line, such as that ranks have died."""
        add_event(self._run, "noted", message=message)

    def saved(self, step: int, best: bool) -> None:
        """Note a checkpoint that is on the disk."""
        add_event(self._run, "saved", step=step, best=best)

    def ended(self, summary: Mapping[str, Any]) -> None:
        """Note the end of the run."""
        how = {key: summary[key] for key in ("finished", "stopped_early", "stopped_by") if key in summary}
        add_event(self._run, "ended", step=summary["steps"], **how)

    def __enter__(self) -> EventLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Note why the run ends without its end."""
        if error is None or (self._outlives_ranks and not getattr(error, "agreed", False)):
            return
        if isinstance(error, OnotrainError):
            event = "stopped" if isinstance(error, StoppedOnRequest) else "failed"
            add_event(self._run, event, exit_code=error.exit_code, message=error.message)
        elif isinstance(error, KeyboardInterrupt):
            add_event(self._run, "failed", exit_code=EXIT_INTERRUPTED, message="interrupted")
        else:
            message = f"internal error: {type(error).__name__}: {error}"
            add_event(self._run, "failed", exit_code=EXIT_INTERNAL, message=message)

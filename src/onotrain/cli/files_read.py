"""How far the files of a data set have been read: a bar on a terminal, or a few lines."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any, Protocol

from onotrain.text import count, duration

__all__ = ["FilesBar", "FilesLines", "FilesProgress"]

#: Nothing is shown of what takes less than this [s].
PATIENCE_S = 1.0
#: Shortest time between two drawings of the bar [s].
INTERVAL_S = 0.1


class Display(Protocol):
    """Shows how many files have been read."""

    def show(self, done: int, files: int, elapsed: float) -> float:
        """Show it; return how long it stands before it is shown anew [s]."""
        ...

    def close(self) -> None:
        """Clear what shall not stay on the screen."""
        ...


class FilesProgress:
    """Shows, as soon as reading has taken a second, how many of several files have been read.

    Parameters
    ----------
    display
        Where it is shown.
    clock
        Gives the time [s].
    """

    def __init__(self, display: Display, clock: Callable[[], float] = perf_counter) -> None:
        self._display, self._clock = display, clock
        self._began = self._due = 0.0

    def __call__(self, done: int, files: int) -> None:
        """Learn how many files have been read."""
        now = self._clock()
        if done == 0:
            self._began, self._due = now, now + PATIENCE_S
        elif done == files:
            self.close()
        elif now >= self._due:
            self._due = now + self._display.show(done, files, now - self._began)

    def close(self) -> None:
        """Clear what shall not stay on the screen."""
        self._display.close()


class FilesLines:
    """Lines for what is no terminal: few, for each comes after four times as long as the one before."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def show(self, done: int, files: int, elapsed: float) -> float:
        """Print a line."""
        self._say(f"read {done:,} of {count(files, 'file')} in {duration(elapsed)}")
        return 3 * elapsed

    def close(self) -> None:
        """Lines stay."""


class FilesBar:
    """A bar on a terminal of a width [characters]."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._bar: Any = None

    def show(self, done: int, files: int, elapsed: float) -> float:
        """Draw the bar."""
        if self._bar is None:
            self._bar = self._begun(done, files)
        self._bar.update(self._bar.tasks[0].id, completed=done)
        self._bar.refresh()
        return INTERVAL_S

    def _begun(self, done: int, files: int) -> Any:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from onotrain.cli.terminal import console, terminal_stream

        bar = Progress(
            TextColumn("reading files"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=console(self._columns, stream=terminal_stream()), auto_refresh=False, transient=True,
            redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip
        bar.add_task("", total=files, completed=done)
        bar.start()
        return bar

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

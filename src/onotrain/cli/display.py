"""What a person sees of a run: a few facts at its start, a line for each epoch, and a bar on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from onotrain.cli.epochs import EpochLines, header
from onotrain.cli.files_read import FilesBar, FilesLines, FilesProgress
from onotrain.cli.terminal import console, terminal_columns, terminal_stream, text_columns
from onotrain.data.reading import Progress, no_progress
from onotrain.text import duration, escaped, figure, wrapped
from onotrain.training.observers import Observer, Reading, RunStart, StepEnd, Trace

__all__ = ["Bar", "Lines", "Warnings", "duration", "files_progress", "warn"]

#: Shortest time between two drawings of the bar [s].
INTERVAL_S = 0.1
#: Largest part of rank 0's time that drawing may take: all other ranks wait for it.
DRAWING_SHARE = 0.01


def warn(message: str) -> None:
    """Print a warning where errors go, whole at the width of the terminal."""
    text = wrapped(escaped(message), text_columns(stderr=True), 2, first="onotrain: ")
    sys.stdout.flush()  # what was printed before comes before
    sys.stderr.write(f"{text}\n")  # in one write, so that a launcher puts nothing of the other stream in
    sys.stderr.flush()


@contextmanager
def files_progress(*, quiet: bool = False) -> Iterator[Progress]:
    """Give what shows files being read: a bar on a terminal, else lines where errors go, for results go to output."""
    if quiet:
        yield no_progress
        return
    columns = terminal_columns()
    progress = FilesProgress(FilesLines(warn) if columns is None else FilesBar(columns))
    try:
        yield progress
    finally:
        progress.close()


class Warnings(Observer):
    """Prints nothing but warnings.  A context manager, as are its subclasses: leaving it clears what shall not stay."""

    #: What was traced, to be shown when the run is over.
    trace: Trace | None = None

    def __enter__(self) -> Warnings:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Clear what shall not stay on the screen."""

    def print(self, text: str) -> None:
        """Print lines."""
        print(text, flush=True)

    def noted(self, message: str) -> None:
        """Print a warning."""
        warn(message)

    def traced(self, trace: Trace) -> None:
        """Keep it."""
        self.trace = trace


class Lines(Warnings):
    """Prints a header, and a line for each epoch."""

    def __init__(self, *, epochs: bool = True, columns: int | None = None) -> None:
        self._show_epochs, self._columns = epochs, columns
        self._line = EpochLines(0)
        self._files = FilesProgress(FilesLines(self.print))

    def reading(self, reading: Reading) -> None:
        """Show how far it is, if it takes long."""
        self._files(reading.done, reading.files)

    def started(self, start: RunStart) -> None:
        """Print the header."""
        self._line = EpochLines(start.epochs, self._columns, start.watched)
        self.print(header(start, self._columns))

    def epoch_ended(self, record: Mapping[str, Any]) -> None:
        """Print the epoch's line."""
        if self._show_epochs:
            self.print(self._line(record))


class Bar(Lines):
    """Also draws a bar for the running epoch; for terminals.

    Parameters
    ----------
    columns
        Width of the terminal [characters].
    """

    each_step = False

    def __init__(self, columns: int) -> None:
        super().__init__(columns=columns)
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = console(columns, stream=terminal_stream())
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=self._bar_width()),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            auto_refresh=False,  # no thread: it would compete with the computation
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._files = FilesProgress(FilesBar(columns))
        self._task: Any = None
        self._due = 0.0

    def _bar_width(self) -> int:
        return max(10, min(40, (self._columns or 100) - 85))

    def close(self) -> None:
        """Take the bar away."""
        self._files.close()
        if self._task is not None:
            self._task = None
            self._progress.stop()

    def print(self, text: str) -> None:
        """Print lines above the bar."""
        self._console.print(text, markup=False, soft_wrap=True)

    def started(self, start: RunStart) -> None:
        """Print the header; show an empty bar."""
        super().started(start)
        self._start = start
        self._began = self._drawn_at = perf_counter()
        self._drawn_step = start.first_step
        self._rate = 0.0
        self._clear(start.first_epoch)
        if self._task is not None:  # of ranks of which some have died
            self._progress.remove_task(self._task)
        if start.first_epoch < start.epochs:
            self._task = self._progress.add_task("", total=start.steps_per_epoch, figures="")
            self._progress.start()

    def _clear(self, epoch: int) -> None:
        """Forget the sums of the epoch before."""
        self._epoch = epoch
        self._samples, self._loss, self._right = 0, 0.0, 0.0

    def stepped(self, step: StepEnd) -> None:
        """Take the step into account; draw now and then."""
        self._samples += step.samples
        self._loss += step.loss * step.samples
        if step.accuracy is not None:
            self._right += step.accuracy * step.samples
        now = perf_counter()
        if now >= self._due:
            self._draw(step, now)

    def epoch_ended(self, record: Mapping[str, Any]) -> None:
        """Print the epoch's line above the bar."""
        super().epoch_ended(record)
        self._clear(self._epoch + 1)

    def noted(self, message: str) -> None:
        """Print a warning above the bar."""
        self.print(wrapped(message, self._columns, 2, first="onotrain: "))

    def ended(self, summary: Mapping[str, Any]) -> None:
        """Take the bar away."""
        self.close()

    def _fitting(self, description: str, loss: str, accuracy: str, speed: str, left: str) -> str:
        """Return as many figures as there is place for beside the bar."""
        width = (self._columns or 100) - len(description) - self._bar_width() - len(" 100%") - 2
        choices = [[loss, accuracy, speed, left], [loss, accuracy, left], [loss, left], [loss], []]
        texts = ["  ".join(filter(None, choice)) for choice in choices]
        return next(text for text in texts if len(text) <= width or not text)

    def _draw(self, step: StepEnd, now: float) -> None:
        start = self._start
        steps = step.step - self._drawn_step
        if steps > 0 and now > self._drawn_at:
            rate = steps * start.batch_size / (now - self._drawn_at)
            self._rate = 0.7 * self._rate + 0.3 * rate if self._rate else rate
        self._drawn_step, self._drawn_at = step.step, now
        total = start.epochs * start.steps_per_epoch
        left = (now - self._began) * (total - step.step) / (step.step - start.first_step)
        accuracy = "" if step.accuracy is None else f"acc {figure(self._right / self._samples)}"
        loss, speed = f"loss {figure(self._loss / self._samples)}", f"{self._rate:,.0f} samples/s"
        description = f"epoch {step.epoch + 1:>{len(str(start.epochs))}}/{start.epochs}"
        self._progress.update(
            self._task,
            description=description,
            completed=step.step - step.epoch * start.steps_per_epoch,
            figures=self._fitting(description, loss, accuracy, speed, f"{duration(left)} left"),
        )
        self._progress.refresh()
        self._due = now + max(INTERVAL_S, (perf_counter() - now) / DRAWING_SHARE)

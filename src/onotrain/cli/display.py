"""What a person sees of a run: a few facts at its start, a line for each epoch, and a bar on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from time import perf_counter
from typing import Any

from onotrain import __version__
from onotrain.cli.terminal import console, terminal_stream
from onotrain.training.observers import Observer, RunStart, StepEnd

#: Shortest time between two drawings of the bar [s].
INTERVAL_S = 0.1
#: Largest part of rank 0's time that drawing may take: all other ranks wait for it.
DRAWING_SHARE = 0.01

_SHORT = {"loss": "loss", "accuracy": "acc"}


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, such as ``1 rank`` or ``12,345 samples``."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def duration(seconds: float) -> str:
    """Return a time for people: ``0.12 s``, ``9.1 s``, ``3:09``, ``2:03:09``."""
    if seconds < 60:
        return f"{seconds:.{2 if seconds < 1 else 1}f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def header(start: RunStart) -> str:
    """Return the facts of a run, a line for each subject."""
    from onotrain import _kernels
    from onotrain.parallel import threads

    place = f"{count(start.ranks, 'rank')} on {count(start.nodes, 'node')}"
    blas = count(threads.requested() or 1, "BLAS thread")
    validation = f"{start.validation_samples:,}" if start.validation_samples else "none"
    facts = {
        "network": f"{start.network}, {count(start.parameters, 'parameter')}",
        "data": f"{count(start.samples, 'sample')} to train on, {validation} to validate on",
        "training": f"{count(start.epochs, 'epoch')} of {count(start.steps_per_epoch, 'step')}, "
        f"{count(start.batch_size, 'sample')} a step",
        "ranks": f"{place}, {blas} {'each' if start.ranks > 1 else ''}".rstrip()
        + f", strategy {start.strategy}, kernels {_kernels.path()}",
        "output": start.output,
    }
    if start.first_step:
        facts["resumed"] = f"after step {start.first_step:,}, in epoch {min(start.first_epoch + 1, start.epochs)}"
    lines = [f"  {name:<9} {fact}" for name, fact in facts.items()]
    lines[2:2] = [f"  {'note':<9} {note}" for note in start.notes]
    return "\n".join([f"onotrain {__version__}", *lines])


def epoch_line(record: Mapping[str, Any], epochs: int, columns: int | None = None) -> str:
    """Return an epoch's record as one line, without its least parts where that is wider than `columns`."""
    width = len(str(epochs))
    parts = [f"epoch {record['epoch']:>{width}}/{epochs}"]
    parts += [f"{_SHORT[name]} {figure(record[f'train_{name}'])}" for name in _SHORT if f"train_{name}" in record]
    for key, value in record.items():
        if key.startswith("validation_") and isinstance(value, float):
            name = key.removeprefix("validation_")
            parts.append(f"val {_SHORT.get(name, name)} {figure(value)}")
    rate, speed = f"lr {record['learning_rate']:.1e}", f"{record['samples_per_second']:,.0f} samples/s"
    seconds = duration(record["train_seconds"])
    choices = [[*parts, rate, speed, seconds], [*parts, speed, seconds], [*parts, seconds], parts]
    lines = ["  ".join(choice) for choice in choices]
    return next((line for line in lines if columns is None or len(line) <= columns), lines[-1])


def figure(value: float) -> str:
    """Return a loss or metric with four decimals, or in exponential form where that shows nothing of it."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.3e}"


class Warnings(Observer):
    """Prints nothing but warnings.  A context manager, as are its subclasses: leaving it clears what shall not stay."""

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
        print(f"onotrain: {message}", file=sys.stderr, flush=True)


class Lines(Warnings):
    """Prints a header, and a line for each epoch."""

    def __init__(self, *, epochs: bool = True, columns: int | None = None) -> None:
        self._show_epochs, self._columns = epochs, columns
        self._epochs = 0

    def started(self, start: RunStart) -> None:
        """Print the header."""
        self._epochs = start.epochs
        self.print(header(start))

    def epoch_ended(self, record: Mapping[str, Any]) -> None:
        """Print the epoch's line."""
        if self._show_epochs:
            self.print(epoch_line(record, self._epochs, self._columns))


class Bar(Lines):
    """Also draws a bar for the running epoch; for terminals.

    Parameters
    ----------
    columns
        Width of the terminal [characters].
    """

    def __init__(self, columns: int) -> None:
        super().__init__(columns=columns)
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = console(columns, stream=terminal_stream())
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=max(10, min(40, columns - 85))),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            auto_refresh=False,  # no thread: it would compete with the computation
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task: Any = None
        self._due = 0.0

    def close(self) -> None:
        """Take the bar away."""
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
        self.print(f"onotrain: {message}")

    def ended(self, summary: Mapping[str, Any]) -> None:
        """Take the bar away."""
        self.close()

    def _draw(self, step: StepEnd, now: float) -> None:
        start = self._start
        steps = step.step - self._drawn_step
        if steps > 0 and now > self._drawn_at:
            rate = steps * start.batch_size / (now - self._drawn_at)
            self._rate = 0.7 * self._rate + 0.3 * rate if self._rate else rate
        self._drawn_step, self._drawn_at = step.step, now
        total = start.epochs * start.steps_per_epoch
        left = (now - self._began) * (total - step.step) / (step.step - start.first_step)
        figures = [f"loss {figure(self._loss / self._samples)}"]
        if step.accuracy is not None:
            figures.append(f"acc {self._right / self._samples:.4f}")
        figures += [f"{self._rate:,.0f} samples/s", f"{duration(left)} left"]
        self._progress.update(
            self._task,
            description=f"epoch {step.epoch + 1:>{len(str(start.epochs))}}/{start.epochs}",
            completed=step.step - step.epoch * start.steps_per_epoch,
            figures="  ".join(figures),
        )
        self._progress.refresh()
        self._due = now + max(INTERVAL_S, (perf_counter() - now) / DRAWING_SHARE)

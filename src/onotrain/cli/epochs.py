"""The lines of a run: its facts at the start, then one for each epoch, with the best ones marked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onotrain import __version__
from onotrain.data.reading import FilesRead
from onotrain.text import count, duration, figure, wrapped
from onotrain.training.observers import RunStart

#: Stands beside the best epoch.
STAR = "*"
#: Characters before the facts of the header.
_INDENT = 12
_SHORT = {"loss": "loss", "accuracy": "acc"}
#: What a line does without first.
_LEAST = ("lr", "samples/s", "seconds")
#: And last.
_MOST = ("acc", "val r2", "val acc", "val loss")


def _files(start: RunStart) -> list[tuple[str, str]]:
    """Return the fact of how several files were read; nothing of one file."""
    if start.files_read is None or start.files_read.files < 2:
        return []
    return [("files", files_read(start.files_read))]


def megabytes(nbytes: int) -> str:
    """Return a size for people: ``0.31 MB``, ``57 MB``, ``1,250 MB`` (1 MB = 1e6 bytes)."""
    size = nbytes / 1e6
    return f"{size:,.0f} MB" if size >= 9.95 else f"{size:.2g} MB"


def files_read(read: FilesRead) -> str:
    """Return in words what it took to read files."""
    ranks = count(sum(files > 0 for files in read.ranks_files), "rank")
    return f"{count(read.files, 'file')}, {megabytes(read.nbytes)}, read by {ranks} in {duration(read.seconds)}"


def header(start: RunStart, columns: int | None = None) -> str:
    """Return the facts of a run, each wrapped with an indent where it is wider than `columns`."""
    from onotrain import _kernels
    from onotrain.parallel import threads

    place = f"{count(start.ranks, 'rank')} on {count(start.nodes, 'node')}"
    blas = count(threads.requested() or 1, "BLAS thread")
    validation = f"{start.validation_samples:,}" if start.validation_samples else "none"
    tested = f", {start.test_samples:,} to test on" if start.test_samples else ""
    facts = [
        ("network", f"{start.network}, {count(start.parameters, 'parameter')}"),
        ("data", f"{count(start.samples, 'sample')} to train on, {validation} to validate on{tested}"),
        *_files(start),
        *(("note", note) for note in start.notes),
        ("training", f"{count(start.epochs, 'epoch')} of {count(start.steps_per_epoch, 'step')}, "
         f"{count(start.batch_size, 'sample')} a step"),
        ("ranks", f"{place}, {blas} {'each' if start.ranks > 1 else ''}".rstrip()
         + f", strategy {start.method}, kernels {_kernels.path()}"),
        ("output", start.output),
    ]  # fmt: skip
    if start.watched:
        facts.append(("stopping", f"by {start.watched}; {STAR} marks the best epoch so far"))
    if start.first_step:
        epoch = min(start.first_epoch + 1, start.epochs)
        facts.append(("resumed", f"after step {start.first_step:,}, in epoch {epoch}"))
    lines = [wrapped(fact, columns, _INDENT, first=f"  {name:<{_INDENT - 2}}") for name, fact in facts]
    return "\n".join([f"onotrain {__version__}", *lines])


class EpochLines:
    """Makes one line of each epoch's record, of which the numbers stand below each other.

    Parameters
    ----------
    epochs
        Of the run.
    columns
        Width of a line [characters], which has fewer numbers rather than broken ones; None: there is no limit.
    watched
        What early stopping watches; None if there is none, and no epoch is marked.
    """

    def __init__(self, epochs: int, columns: int | None = None, watched: str | None = None) -> None:
        self._epochs, self._columns, self._watched = epochs, columns, watched
        self._left_out: list[str] = []
        self._widths: dict[str, int] = {}

    def __call__(self, record: Mapping[str, Any]) -> str:
        """Return the line; before it another one, if this is the first that has to do without something."""
        parts, before = self._parts(record), len(self._left_out)
        for name in self._order(parts):
            if self._columns is None or len(self._joined(parts)) <= self._columns:
                break
            if name in parts and name not in self._left_out:
                self._left_out.append(name)
        line = self._joined(parts)
        if len(self._left_out) == before:
            return line
        said = f"(too narrow for: {', '.join(self._left_out[before:])}; metrics.jsonl has all)"
        return "\n".join([wrapped(said, self._columns, 3, first="  "), line])

    def _parts(self, record: Mapping[str, Any]) -> dict[str, str]:
        """Return what could be shown, by name."""
        star = "" if self._watched is None else f" {STAR}" if record.get("best") else "  "
        parts = {"epoch": f"{record['epoch']:>{len(str(self._epochs))}}/{self._epochs}{star}"}
        parts |= {_SHORT[name]: figure(record[f"train_{name}"]) for name in _SHORT if f"train_{name}" in record}
        for key, value in record.items():
            if key.startswith("validation_") and isinstance(value, float):
                parts[_shown(key)] = figure(value)
        parts["lr"] = figure(record["learning_rate"], short=True)
        parts["samples/s"] = f"{record['samples_per_second']:,.0f}"
        parts["seconds"] = duration(record["train_seconds"])
        if slow := record.get("slow_rank"):
            parts["slow"] = f"rank {slow['rank']} took {slow['factor']:.1f} times as long as the next slowest"
        for name, text in parts.items():
            self._widths[name] = max(self._widths.get(name, 0), len(text))
        return parts

    def _order(self, parts: dict[str, str]) -> list[str]:
        """Return what the line may do without, the least important first."""
        watched = "" if self._watched is None else _shown(self._watched)
        last = [name for name in _MOST if name != watched]
        others = [name for name in reversed(parts) if name not in (*_LEAST, *_MOST, "epoch", "loss", watched)]
        return [*_LEAST, *others, *last]

    def _joined(self, parts: Mapping[str, str]) -> str:
        texts = [self._text(name, text) for name, text in parts.items() if name not in self._left_out]
        return "  ".join(texts).rstrip()

    def _text(self, name: str, text: str) -> str:
        padded = text.ljust(self._widths[name])
        return (
            padded if name in ("seconds", "slow") else f"{padded} {name}" if name == "samples/s" else f"{name} {padded}"
        )


def _shown(key: str) -> str:
    """Return a key of a record as a line has it."""
    part, _, name = key.partition("_")
    shown = _SHORT.get(name, name)
    return f"val {shown}" if part == "validation" else shown

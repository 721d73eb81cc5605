"""The picture of a training run: loss, a metric and time of each epoch, from the run directory alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onotrain.config.metrics import mode_of
from onotrain.data.ranges import is_wide
from onotrain.errors import DataError
from onotrain.reporting.pictures import COLORS, GREY, PANEL, check, picture
from onotrain.text import figure as shown
from onotrain.text import with_unit

_PARTS = {"train": COLORS[0], "validation": COLORS[1]}
#: Where a rank's time goes, as `metrics.jsonl` names it.
_SECONDS = {"compute": COLORS[0], "communication": COLORS[4], "wait": GREY}
#: Epochs up to which each has a mark of its own.
_MARKED = 40


def draw(
    records: Sequence[Mapping[str, Any]], title: str, path: Path, *, best: int | None = None, unit: str = ""
) -> None:
    """Draw the epochs of one run.

    Parameters
    ----------
    records
        Rows of ``metrics.jsonl``.
    title
        Above the picture.
    path
        A ``.png``, ``.svg`` or ``.pdf`` file, replaced if it exists.
    best
        The best epoch by what early stopping watches; None: the best one of each panel is marked.
    unit
        Of the targets, if all have the same.

    Raises
    ------
    DataError
        There is no epoch yet.
    UsageError
        Another kind of file, or no directory for it.
    ResourceError
        It cannot be written.
    PlatformError
        matplotlib is not installed.
    """
    check(path)
    if not records:
        raise DataError(f"{title}: no epoch has ended yet, so there is nothing to draw")
    known = [m for m in ("accuracy", "r2", "rmse") if f"train_{m}" in records[-1] or f"validation_{m}" in records[-1]]
    metrics = ["loss", *known[:1]]
    with picture(path, title, PANEL * (len(metrics) + 1), 2.5) as figure:
        panels = figure.subplots(1, len(metrics) + 1)
        for axes, name in zip(panels, metrics, strict=False):
            _lines(axes, records, name, best)
            axes.set_ylabel(with_unit(name, unit if name == "rmse" else ""))
        _seconds(panels[-1], records)
        for axes in panels:
            axes.set_xlabel("epoch")
            axes.grid(axis="y", alpha=0.3, linewidth=0.5)
            axes.xaxis.get_major_locator().set_params(integer=True)


def _lines(axes: Any, records: Sequence[Mapping[str, Any]], name: str, best: int | None) -> None:
    """Draw a metric on training and validation data; mark its value in the best epoch."""
    drawn: list[float] = []
    style = "o-" if len(records) <= _MARKED else "-"
    epochs = [record["epoch"] for record in records]
    for part, color in _PARTS.items():
        values = [_number(record.get(f"{part}_{name}")) for record in records]
        if any(value == value for value in values):
            axes.plot(epochs, values, style, ms=2.5, color=color, label=part)
            drawn += values
    known = {e: v for e, r in zip(epochs, records, strict=True) if (v := r.get(f"validation_{name}")) is not None}
    if known:
        pick = min if mode_of(f"validation_{name}") == "min" else max
        epoch = best if best in known else pick(known, key=lambda each: known[each])
        label = f"best: {shown(known[epoch])} (epoch {epoch})"
        axes.plot([epoch], [known[epoch]], "*", ms=9, color=_PARTS["validation"], mec="white", mew=0.5, label=label)
    if is_wide(drawn):
        axes.set_yscale("log")
    if axes.lines:
        axes.margins(y=0.08)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2, handlelength=1.5)


def _seconds(axes: Any, records: Sequence[Mapping[str, Any]]) -> None:
    """Draw where the ranks' time went, as the mean over the ranks, stacked; kinds that took none are left out."""
    epochs, bottom = [record["epoch"] for record in records], [0.0] * len(records)
    for part, color in _SECONDS.items():
        heights = _means(records, part)
        if not any(heights):
            continue
        axes.bar(epochs, heights, 0.8, bottom=bottom, color=color, label=part)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    axes.set_ylabel("time per rank [s]")
    title = _hidden(records)
    if any(bottom):
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2, handlelength=1.0, title=title or None)


def _hidden(records: Sequence[Mapping[str, Any]]) -> str:
    """Return how much of the exchange between nodes went on while layers were computed; nothing where none did."""
    hidden, waited = sum(_means(records, "hidden")), sum(_means(records, "communication"))
    return f"{hidden / (hidden + waited):.0%} of communication hidden" if hidden else ""


def _means(records: Sequence[Mapping[str, Any]], kind: str) -> list[float]:
    """Return each epoch's seconds of this kind, as the mean over the ranks."""
    ranks = [record.get("ranks_seconds", {}).get(kind) or (0.0,) for record in records]
    return [sum(seconds) / len(seconds) for seconds in ranks]


def _number(value: float | None) -> float:
    """Return a value that can be drawn: JSON has no NaN, and writes null."""
    return float("nan") if value is None else value

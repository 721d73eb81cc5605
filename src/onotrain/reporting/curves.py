"""The picture of a training run: loss, accuracy and time of each epoch, from the run directory alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from onotrain.errors import DataError, PlatformError, UsageError
from onotrain.files import write_atomically

_TRAIN, _VALIDATION = "#4878a8", "#d1615d"
#: Where a rank's time goes, as `metrics.jsonl` names it.
_PARTS = {"compute": "#4878a8", "communication": "#e7ba52", "wait": "#c8c8c8"}
FORMATS = (".png", ".svg", ".pdf")


def draw(records: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Draw the epochs of one run.

    Parameters
    ----------
    records
        Rows of ``metrics.jsonl``.
    title
        Above the picture.
    path
        A ``.png``, ``.svg`` or ``.pdf`` file, replaced if it exists.

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
    if path.suffix not in FORMATS:
        raise UsageError(f"{path}: a picture is one of {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no directory {path.parent}", hint=f"make it: mkdir -p {path.parent}")
    if not records:
        raise DataError(f"{title}: no epoch has ended yet, so there is nothing to draw")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlatformError("matplotlib is not installed", hint="pip install 'onotrain[plots]'") from error
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    epochs = [record["epoch"] for record in records]
    known = [m for m in ("accuracy", "r2", "rmse") if f"train_{m}" in records[-1] or f"validation_{m}" in records[-1]]
    metrics = ["loss", *known[:1]]
    panels = figure.subplots(1, len(metrics) + 1)
    for axes, name in zip(panels, metrics, strict=False):
        _lines(axes, epochs, records, name)
    _seconds(panels[-1], epochs, records)
    for axes in panels:
        axes.set_xlabel("epoch")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    picture = BytesIO()
    figure.savefig(picture, format=path.suffix[1:], dpi=150)
    write_atomically(path, picture.getvalue())


def _lines(axes: Any, epochs: Sequence[int], records: Sequence[Mapping[str, Any]], name: str) -> None:
    """Draw a metric on training and validation data; mark its best validation value."""
    axes.set_title(name, loc="left", fontsize=10)
    for part, color in (("train", _TRAIN), ("validation", _VALIDATION)):
        values = [_number(record.get(f"{part}_{name}")) for record in records]
        if any(value == value for value in values):
            axes.plot(epochs, values, "o-", ms=3, color=color, label=part)
    known = [(v, e) for e, r in zip(epochs, records, strict=True) if (v := r.get(f"validation_{name}")) is not None]
    if known:
        value, epoch = min(known) if name in ("loss", "rmse") else max(known)
        axes.annotate(
            f"{value:.4f}",
            (epoch, value),
            (0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=_VALIDATION,
        )
    if axes.lines:
        axes.legend(frameon=False, fontsize=8)


def _seconds(axes: Any, epochs: Sequence[int], records: Sequence[Mapping[str, Any]]) -> None:
    """Draw where the ranks' time went, as the mean over the ranks, stacked."""
    axes.set_title(f"seconds of a rank{_hidden(records)}", loc="left", fontsize=10)
    bottom = [0.0] * len(records)
    for part, color in _PARTS.items():
        heights = _means(records, part)
        axes.bar(epochs, heights, 0.7, bottom=bottom, color=color, label=part)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    axes.set_ylim(0, 1.2 * max(bottom) or 1.0)  # room for the legend above the bars
    axes.legend(frameon=False, fontsize=8, loc="upper left", ncols=len(_PARTS))


def _hidden(records: Sequence[Mapping[str, Any]]) -> str:
    """Return how much of the exchange between nodes went on while layers were computed; nothing where none did."""
    hidden, waited = sum(_means(records, "hidden")), sum(_means(records, "communication"))
    return f" ({hidden / (hidden + waited):.0%} of communication hidden)" if hidden else ""


def _means(records: Sequence[Mapping[str, Any]], kind: str) -> list[float]:
    """Return each epoch's seconds of this kind, as the mean over the ranks."""
    ranks = [record.get("ranks_seconds", {}).get(kind) or (0.0,) for record in records]
    return [sum(seconds) / len(seconds) for seconds in ranks]


def _number(value: float | None) -> float:
    """Return a value that can be drawn: JSON has no NaN, and writes null."""
    return float("nan") if value is None else value

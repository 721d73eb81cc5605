"""Pictures of the course of runs: losses and metrics, learning rate, throughput, where the time went, staleness."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from onotrain.data.ranges import is_wide
from onotrain.reporting.groups import Group
from onotrain.reporting.history import AXES, History
from onotrain.reporting.pictures import COLORS, GREY, plain
from onotrain.reporting.plots import COLUMN, HEIGHT, Plot
from onotrain.text import cut

#: Where a rank's time goes, in the order of the bars.
_KINDS = {"compute": COLORS[0], "communication": COLORS[4], "wait": GREY}
#: Ranks that have a bar of their own, and groups with a picture of their ranks.
_MOST_RANKS, _MOST_GROUPS = 64, 8
#: Width of a legend's entry [characters].
_LEGEND = 46
#: Metrics, the first ones, that are drawn against all axes.
_MOST_AXES = 2
_PARTS = {"train": "training", "validation": "validation"}
_ABBREVIATIONS = ("mae", "mse", "rmse", "r2", "f1")
_STYLES = ("-", "--", ":", "-.")
_AGAINST = {
    "epoch": "at the end of each epoch",
    "time": "against time in the training loop, which validation and saving are no part of",
    "bytes": "against bytes that ranks sent to others with which they share no memory",
}


def course(groups: Sequence[Group]) -> Iterator[Plot]:
    """Yield the pictures of some runs, those that there is something to draw in."""
    runs = [run for group in groups for run in group.runs]
    lines = dict(enumerate(groups))  # a group has the same colour in all pictures
    sending = {n: group for n, group in lines.items() if any(run.bytes_sent.any() for run in group.runs)}
    metrics = list(dict.fromkeys(name for run in runs for name in run.metrics))
    for number, name in enumerate(metrics):
        for axis in AXES if number < _MOST_AXES else ("epoch",):
            drawn = sending if axis == "bytes" else lines
            if drawn:
                yield _metric(drawn, name, axis, number, several=len(groups) > 1)
    if any(run.steps for run in runs):
        yield _steps(groups)
    if any("learning_rate" in run.records[-1] for run in runs):
        yield _single(groups, "learning_rate", "learning rate", "Learning rate of the last step of each epoch.")
    yield _single(
        groups, "samples_per_second", "throughput [samples/s]", "Training samples per second of each epoch, all ranks."
    )
    for number, group in enumerate(groups[:_MOST_GROUPS]):
        if group.runs[0].ranks_seconds():
            yield _ranks(group, number, several=len(groups) > 1)
    if any(run.staleness() is not None for run in runs):
        yield _staleness(groups)


def look(number: int) -> dict[str, Any]:
    """Return colour and style of the line of a group."""
    return {"color": COLORS[number % len(COLORS)], "linestyle": _STYLES[number // len(COLORS) % len(_STYLES)]}


def put_legend(axes: Any, entries: int) -> None:
    """Put the legend above the axes, where it covers nothing."""
    if entries > 1:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2, handlelength=1.6)


def _height(entries: int) -> float:
    """Return the height of a picture whose legend has so many lines [inches]."""
    return HEIGHT + 0.14 * (entries if entries > 1 else 0)


def _draw(axes: Any, curve: tuple[np.ndarray, np.ndarray, np.ndarray], label: str, number: int) -> list[float]:
    """Draw places, means and spreads as the line with that number; return what is drawn."""
    places, mean, spread = curve
    axes.plot(places, mean, marker="o" if len(mean) == 1 else None, ms=3, label=label, **look(number))
    if spread.any():
        axes.fill_between(places, mean - spread, mean + spread, color=look(number)["color"], alpha=0.2, linewidth=0)
    return list(mean)


def _finish(axes: Any, x: str, y: str, drawn: Sequence[float], entries: int) -> None:
    """Give axes their titles, scales and legend."""
    if is_wide(drawn):
        axes.set_yscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(plain(y))
    axes.grid(axis="y", alpha=0.3, linewidth=0.5)
    if x == AXES["epoch"]:
        axes.xaxis.get_major_locator().set_params(integer=True)
    put_legend(axes, entries)


def _metric(groups: Mapping[int, Group], name: str, axis: str, number: int, *, several: bool) -> Plot:
    """Return the picture of a metric: of training and validation data for one group, else of validation data."""
    records = [run.records[-1] for group in groups.values() for run in group.runs]
    parts = [part for part in _PARTS if any(f"{part}_{name}" in record for record in records)]
    parts = parts[-1:] if several else parts
    shown = name.upper() if name in _ABBREVIATIONS else name.replace("_", " ")

    def draw(figure: Any) -> None:
        axes, drawn = figure.add_subplot(), list[float]()
        for line, group in groups.items():
            for place, part in enumerate(parts):
                label = plain(cut(group.label, _LEGEND)) if several else _PARTS[part]
                drawn += _draw(axes, group.curve(axis, f"{part}_{name}"), label, line if several else place)
        title = f"{_PARTS[parts[-1]]} {shown}" if several else shown
        _finish(axes, AXES[axis], title, drawn, len(groups) * len(parts))

    seeds = max(len(group.runs) for group in groups.values())
    spread = f" Lines are means of up to {seeds} seeds, bands one standard deviation." if seeds > 1 else ""
    caption = f"{' and '.join(_PARTS[part] for part in parts).capitalize()} {shown} {_AGAINST[axis]}.{spread}"
    # Other names may differ in signs that no file has.
    slug = name if name.replace("_", "").isalnum() else f"metric-{number + 1}"
    title = f"{shown[:1].upper()}{shown[1:]} against {axis}"
    return Plot(f"{slug.replace('_', '-')}-{axis}", title, caption, draw, _height(len(groups) * len(parts)))


def _steps(groups: Sequence[Group]) -> Plot:
    """Return the picture of the loss within epochs."""

    def draw(figure: Any) -> None:
        axes, drawn = figure.add_subplot(), list[float]()
        for number, group in enumerate(groups):
            for place, run in enumerate(each for each in group.runs if each.steps):
                losses = [np.nan if row["train_loss"] is None else row["train_loss"] for row in run.steps]
                label = None if place else plain(cut(group.label, _LEGEND))
                axes.plot([row["step"] for row in run.steps], losses, lw=0.7, label=label, **look(number))
                drawn += losses
        _finish(axes, "optimiser step", "training loss", drawn, len(groups))

    caption = "Mean training loss of the steps between two records (metrics.every_steps), one line per run."
    return Plot("loss-steps", "Loss within epochs", caption, draw, _height(len(groups)))


def _single(groups: Sequence[Group], key: str, title: str, caption: str) -> Plot:
    """Return the picture of one value of each epoch."""

    def draw(figure: Any) -> None:
        axes, drawn = figure.add_subplot(), list[float]()
        for number, group in enumerate(groups):
            drawn += _draw(axes, group.curve("epoch", key), plain(cut(group.label, _LEGEND)), number)
        axes.set_ylim(bottom=None if is_wide(drawn) else 0)
        _finish(axes, AXES["epoch"], title, drawn, len(groups))

    heading = title.partition(" [")[0].capitalize()
    return Plot(key.replace("_", "-"), heading, caption, draw, _height(len(groups)))


def _ranks(group: Group, number: int, *, several: bool) -> Plot:
    """Return the picture of where the time of each rank went, in the first run of a group."""
    run = group.runs[0]
    seconds = run.ranks_seconds()
    ranks = min(run.ranks, _MOST_RANKS)

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        places, left = np.arange(ranks), np.zeros(ranks)
        for kind, color in _KINDS.items():
            if seconds[kind].any():
                axes.barh(places, seconds[kind][:ranks], 0.8, left=left, color=color, label=kind)
                left += seconds[kind][:ranks]
        if ranks <= 16:
            axes.set_yticks(places, [_role(run, rank) for rank in range(ranks)])
        axes.invert_yaxis()
        axes.set_xlabel("time in the training loop [s]")
        axes.set_ylabel("rank")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2, handlelength=1.0, ncols=3)

    of = f" of {group.label}" if several else ""
    shown = "" if ranks == run.ranks else f" The first {ranks} of {run.ranks} ranks."
    first = f" Run {run.name}." if len(group.runs) > 1 else ""
    caption = f"Computing, sending and receiving, and waiting for others, by rank.{first}{shown}"
    height = max(1.2, 0.7 + 0.16 * ranks) if ranks <= 16 else HEIGHT
    return Plot(f"ranks-{number + 1}", f"Where the time{of} went", caption, draw, min(height, 1.4 * COLUMN))


def _role(run: History, rank: int) -> str:
    return f"{rank} (server)" if rank < run.servers else str(rank)


def _staleness(groups: Sequence[Group]) -> Plot:
    """Return the picture of how stale gradients were."""
    found = {number: each for number, group in enumerate(groups) if (each := group.runs[0].staleness()) is not None}

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for number, counts in found.items():
            share = counts / max(1, counts.sum())
            label = plain(cut(groups[number].label, _LEGEND))
            axes.plot(np.arange(len(share)), share, marker="o", ms=3, label=label, **look(number))
        axes.set_ylim(bottom=0)
        axes.set_xlabel("staleness [updates]")
        axes.set_ylabel("share of the gradients")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(axis="y", alpha=0.3, linewidth=0.5)
        put_legend(axes, len(found))

    caption = (
        "How many updates the parameters were ahead of those that a gradient was computed with, over the whole run."
    )
    return Plot("staleness", "Staleness", caption, draw, _height(len(found)))

"""Pictures of the course of runs: losses and metrics, learning rate, throughput, where the time went, staleness."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    metrics = list(dict.fromkeys(name for run in runs for name in run.metrics))
    for name in metrics:
        for axis in AXES:
            sending = [group for group in groups if any(run.axis("bytes")[-1] for run in group.runs)]
            if axis == "bytes" and not sending:
                continue
            if axis == "epoch" or name in ("loss", *metrics[1:2]):
                yield _metric(
                    groups, name, axis, silent=[] if axis != "bytes" else [g for g in groups if g not in sending]
                )
    if any(run.steps for run in runs):
        yield _steps(groups)
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


def _metric(groups: Sequence[Group], name: str, axis: str, silent: Sequence[Group]) -> Plot:
    """Return the picture of a metric of training and validation data, without groups that have nothing on the axis."""
    one = len(groups) == 1
    records = [run.records[-1] for group in groups for run in group.runs]
    parts = [part for part in ("train", "validation") if any(f"{part}_{name}" in record for record in records)]
    parts = parts if one else parts[-1:]
    words = {"train": "training", "validation": "validation"}
    shown = name.upper() if name in _ABBREVIATIONS else name.replace("_", " ")

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        drawn: list[float] = []
        entries = 0
        for number, group in enumerate(groups):
            for place, part in enumerate(() if group in silent else parts):
                where, mean, spread = group.curve(axis, f"{part}_{name}")
                if np.isnan(mean).all():
                    continue
                label = words[part] if one else plain(cut(group.label, _LEGEND))
                shape = look(place if one else number)
                axes.plot(where, mean, marker="o" if len(mean) < 2 else None, ms=3, label=label, **shape)
                if spread.any():
                    axes.fill_between(where, mean - spread, mean + spread, color=shape["color"], alpha=0.2, linewidth=0)
                drawn += mean.tolist()
                entries += 1
        if is_wide(drawn):
            axes.set_yscale("log")
        axes.set_xlabel(AXES[axis])
        axes.set_ylabel(plain(shown if one else f"{words[parts[-1]]} {shown}"))
        axes.grid(axis="y", alpha=0.3, linewidth=0.5)
        if axis == "epoch":
            axes.xaxis.get_major_locator().set_params(integer=True)
        put_legend(axes, entries)

    seeds = max(len(group.runs) for group in groups)
    spread = f" Lines are means of up to {seeds} seeds, bands one standard deviation." if seeds > 1 else ""
    title = f"{shown[:1].upper()}{shown[1:]} against {axis}"
    slug = "".join(c if c.isalnum() else "-" for c in name)
    caption = f"{' and '.join(words[part] for part in parts).capitalize()} {shown} {_AGAINST[axis]}.{spread}"
    return Plot(f"{slug}-{axis}", title, caption, draw, _height(len(parts) if one else len(groups)))


def _steps(groups: Sequence[Group]) -> Plot:
    """Return the picture of the loss within epochs."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        drawn: list[float] = []
        for number, group in enumerate(groups):
            for place, run in enumerate(each for each in group.runs if each.steps):
                losses = [np.nan if row["train_loss"] is None else row["train_loss"] for row in run.steps]
                label = None if place else plain(cut(group.label, _LEGEND))
                axes.plot([row["step"] for row in run.steps], losses, lw=0.7, label=label, **look(number))
                drawn += losses
        if is_wide(drawn):
            axes.set_yscale("log")
        axes.set_xlabel("optimiser step")
        axes.set_ylabel("training loss")
        axes.grid(axis="y", alpha=0.3, linewidth=0.5)
        put_legend(axes, len(groups))

    caption = "Mean training loss of the steps between two records (metrics.every_steps), one line per run."
    return Plot("loss-steps", "Loss within epochs", caption, draw, _height(len(groups)))


def _single(groups: Sequence[Group], key: str, title: str, caption: str) -> Plot:
    """Return the picture of one value of each epoch."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        drawn: list[float] = []
        for number, group in enumerate(groups):
            where, mean, spread = group.curve("epoch", key)
            label = plain(cut(group.label, _LEGEND))
            axes.plot(where, mean, marker="o" if len(mean) < 2 else None, ms=3, label=label, **look(number))
            if spread.any():
                color = look(number)["color"]
                axes.fill_between(where, mean - spread, mean + spread, color=color, alpha=0.2, linewidth=0)
            drawn += mean.tolist()
        if is_wide(drawn):
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.set_xlabel("epoch")
        axes.set_ylabel(title)
        axes.grid(axis="y", alpha=0.3, linewidth=0.5)
        axes.xaxis.get_major_locator().set_params(integer=True)
        put_legend(axes, len(groups))

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

"""What a study has found out: what each method to train costs to reach a target, how it scales, and what is chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from onotrain.config.metrics import mode_of
from onotrain.reporting.course import look, put_legend
from onotrain.reporting.groups import mean_and_spread
from onotrain.reporting.history import History
from onotrain.reporting.pictures import GREY, plain
from onotrain.reporting.plots import HEIGHT, Plot
from onotrain.reporting.report import Section
from onotrain.reporting.tables import with_spread
from onotrain.text import cut, figure

#: Numbers of ranks that differ by a larger factor are drawn on logarithmic axes.
_WIDE = 8
#: Confidence of the intervals.
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Trained:
    """A training of a study that has ended well."""

    label: str
    #: Ranks as the study counts them: all, or those that compute.
    count: int
    seed: int
    run: History


def compared(
    trained: Sequence[Trained], counted: str, target: tuple[str, float] | None, failed: Sequence[Mapping[str, Any]],
    predicted: Mapping[tuple[str, int], float] | None = None,
) -> list[Section]:  # fmt: skip
    """Return what a report says of a study before the course of its runs.

    Parameters
    ----------
    trained
        Trainings that have ended well.
    counted
        What `Trained.count` counts: ``ranks`` or ``workers``.
    target
        Metric of a record, and its value to be reached.
    failed
        Outcomes of the others.
    predicted
        Training samples per second by label and number of ranks, as simulated; None: they are not known.
    """
    sections = []
    if failed:
        rows = [{"training": each["name"], "exit code": str(each["code"]), "why": each["error"]} for each in failed]
        sections.append(Section("Failed", rows=rows))
    if target is not None:
        text = f"Until {target[0].replace('_', ' ')} reaches {figure(target[1])}, at the end of an epoch."
        sections.append(Section("To the target", text=text, rows=_to_target(trained, counted, *target)))
    if len({each.count for each in trained}) > 1:
        sections.append(_scaling(trained, counted, predicted or {}))
    if len({each.label for each in trained}) > 1 and len({each.seed for each in trained}) > 1:
        sections.append(_chance(trained, counted, target[0] if target else trained[0].run.headline))
    return sections


def _methods(trained: Sequence[Trained]) -> dict[tuple[str, int], list[Trained]]:
    """Return the trainings of each method and number of ranks."""
    found: dict[tuple[str, int], list[Trained]] = {}
    for each in trained:
        found.setdefault((each.label, each.count), []).append(each)
    return found


def _to_target(trained: Sequence[Trained], counted: str, metric: str, value: float) -> list[dict[str, str]]:
    """Return what each method needs until it reaches a value."""
    rows = []
    for (label, count), members in _methods(trained).items():
        reached = [(each.run, epoch) for each in members if (epoch := epoch_of(each.run, metric, value)) is not None]
        row = {"": label, counted: str(count), "reached by": f"{len(reached)} of {len(members)}"}
        for axis, title in {"epoch": "epochs", "time": "training time [s]", "bytes": "sent [MB]"}.items():
            needed = [float(run.axis(axis)[epoch]) for run, epoch in reached]
            row[title] = with_spread(*mean_and_spread(needed)) if any(needed) else "0" if needed else "-"
        rows.append(row)
    return rows


def epoch_of(run: History, metric: str, value: float) -> int | None:
    """Return the index of the first record in which a metric has reached a value; None if none has."""
    series = run.series(metric)
    good = series <= value if mode_of(metric) == "min" else series >= value
    return int(np.argmax(good)) if good.any() else None


def _scaling(trained: Sequence[Trained], counted: str, predicted: Mapping[tuple[str, int], float]) -> Section:
    """Return throughput over the number of ranks, against that of the fewest."""
    speeds: dict[str, dict[int, float]] = {}
    for (label, count), members in _methods(trained).items():
        speeds.setdefault(label, {})[count] = mean_and_spread([_throughput(each.run) for each in members])[0]
    ups = {label: _speed_ups(found) for label, found in speeds.items()}
    models = {
        label: _speed_ups({count: predicted[label, count] for count in found})
        for label, found in ups.items() if all((label, count) in predicted for count in found)
    }  # fmt: skip
    rows = [
        {"": label, counted: str(count), "samples/s": f"{speeds[label][count]:,.0f}",
         **({"predicted": f"{predicted[label, count]:,.0f}"} if models else {}),
         "speed-up": f"{up:.2f}", "efficiency": f"{up * min(found) / count:.0%}"}
        for label, found in ups.items() for count, up in found.items()
    ]  # fmt: skip

    def draw(figure: Any, *, efficiency: bool) -> None:
        axes = figure.add_subplot()
        counts = sorted({each.count for each in trained})
        ideal = [1.0 if efficiency else count / counts[0] for count in counts]
        axes.plot(counts, ideal, color=GREY, ls="--", lw=0.8, label="ideal")
        for number, (label, found) in enumerate(ups.items()):
            for drawn, style in ((found, {}), (models.get(label), {"linestyle": ":", "lw": 0.8, "label": None})):
                shown = {"marker": "o", "ms": 3, "label": plain(cut(label, 46)), **look(number), **style}
                values = [up * min(found) / count if efficiency else up for count, up in (drawn or {}).items()]
                axes.plot(list(drawn or {}), values, **{**shown, **({"marker": None} if style else {})})
        wide = counts[-1] > _WIDE * counts[0]
        if wide:
            axes.set_xscale("log", base=2)
        if wide and not efficiency:
            axes.set_yscale("log", base=2)
            axes.yaxis.set_major_formatter("{x:.3g}")
        else:
            axes.set_ylim(bottom=0)
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.minorticks_off()
        axes.set_xlabel(counted)
        axes.set_ylabel("efficiency" if efficiency else "speed-up")
        axes.grid(axis="y", alpha=0.3, linewidth=0.5)
        put_legend(axes, 1 + len(ups))

    height = HEIGHT + 0.14 * (1 + len(ups))
    base = f"Throughput against that of the fewest {counted} of the same method; means over seeds."
    base += " Dotted: as the study's cluster is simulated." if models else ""
    plots = [
        Plot("speed-up", "Speed-up", base, lambda figure: draw(figure, efficiency=False), height),
        Plot("efficiency", "Efficiency", f"Speed-up by the factor of {counted}.",
             lambda figure: draw(figure, efficiency=True), height),
    ]  # fmt: skip
    return Section("Scaling", plots, rows=rows)


def _speed_ups(speeds: Mapping[int, float]) -> dict[int, float]:
    """Return throughputs by number of ranks as multiples of that of the fewest."""
    return {count: speeds[count] / speeds[min(speeds)] for count in sorted(speeds)}


def _throughput(run: History) -> float:
    """Return training samples per second of a whole run."""
    seconds = run.series("train_seconds")
    return float((run.series("samples_per_second") * seconds).sum() / seconds.sum())


def _chance(trained: Sequence[Trained], counted: str, metric: str) -> Section:
    """Return differences from the first method, of the same seeds: paired, as seeds are what they have in common."""
    first = trained[0].label
    methods = _methods(trained)
    rows = []
    for (label, count), members in methods.items():
        pairs = _pairs(methods.get((first, count), []), members, metric)
        if label == first or len(pairs) < 2:  # noqa: PLR2004 - a spread needs two
            continue
        rows.append({"": label, counted: str(count), "seeds": str(len(pairs)), **_difference(pairs)})
    text = (
        f"Differences of {metric.replace('_', ' ')} from {first}, of the same seeds; intervals and p by Student's t of "
        "the paired differences. With few seeds only large differences can be told from chance."
    )
    return Section("What may be chance", text=text, rows=rows)


def _pairs(one: Sequence[Trained], other: Sequence[Trained], metric: str) -> np.ndarray:
    """Return the differences of a metric at the end of trainings of the same seeds, float64."""
    before = {each.seed: each.run.at_end(metric) for each in one}
    return np.array([each.run.at_end(metric) - before[each.seed] for each in other if each.seed in before])


def _difference(differences: np.ndarray) -> dict[str, str]:
    """Return mean, confidence interval and p of paired differences, in words."""
    mean, error = float(differences.mean()), float(stats.sem(differences))
    if not error:
        return {"difference": figure(mean), "95 % interval": "no spread", "p": "-"}
    low, high = stats.t.interval(_CONFIDENCE, len(differences) - 1, mean, error)
    p = float(stats.ttest_1samp(differences, 0.0).pvalue)
    return {"difference": figure(mean), "95 % interval": f"{figure(low)} to {figure(high)}", "p": f"{p:.3f}"}

"""Makes the table in docs/performance.md, and the plot beside it, of what `compare.py` has measured.

    python benchmarks/report.py benchmarks/results/<date>-peers-<cpu>.json [--name NAME --plot FILE]

The tables stand between two markers of that name; all else in the page is left alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from programs import ROOT
from results import filled, table
from rows import FAR_BEHIND, OURS, TRIALS, Result, Row

#: Of the markers in the page, where no other is given.
NAME = "results"
PAGE = ROOT / "docs" / "performance.md"
PLOT = ROOT / "docs" / "images" / "performance.png"
MET, NOT_MET = "tab:blue", "tab:red"
COLUMNS = ("what", "target", "median", "min to max", "met", "onotrain", "best other", "", "score", "its score")
#: Packages of the peers by the names that people know.
NAMES = {"torch": "PyTorch", "jax": "JAX", "jaxlib": "jaxlib", "scikit-learn": "scikit-learn"}


def number(value: float) -> str:
    """Return a number with three digits, or all of them in front of the point."""
    return f"{value:.{0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2 if abs(value) >= 0.9995 else 3}f}"


def target_of(row: Row) -> str:
    """Return what a row shall come to, in words."""
    if row.target is None:
        return ""
    if row.sense == "within":
        return f"the same within {100 * row.target:g} %"
    return f"{row.sense} {row.target:g} {row.unit}".rstrip()


def cells(result: Result) -> list[str]:
    """Return the cells of one row."""
    row, median, opponent = result.row, result.median, result.opponent
    if median is None:
        return [row.what, target_of(row), "not measured", *[""] * (len(COLUMNS) - 3)]
    low, high = (number(extreme(result.figures)) for extreme in (min, max))
    met = {None: "", True: "yes", False: "**no**"}[result.met]
    ours = statistics.median(outcome.value for outcome in result.ours)
    sides = ["", "", ""]
    if opponent is not None:
        sides = [f"{number(ours)} {row.side_unit}", opponent, f"{number(result.medians[opponent])} {row.side_unit}"]
    scores = [score_text(result.score(name)) for name in (OURS, opponent or "")]
    return [row.what, target_of(row), f"{number(median)} {row.unit}".rstrip(), f"{low} to {high}", met, *sides, *scores]


def score_text(score: float | None) -> str:
    """Return an accuracy or R2 with four digits; nothing where there is none."""
    return "" if score is None else f"{score:.4f}"


def peers_table(results: Sequence[Result]) -> str:
    """Return the table of all that ran beside ours, of the rows with several; all with their scores."""
    races = [result for result in results if len({**result.beside, **result.absent}) > 2]
    names = list(dict.fromkeys(name for result in races for name in result.beside))
    lines = []
    for result in races:
        ours = {OURS: result.ours} if result.ours else {}
        medians = {name: statistics.median(outcome.value for outcome in outcomes)
                   for name, outcomes in {**ours, **result.beside}.items()}  # fmt: skip
        found = [_shown(result, name, medians[name]) if name in medians else "" for name in (OURS, *names)]
        lines.append([f"{result.row.what} [{result.row.side_unit}]", *found])
    return table(["median (score)", OURS, *names], lines)


def _shown(result: Result, name: str, median: float) -> str:
    """Return a side's median and score, and its number of pairs if it was left out of some, or failed."""
    pairs = len(result.beside.get(name, result.ours))
    failed = " without a failure" if name in result.absent else ""
    fewer = f", {pairs} pair{'s' * (pairs > 1)}{failed}" if pairs < len(result.ours) else ""
    return f"{number(median)} ({score_text(result.score(name))}{fewer})"


def reasons(results: Sequence[Result]) -> str:
    """Return a list of what did not run, and its own words on why."""
    rows: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for name, why in result.absent.items():
            rows.setdefault((name, why), []).append(result.row.name)
    return "\n".join(f"- {name} ({', '.join(names)}): `{why}`" for (name, why), names in rows.items())


def place(machine: Mapping[str, Any], pairs: int) -> str:
    """Return a sentence on where and when it was measured."""
    blas = machine["blas"][0] if machine["blas"] else {"library": "unknown BLAS", "version": ""}
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    peers = ", ".join(f"{NAMES[name]} {version}" for name, version in machine["peers"].items())
    return fill(
        f"Measured on {machine['date']}: {machine['cpu']}, {machine['cores']} cores ({caches}), kernels "
        f"`{machine['kernels']}`, {machine['mpi'].split(',')[0]}, {blas['library']} {blas['version']}, NumPy "
        f"{machine['packages']['numpy']}, Python {machine['python']}, {peers}, commit "
        f"`{machine['commit']}`; medians of {pairs} pair{'s' * (pairs > 1)}{_left_out(pairs)}.",
        100,
    )


def _left_out(pairs: int) -> str:
    if pairs <= TRIALS:
        return ""
    return f", of the first {TRIALS} for peers that took {FAR_BEHIND:g} times as long as the best there"


def content_of(machine: Mapping[str, Any], pairs: int, results: Sequence[Result], picture: Path) -> str:
    """Return what stands between the markers."""
    parts = [
        place(machine, pairs), table(COLUMNS, map(cells, results)), f"![Medians, pairs and targets]({picture})",
        "All that ran beside onotrain:", peers_table(results),
    ]  # fmt: skip
    missing = reasons(results)
    return "\n\n".join([*parts, *(["What did not run, in its own words:", missing] if missing else [])])


def panels(results: Sequence[Result]) -> list[tuple[str, list[Result]]]:
    """Return the measured rows with a target by what their axis shows, without empty ones."""
    asked = [result for result in results if result.met is not None]
    limits = [result for result in asked if result.row.sense != "at least"]
    times = [result for result in asked if result not in limits and result.row.unit == "times"]
    shares = [result for result in asked if result not in limits and result not in times]
    kinds = [
        ("times faster (more is better)", times),
        ("against what is possible (more is better)", shares),
        ("share of what is allowed (less is better)", limits),
    ]
    return [(title, rows) for title, rows in kinds if rows]


def on_axis(row: Row, value: float) -> float:
    """Return where a value of a row stands on its axis: of a limit, the part of it."""
    if row.sense == "at least" or not row.target:
        return value
    return abs(value - 1.0) / row.target if row.sense == "within" else value / row.target


def draw(results: Sequence[Result], path: Path) -> None:
    """Draw a bar for each median, a dot for each pair, and a line for each target."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import lines, patches, pyplot

    shown = panels(results)
    heights = [len(rows) for _, rows in shown]
    figure, axes = pyplot.subplots(
        len(shown), 1, figsize=(9, 1.2 + 0.42 * sum(heights) + 0.55 * len(shown)), squeeze=False,
        gridspec_kw={"height_ratios": [height + 0.3 for height in heights]}, layout="constrained",
    )  # fmt: skip
    for axis, (title, rows) in zip(axes[:, 0], shown, strict=True):
        _panel(axis, title, rows)
    marks = [
        lines.Line2D([], [], marker="o", linestyle="", color="dimgray", markersize=4, label="a pair"),
        lines.Line2D([], [], color="black", linewidth=2, label="target"),
        patches.Patch(color=MET, alpha=0.45, label="median, met"),
        patches.Patch(color=NOT_MET, alpha=0.45, label="median, not met"),
    ]
    figure.legend(handles=marks, loc="outside upper right", ncols=4, frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})
    pyplot.close(figure)


def _panel(axis: Any, title: str, rows: Sequence[Result]) -> None:
    """Draw rows that have one axis; those with a limit as parts of it, because their units differ."""
    places, most = list(range(len(rows))), 0.0
    for at, result in zip(places, rows, strict=True):
        row, median, color = result.row, result.median or 0.0, MET if result.met else NOT_MET
        figures = [on_axis(row, figure) for figure in result.figures]
        target = (row.target or 0.0) if row.sense == "at least" else 1.0
        axis.barh(at, on_axis(row, median), height=0.62, color=color, alpha=0.45)
        axis.plot(figures, [at] * len(figures), "o", color=color, markersize=4)
        axis.plot([target] * 2, [at - 0.42, at + 0.42], color="black", linewidth=2)
        text = f" {number(median)} {row.unit}".rstrip() + (f" ({result.opponent})" if result.opponent else "")
        end = max(*figures, target, on_axis(row, median))
        axis.annotate(text, (end, at), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
        most = max(most, end)
    axis.set_yticks(places, [result.row.what for result in rows], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.3 * most)
    axis.set_title(title, fontsize=10, loc="left")
    axis.tick_params(axis="x", labelsize=8)
    axis.grid(axis="x", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Read the results; write table and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="what compare.py has written")
    parser.add_argument("--name", default=NAME, help="of the markers")
    parser.add_argument("--page", type=Path, default=PAGE, help="page with the markers")
    parser.add_argument("--plot", type=Path, default=PLOT, help="picture to write")
    args = parser.parse_args()
    try:
        content = json.loads(args.results.read_text())
        results = [Result.from_dict(result) for result in content["results"]]
        if not panels(results):
            raise ValueError("no row with a target was measured")
        picture = args.plot.resolve().relative_to(args.page.resolve().parent)
        text = content_of(content["machine"], content["pairs"], results, picture)
        page = filled(args.page.read_text(), text, args.name)
    except (OSError, KeyError, TypeError, ValueError) as error:
        sys.exit(f"{args.results}: {type(error).__name__}: {error}")
    draw(results, args.plot)
    args.page.write_text(page)
    print(f"{args.page} and {args.plot}")


if __name__ == "__main__":
    main()

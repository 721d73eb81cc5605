"""Makes the table in docs/performance.md, and the plot beside it, of what `compare.py` has measured.

    python benchmarks/report.py benchmarks/results/<date>-<cpu>.json

The table stands between two markers; all else in the page is left alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from programs import ROOT
from results import filled, table
from rows import Result

#: Of the markers in the page.
NAME = "results"
PAGE = ROOT / "docs" / "performance.md"
PLOT = ROOT / "docs" / "images" / "performance.png"
MET, NOT_MET = "tab:blue", "tab:red"
COLUMNS = ("what", "target", "median", "min to max", "met", "ours", "beside it")


def number(value: float) -> str:
    """Return a number with three digits, or all of them in front of the point."""
    return f"{value:.{0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2 if abs(value) >= 0.9995 else 3}f}"


def cells(result: Result) -> list[str]:
    """Return the cells of one row."""
    row, unit = result.row, f" {result.row.unit}".rstrip()
    target = "" if row.target is None else f"at {'most' if row.at_most else 'least'} {row.target:g}{unit}"
    low, high = (number(extreme(result.figures)) for extreme in (min, max))
    shown = [f"{number(side)} {row.side_unit}" if side is not None else "" for side in result.sides.values()]
    met = {None: "", True: "yes", False: "**no**"}[result.met]
    return [row.what, target, f"{number(result.median)}{unit}", f"{low} to {high}", met, *shown]


def place(machine: dict[str, Any], pairs: int) -> str:
    """Return a sentence on where and when it was measured."""
    blas = machine["blas"][0] if machine["blas"] else {"library": "unknown BLAS", "version": ""}
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    return fill(
        f"Measured on {machine['date']}: {machine['cpu']}, {machine['cores']} cores ({caches}), kernels "
        f"`{machine['kernels']}`, {machine['mpi'].split(',')[0]}, {blas['library']} {blas['version']}, NumPy "
        f"{machine['packages']['numpy']}, Python {machine['python']}, PyTorch {machine['torch']}, commit "
        f"`{machine['commit']}`; medians of {pairs} pair{'s' * (pairs > 1)}.",
        100,
    )


def panels(results: Sequence[Result]) -> list[tuple[str, list[Result]]]:
    """Return the rows with a target by what their axis shows, without empty ones."""
    asked = [result for result in results if result.row.target is not None]
    limits = [result for result in asked if result.row.at_most]
    times = [result for result in asked if not result.row.at_most and result.row.unit == "times"]
    shares = [result for result in asked if result not in limits and result not in times]
    kinds = [
        ("times faster (more is better)", times),
        ("against what is possible (more is better)", shares),
        ("share of what is allowed (less is better)", limits),
    ]
    return [(title, rows) for title, rows in kinds if rows]


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
    """Draw rows that have one axis; those with an upper limit as parts of it, because their units differ."""
    scales = [1 / result.row.target if result.row.at_most and result.row.target else 1.0 for result in rows]
    colors = [MET if result.met else NOT_MET for result in rows]
    places = list(range(len(rows)))
    medians = [result.median * scale for result, scale in zip(rows, scales, strict=True)]
    axis.barh(places, medians, height=0.62, color=colors, alpha=0.45)
    for at, result, scale, color in zip(places, rows, scales, colors, strict=True):
        figures = [figure * scale for figure in result.figures]
        target = (result.row.target or 0.0) * scale
        axis.plot(figures, [at] * len(figures), "o", color=color, markersize=4)
        axis.plot([target] * 2, [at - 0.42, at + 0.42], color="black", linewidth=2)
        text = f" {number(result.median)} {result.row.unit}".rstrip()
        axis.annotate(text, (max(*figures, target, medians[at]), at), xytext=(4, 0), textcoords="offset points",
                      va="center", fontsize=8)  # fmt: skip
    axis.set_yticks(places, [result.row.what for result in rows], fontsize=8)
    axis.invert_yaxis()
    most = max(
        max(result.figures + [result.row.target or 0]) * scale for result, scale in zip(rows, scales, strict=True)
    )
    axis.set_xlim(0, 1.18 * most)
    axis.set_title(title, fontsize=10, loc="left")
    axis.tick_params(axis="x", labelsize=8)
    axis.grid(axis="x", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Read the results; write table and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="what compare.py has written")
    parser.add_argument("--page", type=Path, default=PAGE, help="page with the markers")
    parser.add_argument("--plot", type=Path, default=PLOT, help="picture to write")
    args = parser.parse_args()
    try:
        content = json.loads(args.results.read_text())
        results = [Result.from_dict(result) for result in content["results"]]
        picture = args.plot.resolve().relative_to(args.page.resolve().parent)
        about = place(content["machine"], content["pairs"])
        text = f"{about}\n\n{table(COLUMNS, map(cells, results))}\n\n![Medians, pairs and targets]({picture})"
        page = filled(args.page.read_text(), text, NAME)
    except (OSError, KeyError, TypeError, ValueError) as error:
        sys.exit(f"{args.results}: {type(error).__name__}: {error}")
    draw(results, args.plot)
    args.page.write_text(page)
    print(f"{args.page} and {args.plot}")


if __name__ == "__main__":
    main()

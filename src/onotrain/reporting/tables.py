"""The numbers of runs, as rows of tables: for files of CSV, and for the page of a report."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from onotrain.reporting.groups import Group, mean_and_spread
from onotrain.reporting.history import History
from onotrain.runs.records import metrics_of
from onotrain.text import figure

Row = Mapping[str, Any]
#: Runs of more ranks, which are simulated, have no row for each of them and each epoch.
_MOST_RANKS = 1024
#: Facts of a summary, or of the last record of a run that goes on, in the order of the columns.
_FACTS = (
    "ranks", "nodes", "workers", "servers", "epochs", "steps", "finished", "train_seconds", "evaluation_seconds",
    "wall_seconds", "samples_per_second", "parameters", "parameters_sha256", "data_digest",
)  # fmt: skip


def csv_of(rows: Iterable[Row]) -> str:
    """Return rows as CSV: a column for every key, in the order in which they come."""
    found = list(rows)
    names = list(dict.fromkeys(key for row in found for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue()


def latex_of(rows: Sequence[Mapping[str, str]], caption: str) -> str:
    """Return rows of text as a table of LaTeX (package booktabs)."""
    names = list(rows[0])
    lines = [
        "\\begin{table}", f"\\caption{{{_in_latex(caption)}}}", f"\\begin{{tabular}}{{l{'r' * (len(names) - 1)}}}",
        "\\toprule", " & ".join(map(_in_latex, names)) + r" \\", "\\midrule",
        *(" & ".join(_in_latex(row[name]) for name in names) + r" \\" for row in rows),
        "\\bottomrule", "\\end{tabular}", "\\end{table}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


#: What LaTeX takes for something else, and how it is written.
_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "<": r"$<$", ">": r"$>$",
}  # fmt: skip


def _in_latex(text: str) -> str:
    return "".join(_SPECIAL.get(each, each) for each in text)


def files(groups: Sequence[Group]) -> dict[str, str]:
    """Return all numbers of runs, as CSV by the names of files; without those that would be empty."""
    runs = [(group, run) for group in groups for run in group.runs]
    tables: dict[str, Iterator[Row]] = {
        "runs.csv": (_run(group, run) for group, run in runs),
        "epochs.csv": (row for _, run in runs for row in _epochs(run)),
        "steps.csv": ({"run": run.name, **row} for _, run in runs for row in run.steps),
        "ranks.csv": (row for _, run in runs if run.ranks <= _MOST_RANKS for row in _ranks(run)),
        "staleness.csv": (row for _, run in runs for row in _staleness(run)),
    }
    found = {name: csv_of(rows) for name, rows in tables.items()}
    return {name: text for name, text in found.items() if text.strip()}


def _run(group: Group, run: History) -> Row:
    """Return what there is to say of a run as a whole."""
    facts = {**run.records[-1], "epochs": len(run.records), "finished": False, **(run.summary or {})}
    metrics = metrics_of(facts, ("train", "validation", "test"))
    return {
        "run": run.name, "path": str(run.path), "label": group.label, "seed": run.seed, "method": run.method,
        "simulated": run.config.simulate is not None,
        **{key: facts.get(key) for key in _FACTS}, **metrics, "bytes_sent": int(run.bytes_sent.sum()),
    }  # fmt: skip


def _epochs(run: History) -> Iterator[Row]:
    for record in run.records:
        staleness = record.get("staleness") or {}
        yield {
            "run": run.name,
            **{key: value for key, value in record.items() if not isinstance(value, Mapping | list)},
            **{f"staleness_{key}": staleness[key] for key in ("mean", "max") if key in staleness},
        }


def _ranks(run: History) -> Iterator[Row]:
    for record in run.records:
        kinds = {f"{kind}_seconds": values for kind, values in (record.get("ranks_seconds") or {}).items()}
        kinds |= {f"{kind}_bytes": values for kind, values in (record.get("ranks_bytes") or {}).items()}
        for rank in range(record.get("ranks", 0) if kinds else 0):
            yield {
                "run": run.name, "epoch": record["epoch"], "rank": rank,
                **{kind: values[rank] for kind, values in kinds.items()},
            }  # fmt: skip


def _staleness(run: History) -> Iterator[Row]:
    for record in run.records:
        for staleness, gradients in enumerate((record.get("staleness") or {}).get("histogram", ())):
            yield {"run": run.name, "epoch": record["epoch"], "staleness": staleness, "gradients": gradients}


def overview(groups: Sequence[Group]) -> list[dict[str, str]]:
    """Return a row of text for each group: metrics and costs at the end, mean and spread over its runs."""
    names = list(dict.fromkeys(name for group in groups for run in group.runs for name in run.metrics))
    rows = []
    for group in groups:
        row = {"": group.label, "seeds": ", ".join(str(run.seed) for run in group.runs)}
        for name in names:
            for part in ("validation", "test"):
                key = f"{part}_{name}"
                if any(key in (run.summary or run.records[-1]) for run in group.runs):
                    row[f"{part} {name.replace('_', ' ')}"] = with_spread(*group.last(key))
        row["training time [s]"] = with_spread(*_of(group, "time"))
        if any(run.bytes_sent.any() for run in group.runs):
            row["sent [MB]"] = with_spread(*_of(group, "bytes"))
        row["samples/s"] = with_spread(*group.last("samples_per_second"))
        rows.append(row)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return [{column: row.get(column, "") for column in columns} for row in rows]


def _of(group: Group, axis: str) -> tuple[float, float]:
    return mean_and_spread([float(run.axis(axis)[-1]) for run in group.runs])


def with_spread(mean: float, spread: float) -> str:
    """Return a mean, and its spread with as many decimals, if there is one."""
    text = figure(mean)
    if not spread:
        return text
    decimals = len(text.partition(".")[2]) if "e" not in text else 0
    return f"{text} ± {spread:.{decimals}f}" if decimals or "e" not in text else f"{text} ± {spread:.1e}"

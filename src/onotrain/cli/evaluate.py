"""``onotrain evaluate``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from onotrain.cli.samples import names_in, samples, spec_of, stream_of, threshold_of
from onotrain.cli.subcommand import Subcommand

if TYPE_CHECKING:
    from rich.console import RenderableType

    from onotrain.inference.evaluation import Evaluation

EXAMPLES = """
onotrain evaluate runs/digits digits
mpirun -n 4 onotrain evaluate runs/mnist mnist --part test
onotrain evaluate runs/iris iris.csv --metrics accuracy,top_2 --json
onotrain evaluate runs/fraud fraud.csv --threshold best_f1
"""
#: A larger confusion matrix is in the JSON only.
_LARGEST_MATRIX = 20
#: More classes are in the JSON only.
_MOST_CLASSES = 100


@click.command(cls=Subcommand, examples=EXAMPLES)
@samples
@click.option("--targets", multiple=True, metavar="NAME", help="The same for targets; the label file of NPY and IDX.")
@click.option("--metrics", metavar="NAME,...", help="Metrics to compute.  [default: all of the task]")
@click.option(
    "--threshold",
    metavar="VALUE|best_f1",
    help="Probability above which the answer is yes; best_f1: the one with the largest F1 on DATA.  [default: 0.5]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    run: str,
    data: str,
    format_: str,
    features: Sequence[str],
    part: str | None,
    stream: str,
    targets: Sequence[str],
    metrics: str | None,
    threshold: str | None,
    as_json: bool,
) -> None:
    """Measure the network of RUN, a run directory or a checkpoint, on the labelled samples in DATA.

    Prints the metrics, for classes the confusion matrix with precision, recall and F1, for values the errors of each
    output; the same numbers for any number of ranks.  DATA is a built-in data set or a file.
    """
    from onotrain.inference.evaluation import evaluate
    from onotrain.parallel import launcher

    wanted = None if metrics is None else names_in(metrics)
    spec = spec_of(data, format_, features, part, targets)
    chosen = threshold_of(threshold, "best_f1")
    evaluation = evaluate(run, spec, wanted, stream=stream_of(stream), threshold=chosen)
    if launcher.rank() > 0:
        return
    if as_json:
        click.echo(json.dumps(evaluation.to_mapping(), indent=2, allow_nan=False))
    else:
        _show(evaluation)
    for warning in evaluation.warnings:  # last, where they are seen
        click.echo(f"onotrain: warning: {warning}", err=True)


def _show(evaluation: Evaluation) -> None:
    """Print metrics, and the tables that are not too large."""
    from onotrain.cli.display import count, figure
    from onotrain.cli.terminal import console, terminal_columns

    screen = console(terminal_columns())
    screen.print(f"{evaluation.source}: {count(evaluation.samples, 'sample')}", markup=False)
    width = max(10, *map(len, evaluation.metrics))
    for name, value in evaluation.metrics.items():
        screen.print(f"  {name:<{width}} {figure(value)}", markup=False, highlight=False)
    if evaluation.threshold is not None:
        shown = evaluation.threshold if isinstance(evaluation.threshold, tuple) else (evaluation.threshold,)
        screen.print(f"  {'threshold':<{width}} {', '.join(f'{value:.17g}' for value in shown)}", markup=False)
    if 1 < len(evaluation.outputs) <= _MOST_CLASSES:
        screen.print(_outputs(evaluation))
    if evaluation.counts is None:
        return
    if len(evaluation.class_names) <= _MOST_CLASSES:
        screen.print(_scores(evaluation))
    if len(evaluation.class_names) <= _LARGEST_MATRIX:
        screen.print(_matrix(evaluation.class_names, evaluation.counts.dense().tolist()))
    else:
        screen.print(f"the confusion matrix of {count(len(evaluation.class_names), 'class', 'classes')}: use --json")


def _scores(evaluation: Evaluation) -> RenderableType:
    """Return the table of precision, recall and F1."""
    from rich.table import Table
    from rich.text import Text

    table = Table("class", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("precision", "recall", "F1", "samples"):
        table.add_column(title, justify="right")
    for score in evaluation.scores:
        shares = ("-" if math.isnan(value) else f"{value:.4f}" for value in (score.precision, score.recall, score.f1))
        table.add_row(Text(score.name), *shares, f"{score.support:,}")
    return table


def _outputs(evaluation: Evaluation) -> RenderableType:
    """Return the table of errors and R2 of each output."""
    from rich.table import Table
    from rich.text import Text

    from onotrain.cli.display import figure

    table = Table("output", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("mae", "rmse", "r2"):
        table.add_column(title, justify="right")
    for output in evaluation.outputs:
        shown = ("-" if math.isnan(value) else figure(value) for value in (output.mae, output.rmse, output.r2))
        table.add_row(Text(output.name), *shown)
    return table


def _matrix(names: Sequence[str], rows: Sequence[Sequence[int]]) -> RenderableType:
    """Return the confusion matrix."""
    from rich.table import Table
    from rich.text import Text

    table = Table("true \\ predicted", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(Text(name), justify="right")
    for number, (name, row) in enumerate(zip(names, rows, strict=True)):
        cells = (Text(f"{value:,}", style="bold" if at == number else "") for at, value in enumerate(row))
        table.add_row(Text(name), *cells)
    return table

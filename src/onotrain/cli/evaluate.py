"""``onotrain evaluate``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from onotrain.cli.samples import samples, spec_of, stream_of
from onotrain.cli.subcommand import Subcommand

if TYPE_CHECKING:
    from rich.console import RenderableType

    from onotrain.inference.evaluation import Evaluation

EXAMPLES = """
onotrain evaluate runs/digits digits
mpirun -n 4 onotrain evaluate runs/mnist mnist --part test
onotrain evaluate runs/iris iris.csv --metrics accuracy,top_2 --json
"""
#: A larger confusion matrix is in the JSON only.
_LARGEST_MATRIX = 20
#: More classes are in the JSON only.
_MOST_CLASSES = 100


@click.command(cls=Subcommand, examples=EXAMPLES)
@samples
@click.option("--targets", multiple=True, metavar="NAME", help="The same for targets; the label file of NPY and IDX.")
@click.option("--metrics", metavar="NAME,...", help="Metrics to compute.  [default: all of the task]")
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
    as_json: bool,
) -> None:
    """Measure the network of RUN, a run directory or a checkpoint, on the labelled samples in DATA.

    Prints the metrics, and for classes the confusion matrix with precision, recall and F1; the same numbers for any
    number of ranks.  DATA is a built-in data set or a file.
    """
    from onotrain.inference.evaluation import evaluate
    from onotrain.parallel import launcher

    wanted = None if metrics is None else [name.strip() for name in metrics.split(",") if name.strip()]
    spec = spec_of(data, format_, features, part, targets)
    evaluation = evaluate(run, spec, wanted, stream=stream_of(stream))
    if launcher.rank() > 0:
        return
    for warning in evaluation.warnings:
        click.echo(f"onotrain: {warning}", err=True)
    if as_json:
        click.echo(json.dumps(evaluation.to_mapping(), indent=2, allow_nan=False))
    else:
        _show(evaluation)


def _show(evaluation: Evaluation) -> None:
    """Print metrics, and the tables that are not too large."""
    from onotrain.cli.display import count, figure
    from onotrain.cli.terminal import console, terminal_columns

    screen = console(terminal_columns())
    screen.print(f"{evaluation.source}: {count(evaluation.samples, 'sample')}", markup=False)
    for name, value in evaluation.metrics.items():
        screen.print(f"  {name:<10} {figure(value)}", markup=False)
    if evaluation.confusion is None:
        return
    if len(evaluation.class_names) <= _MOST_CLASSES:
        screen.print(_scores(evaluation))
    if len(evaluation.class_names) <= _LARGEST_MATRIX:
        screen.print(_matrix(evaluation.class_names, evaluation.confusion.tolist()))
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

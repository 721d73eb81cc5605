"""``onotrain evaluate``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onotrain.cli.samples import names_in, precision_option, samples, spec_of, stream_of, threshold_of
from onotrain.cli.subcommand import Subcommand
from onotrain.cli.units import units_by_name

if TYPE_CHECKING:
    from onotrain.inference.evaluation import Evaluation
    from onotrain.known_names import Precision

EXAMPLES = """
onotrain evaluate runs/digits digits
mpirun -n 4 onotrain evaluate runs/mnist mnist --part test
onotrain evaluate runs/iris iris.csv --metrics accuracy,top_2 --json
onotrain evaluate runs/fraud fraud.csv --threshold best_f1
onotrain evaluate runs/flow flow.h5 --units pressure=Pa --plot flow.pdf
"""


@click.command(cls=Subcommand, examples=EXAMPLES)
@samples
@click.option("--targets", multiple=True, metavar="NAME", help="The same for targets; the label file of NPY and IDX.")
@click.option("--metrics", metavar="NAME,...", help="Metrics to compute.  [default: all of the task]")
@click.option(
    "--threshold",
    metavar="VALUE|best_f1",
    help="Probability above which the answer is yes; best_f1: the one with the largest F1 on DATA.  [default: 0.5]",
)
@precision_option
@click.option("--units", multiple=True, metavar="NAME=UNIT", help="Unit of an output of a regression; repeatable.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw predictions over targets, or ROC, precision and recall, and the confusion matrix: .png, .svg or .pdf.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    run: str,
    data: str,
    format_: str,
    features: Sequence[str],
    csv: Sequence[str],
    part: str | None,
    stream: str,
    targets: Sequence[str],
    metrics: str | None,
    threshold: str | None,
    precision: Precision,
    units: Sequence[str],
    plot: Path | None,
    as_json: bool,
) -> None:
    """Measure the network of RUN, a run directory or a checkpoint, on the labelled samples in DATA.

    Prints the metrics, for classes the confusion matrix with precision, recall and F1, for values the errors of each
    output; the same numbers for any number of ranks.  DATA is a built-in data set or a file.
    """
    from onotrain.cli.display import files_progress, warn
    from onotrain.cli.evaluate_tables import show
    from onotrain.inference.evaluation import evaluate
    from onotrain.parallel import launcher

    if plot is not None:
        _check_plot(plot)
    wanted = None if metrics is None else names_in(metrics)
    spec = spec_of(data, format_, features, part, targets, csv)
    chosen = threshold_of(threshold, "best_f1")
    known = units_by_name(units)
    with files_progress() as reading:
        evaluation = evaluate(
            run, spec, wanted, stream=stream_of(stream), threshold=chosen, units=known, drawable=plot is not None,
            precision=precision, reading=reading,
        )  # fmt: skip
    if launcher.rank() > 0:
        return
    if plot is not None:
        _draw(evaluation, plot)
    if as_json:
        click.echo(json.dumps(evaluation.to_mapping(), indent=2, allow_nan=False))
    else:
        show(evaluation)
        if plot is not None:
            click.echo(f"\ndrawn to {plot}")
    for note in evaluation.notes:
        warn(note)
    for warning in evaluation.warnings:  # last, where they are seen
        warn(f"warning: {warning}")


def _check_plot(plot: Path) -> None:
    """Refuse a picture that cannot be made, before anything is computed."""
    from onotrain.errors import OnotrainError, on_all_ranks
    from onotrain.reporting.pictures import check

    try:
        check(plot)
    except OnotrainError as error:
        raise on_all_ranks(error) from error.__cause__


def _draw(evaluation: Evaluation, plot: Path) -> None:
    from onotrain.reporting.evaluation import draw

    draw(evaluation, plot)

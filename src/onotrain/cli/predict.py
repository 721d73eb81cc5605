"""``onotrain predict``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click

from onotrain.cli.samples import precision_option, samples, spec_of, stream_of, threshold_of
from onotrain.cli.subcommand import Subcommand

if TYPE_CHECKING:
    from onotrain.inference.job import Begin, PredictionReport
    from onotrain.known_names import Precision

EXAMPLES = """
onotrain predict runs/digits samples.csv --output predictions.csv
mpirun -n 4 onotrain predict runs/mnist mnist --output predictions.h5
mpirun -n 4 onotrain predict runs/big big.h5 --features x --output big.npy
"""
#: Shortest time between two drawings of the bar [s].
_INTERVAL_S = 0.1


@click.command(cls=Subcommand, examples=EXAMPLES)
@samples
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A name in .h5, .npy or .csv.",
)
@click.option(
    "--threshold",
    metavar="VALUE",
    help="Probability above which the answer is yes, for networks that answer yes or no.  [default: 0.5]",
)
@precision_option
@click.option("--quiet", "-q", is_flag=True, help="Print warnings and errors only.")
def command(
    run: str,
    data: str,
    format_: str,
    features: Sequence[str],
    csv: Sequence[str],
    part: str | None,
    stream: str,
    output: Path,
    threshold: str | None,
    precision: Precision,
    quiet: bool,
) -> None:
    """Predict the samples in DATA with the network of RUN, a run directory or a checkpoint.

    Writes the class and the probabilities, or the values, of every sample in the order of the input: the same bytes for
    any number of ranks.  DATA is a built-in data set or a file; targets in it are not needed, and not read.
    """
    from onotrain.inference.job import predict_file

    if threshold == "best_f1":
        raise click.UsageError(
            "--threshold best_f1 needs targets, which predict does not read; choose one on labelled samples with "
            f"`onotrain evaluate {run} LABELLED --threshold best_f1`, and give the value that it prints"
        )
    chosen = threshold_of(threshold)
    from onotrain.cli.display import files_progress

    with files_progress(quiet=quiet) as reading, _progress(quiet) as begin:
        spec = spec_of(data, format_, features, part, csv=csv)
        report = predict_file(
            run, spec, output, stream=stream_of(stream), begin=begin, threshold=chosen, precision=precision,
            reading=reading,
        )  # fmt: skip
    if report is None:
        return
    from onotrain.cli.display import warn

    for warning in report.warnings:
        warn(warning)
    if not quiet:
        click.echo(_lines(report))


def _lines(report: PredictionReport) -> str:
    """Return what came of it."""
    from onotrain.cli.display import duration
    from onotrain.cli.terminal import text_columns
    from onotrain.text import count, wrapped

    rate = f"{report.samples_per_second:,.0f} samples/s"
    lines = [f"{count(report.samples, 'sample')} in {duration(report.seconds)} ({rate}) to {report.output}"]
    if report.precision != "full":
        lines.append(f"matrix products computed in {report.precision}")
    if len(report.chunks) > 1:
        lines.append(f"chunks of {report.chunk} samples that each rank predicted: {' '.join(map(str, report.chunks))}")
    return "\n".join(wrapped(line, text_columns(), 2) for line in lines)


@contextmanager
def _progress(quiet: bool) -> Iterator[Begin]:
    """Return what shows progress: a bar if a person watches, else nothing."""
    from onotrain.cli.terminal import console, terminal_columns, terminal_stream

    columns = terminal_columns()
    if quiet or columns is None:
        yield lambda samples: lambda rows: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    style = (TextColumn("predicting"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeRemainingColumn())
    bar = Progress(*style, console=console(columns, stream=terminal_stream()), auto_refresh=False, transient=True)

    def begin(samples: int) -> Callable[[int], None]:
        task, drawn = bar.add_task("", total=samples), [0.0]

        def advance(rows: int) -> None:
            bar.advance(task, rows)
            if perf_counter() - drawn[0] > _INTERVAL_S:
                bar.refresh()
                drawn[0] = perf_counter()

        return advance

    with bar:
        yield begin

"""``onotrain train``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onotrain.cli.subcommand import Subcommand, overrides

if TYPE_CHECKING:
    from onotrain.cli.display import Warnings

EXAMPLES = """
onotrain train configs/digits.yaml
mpirun -n 4 onotrain train configs/mnist-mlp.yaml --output runs/mnist
onotrain train config.yaml --set training.epochs=3 --set model.layers.0.dense.units=64
mpirun -n 4 onotrain train config.yaml --output runs/mnist --resume
onotrain train config.yaml --from runs/mnist --set optimizer.learning_rate=1e-4
"""


@click.command(cls=Subcommand, examples=EXAMPLES)
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Run directory to make.  [default: runs/NAME-NUMBER]",
)
@overrides
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint in --output, or begin if there is none.")
@click.option("--overwrite", is_flag=True, help="Replace a run in --output.")
@click.option(
    "--from",
    "origin",
    metavar="RUN",
    help="Begin with the parameters of another run or checkpoint; short for --set model.from=RUN.",
)
@click.option(
    "--progress",
    type=click.Choice(["auto", "bar", "lines", "none"]),
    default="auto",
    help="auto: a bar on a terminal, else a line for each epoch.  [default: auto]",
)
@click.option("--quiet", "-q", is_flag=True, help="Print warnings and errors only.")
def command(
    config: Path, output: Path | None, overrides: Sequence[str], resume: bool, overwrite: bool, origin: str | None,
    progress: str, quiet: bool,
) -> None:  # fmt: skip
    """Train the network that CONFIG (YAML) describes.

    Alone, or with all ranks of mpirun or srun; the result is the same for any number of ranks but for rounding.  A run
    directory holds the resolved configuration, metrics.jsonl, summary.json and the checkpoints.
    """
    if resume and output is None:
        raise click.UsageError("--resume needs --output DIR, the run to go on with")
    from onotrain.parallel import launcher
    from onotrain.training import train

    if origin is not None:
        overrides = [*overrides, f"model.from={json.dumps(origin)}"]
    if launcher.rank() > 0:
        train(config, overrides=overrides, output=output, resume=resume, overwrite=overwrite)
        return
    with _display(progress, quiet) as display:
        result = train(
            config, overrides=overrides, output=output, resume=resume, overwrite=overwrite, observers=[display]
        )
    if not quiet:
        _conclude(display, result.output, result.summary)
    for warning in result.summary.get("warnings", ()):  # last, where they are seen
        click.echo(f"onotrain: warning: {warning}", err=True)


def _display(progress: str, quiet: bool) -> Warnings:
    """Return what shows the run."""
    from onotrain.cli.display import Bar, Lines, Warnings
    from onotrain.cli.terminal import terminal_columns

    if quiet:
        return Warnings()
    columns = terminal_columns()
    if progress == "bar" or (progress == "auto" and columns is not None):
        return Bar(columns or 100)
    return Lines(epochs=progress != "none")


def _conclude(display: Any, output: Path, summary: Mapping[str, Any]) -> None:
    """Print what came out of the run, and what to do next."""
    from onotrain.cli.display import count, duration
    from onotrain.runs.run_directory import RunDirectory

    made = f"{count(summary['steps'], 'step')} in {duration(summary['train_seconds'])} of training"
    end = "done:" if summary.get("finished") else "stopped after"
    end = "stopped early after" if summary.get("stopped_early") else end
    display.print(f"{end} {made}{_best(RunDirectory.open(output).metrics(), summary)}")
    display.print(f"results in {output}; next: onotrain predict {output} DATA --output predictions.csv")


def _best(records: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> str:
    """Return the last and the best value of the metric that says most."""
    from onotrain.cli.display import figure

    for key, pick in (("validation_accuracy", max), ("validation_loss", min), ("train_loss", min)):
        known = [record for record in records if isinstance(record.get(key), float)]
        if known and isinstance(summary.get(key), float):
            best = pick(known, key=lambda record: record[key])
            name = key.replace("_", " ")
            kept = ", which is kept" if summary.get("restored_best") else ""
            return f"; {name} {figure(summary[key])}{kept} (best {figure(best[key])} in epoch {best['epoch']})"
    return ""

"""``onotrain train``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onotrain.cli.subcommand import Subcommand, overrides

if TYPE_CHECKING:
    from onotrain.cli.display import Warnings
    from onotrain.training.observers import Trace

#: What ``--profile`` traces if nobody says.
_PROFILED_STEPS = "100"
EXAMPLES = """
onotrain train configs/digits.yaml
mpirun -n 4 onotrain train configs/mnist-mlp.yaml --output runs/mnist
onotrain train config.yaml --set training.epochs=3 --set training.seed=1
mpirun -n 4 onotrain train config.yaml --output runs/mnist --resume
mpirun -n 4 onotrain train config.yaml --output runs/mnist --profile
onotrain train new.yaml --from runs/mnist --set optimizer.learning_rate=1e-4
"""


class _Steps(click.ParamType):
    """Steps to trace; a file name, as of a CONFIG behind ``--profile``, is none."""

    name = "steps"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return them as they are."""
        from onotrain.config.recording import ProfiledSteps

        if ProfiledSteps.of(value) is None:
            before = "; CONFIG comes before --profile" if Path(value).suffix else ""
            self.fail(f"expected STEPS or FIRST-LAST, such as 100 or 201-300 (got {value!r}){before}")
        return value


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
    "--profile",
    type=_Steps(),
    is_flag=False,
    flag_value=_PROFILED_STEPS,
    metavar="[STEPS]",
    help="Write a trace of all ranks for Perfetto: of so many steps after the first 10, or of steps FIRST-LAST; short "
    f"for --set metrics.profile=STEPS.  Without STEPS: {_PROFILED_STEPS}.",
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
    profile: str | None, progress: str, quiet: bool,
) -> None:  # fmt: skip
    """Train the network that CONFIG (YAML) describes.

    Alone, or with all ranks of mpirun or srun; the result is the same for any number of ranks but for rounding.  A run
    directory holds the resolved configuration, metrics.jsonl, summary.json and the checkpoints.
    """
    if resume and output is None:
        raise click.UsageError("--resume needs --output DIR, the run to go on with")
    from onotrain.training import train

    if origin is not None:
        overrides = [*overrides, f"model.from={json.dumps(origin)}"]
    if profile is not None:
        overrides = [*overrides, f"metrics.profile={json.dumps(profile)}"]
    first = _FirstRank(partial(_display, progress, quiet))
    with closing(first):
        observers: list[Any] = [first]
        result = train(
            config, overrides=overrides, output=output, resume=resume, overwrite=overwrite, observers=observers
        )
    if first.display is None:
        return
    from onotrain.cli.display import warn

    if not quiet:
        _conclude(first.display, result.output, result.summary)
    for warning in result.summary.get("warnings", ()):  # last, where they are seen
        warn(f"warning: {warning}")


class _FirstRank:
    """Observes on the rank that is the first, be it when those before it have died: others load no display."""

    def __init__(self, make: Callable[[], Warnings]) -> None:
        self._make = make
        #: None on a rank that is not the first.
        self.display: Warnings | None = None

    def __getattr__(self, name: str) -> Any:
        if self.display is None:
            self.display = self._make()
        return getattr(self.display, name)

    def close(self) -> None:
        """Clear what shall not stay on the screen."""
        if self.display is not None:
            self.display.close()


def _display(progress: str, quiet: bool) -> Warnings:
    """Return what shows the run."""
    from onotrain.cli.display import Bar, Lines, Warnings
    from onotrain.cli.terminal import terminal_columns, text_columns

    if quiet:
        return Warnings()
    columns = terminal_columns()
    if progress == "bar" or (progress == "auto" and columns is not None):
        return Bar(columns or 100)
    return Lines(epochs=progress != "none", columns=text_columns())


def _conclude(display: Any, output: Path, summary: Mapping[str, Any]) -> None:
    """Print what came out of the run, and what to do next: each command on a line of its own, to be copied."""
    from onotrain.cli.display import duration
    from onotrain.cli.terminal import text_columns
    from onotrain.runs.run_directory import RunDirectory
    from onotrain.text import count, wrapped

    made = f"{count(summary['steps'], 'step')} in {duration(summary['train_seconds'])} of training"
    end = "done:" if summary.get("finished") else "stopped after"
    end = "stopped early after" if summary.get("stopped_early") else end
    said = [*_best(RunDirectory.open(output).records(), summary), *_tested(summary)]
    facts = "".join(f"; {fact}" for fact in said)
    lines = [
        wrapped(f"{end} {made}{facts}", text_columns(), 2),
        f"results in {output}",
        f"next: onotrain evaluate {output} DATA",
        f"      onotrain predict {output} DATA --output predictions.csv",
    ]
    display.print("\n".join(lines))  # at once: a launcher puts nothing of the other stream between them
    if display.trace is not None:
        _show_trace(display.trace)


def _show_trace(trace: Trace) -> None:
    """Print where the time of the traced steps went, and what shows all of it."""
    from onotrain.cli.terminal import console, terminal_columns, text_columns
    from onotrain.cli.trace_tables import facts, trace_tables
    from onotrain.text import wrapped

    out = console(terminal_columns())
    for each in trace_tables(trace):
        out.print()
        out.print(each)
    for fact in facts(trace):
        out.print(wrapped(fact, text_columns(), 2), markup=False, soft_wrap=True)
    out.print(f"trace in {trace.path}", markup=False, soft_wrap=True)
    out.print(
        wrapped("https://ui.perfetto.dev opens it, in the browser: the file is not sent anywhere", text_columns(), 2),
        markup=False, soft_wrap=True,
    )  # fmt: skip


def _tested(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield what says most of how the network did on the test samples."""
    from onotrain.text import figure

    for key in ("test_accuracy", "test_loss"):
        if isinstance(summary.get(key), float):
            yield f"{key.replace('_', ' ')} {figure(summary[key])}"
            return


def _best(records: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield the last and the best value of what early stopping watches, or else of the metric that says most."""
    from onotrain.text import figure

    best = summary.get("best")
    if best:
        name, value = best["metric"].replace("_", " "), figure(best["value"])
        kept = "parameters of the" if summary.get("restored_best") else "parameters of the last epoch, not of the"
        yield f"{kept} best epoch, {best['epoch']}: {name} {value}"
        return
    for key, pick in (("validation_accuracy", max), ("validation_loss", min), ("train_loss", min)):
        known = [record for record in records if isinstance(record.get(key), float)]
        if known and isinstance(summary.get(key), float):
            found = pick(known, key=lambda record: record[key])
            name, last, first = key.replace("_", " "), figure(summary[key]), figure(found[key])
            yield f"{name} {last} (best {first} in epoch {found['epoch']})"
            return

"""``onotrain simulate``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onotrain.cli.subcommand import Subcommand

if TYPE_CHECKING:
    from onotrain.config.study import Study
    from onotrain.planning.simulated import Simulated

EXAMPLES = """
onotrain simulate configs/studies/simulated-cluster.yaml
onotrain simulate study.yaml --losses studies/study
"""


@click.command(cls=Subcommand, examples=EXAMPLES)
@click.argument("study", type=click.Path(path_type=Path), metavar="STUDY")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), metavar="DIR",
    help="Directory of the report.  [default: simulated/NAME]",
)  # fmt: skip
@click.option(
    "--losses", type=click.Path(path_type=Path), metavar="DIR",
    help="Take losses and metrics of each epoch from the trainings of this study (onotrain compare), of the same "
    "method and seed on any number of ranks.",
)  # fmt: skip
def command(study: Path, output: Path | None, losses: Path | None) -> None:
    """Simulate the trainings of a study on a cluster that need not exist, and report as compare does.

    The section cluster of STUDY says what the cluster is like.  What a rank computes is measured here, unless the
    section says that too.  Nothing is trained: how a loss falls does not follow from times.
    """
    from onotrain.config.study import cells_of, load_study
    from onotrain.errors import EXIT_OK, UsageError
    from onotrain.parallel.world import World
    from onotrain.planning.simulated import Probes, losses_of, simulated
    from onotrain.reporting.report import check

    check()
    wanted = load_study(study)
    cells = cells_of(wanted, study)
    known = losses_of(losses) if losses is not None else {}
    click.echo(f"{len(cells)} trainings of {study}, simulated")
    epochs = sum(cell.config.training.epochs for cell in cells)
    found = list[Any]()
    with World.connect() as world, _bar(epochs) as (say, advance):
        for each in simulated(cells, Probes(world, cells, say), known, advance):
            found.append(each)
            click.echo(_line(each, wanted))
    good = [each for each in found if each.course is not None]
    if good:
        click.echo(_report(wanted, study, output or Path("simulated") / study.stem, found, losses=bool(known)))
    sys.exit(EXIT_OK if len(good) == len(found) else UsageError.exit_code)


@contextmanager
def _bar(epochs: int) -> Iterator[Any]:
    """Yield what shows what is being done, and what counts an epoch, on a terminal."""
    from onotrain.cli.terminal import console

    screen = console(stderr=True)
    if not screen.is_terminal:
        yield (lambda what: None), (lambda: None)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=screen, transient=True) as progress:
        task = progress.add_task("epochs", total=epochs)
        yield (lambda what: progress.update(task, description=what)), (lambda: progress.advance(task))


def _line(each: Simulated, wanted: Study) -> str:
    """Return what came of a training."""
    from onotrain.text import count

    cell = each.cell
    what = f"{cell.label}, {count(cell.count, wanted.counted[:-1])}, seed {cell.seed}: "
    if each.course is None:
        return f"{what}NOT SIMULATED: {each.error}"
    summary = each.course.summary
    seconds = summary["train_seconds"] / summary["epochs"]
    failures = f", {count(summary['failures'], 'failure')}" if summary["failures"] else ""
    return f"{what}{seconds:,.4g} s an epoch, {summary['samples_per_second']:,.0f} samples/s{failures}"


def _report(wanted: Study, study: Path, output: Path, found: Sequence[Simulated], *, losses: bool) -> str:
    """Write the report, and return what to say of it."""
    from onotrain.cli.study_report import write_study_report
    from onotrain.errors import UsageError
    from onotrain.reporting.comparison import Trained
    from onotrain.reporting.history import History

    trained, failed = list[Any](), list[dict[str, Any]]()
    for cell, course, error in found:
        if course is None:
            failed.append({"name": cell.name, "code": UsageError.exit_code, "error": error})
            continue
        run = History(cell.name, output, cell.config, course.records, [], course.summary, {})
        trained.append(Trained(cell.label, cell.count, cell.seed, run))
    if not losses:
        wanted = wanted.model_copy(update={"target": None})
    return write_study_report(wanted, trained, failed, output, f"{study.stem}, simulated")

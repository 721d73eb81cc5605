"""``onotrain report``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from onotrain.cli.subcommand import Subcommand

EXAMPLES = """
onotrain report runs/digits
onotrain report runs/sync-* runs/async-* --output reports/servers
"""


@click.command(cls=Subcommand, examples=EXAMPLES)
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), metavar="DIR",
    help="Directory of the report.  [default: reports/NAME of the first run]",
)  # fmt: skip
@click.option("--title", default="", metavar="TEXT", help="Title of the page.  [default: names of the runs]")
@click.option(
    "--samples/--no-samples", default=True,
    help="Show what the best network makes of test or validation samples, which are read again.  [default: yes]",
)  # fmt: skip
def command(runs: Sequence[Path], output: Path | None, title: str, samples: bool) -> None:
    """Report on one run, or compare several.

    Writes one page of HTML that shows everything and needs no network, the same pictures as PDF, PNG and SVG of a
    column's width, and all numbers as CSV.  Runs that differ by their seed alone are shown by mean and spread.  Reads
    run directories only; a run that is still going on may be reported.
    """
    from onotrain.reporting.groups import grouped
    from onotrain.reporting.history import History
    from onotrain.reporting.judged import best_of, judged
    from onotrain.reporting.report import check, write_report

    check()
    names = [run.resolve().name for run in dict.fromkeys(runs)]
    alike = len(set(names)) < len(names)
    read = [History.read(run, str(run) if alike else "") for run in dict.fromkeys(runs)]
    others = f"-and-{len(read) - 1}-more" if len(read) > 1 else ""
    output = output or Path("reports") / f"{names[0]}{others}"
    with ExitStack() as stack:
        sections = [judged(best_of(read))] if samples else []
        page = write_report(grouped(read), output, sections, title=title, drawn=_bar(stack))
    click.echo(f"{page}\nfor print: {output / 'plots'}; numbers: {output / 'numbers'}")


def _bar(stack: ExitStack) -> Callable[[int, int], None]:
    """Return what shows how many pictures are drawn, on a terminal."""
    bars: list[Any] = []

    def drawn(done: int, plots: int) -> None:
        if not bars:
            bars.append(stack.enter_context(click.progressbar(length=plots, label="drawing", file=sys.stderr)))
        bars[0].update(done - bars[0].pos)

    return drawn

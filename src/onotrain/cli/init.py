"""``onotrain init``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onotrain.cli.subcommand import Subcommand, source_options

if TYPE_CHECKING:
    from onotrain.data import DataSpec

EXAMPLES = """
onotrain init samples.csv
onotrain init flow.h5 --targets temperature --units K --output flow.yaml
onotrain init train-images-idx3-ubyte --targets train-labels-idx1-ubyte
"""


@click.command(cls=Subcommand, examples=EXAMPLES)
@click.argument("data")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default="config.yaml",
    metavar="FILE",
    help="Configuration to write.  [default: config.yaml]",
)
@source_options
@click.option(
    "--units",
    multiple=True,
    metavar="UNIT|NAME=UNIT,...",
    help="Unit of the targets of a regression, or of each by name; repeatable.",
)
@click.option("--force", is_flag=True, help="Overwrite the configuration if there is one.")
def command(data: str, output: Path, spec: Callable[..., DataSpec], units: Sequence[str], force: bool) -> None:
    """Look at a data file and write a commented configuration that trains on it.

    DATA is a file, or `digits` or `mnist`.  The task follows from the targets: text and whole numbers are classes,
    columns of zeros and ones are labels, other numbers are predicted as they are.
    """
    from onotrain.cli.display import files_progress
    from onotrain.cli.terminal import text_columns
    from onotrain.cli.units import units as units_of
    from onotrain.data.reading import FileReader
    from onotrain.data.template import facts_of, template
    from onotrain.errors import ResourceError, UsageError
    from onotrain.text import printable, wrapped

    if output.exists() and not force:
        raise UsageError(f"{output}: exists already", hint="use another --output, or --force to overwrite it")
    wanted = spec(data)
    with files_progress() as progress:
        facts = facts_of(wanted, FileReader(progress))
    text = template(wanted, facts, units_of(units))
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ResourceError(f"{output}: cannot be written: {error.strerror}") from error
    columns = text_columns()
    click.echo(wrapped(text.splitlines()[0].removeprefix("# "), columns, 2, first=f"{output}: "))
    for note in facts.notes:
        click.echo(wrapped(printable(note), columns, 8, first="  note: "))
    click.echo(f"next: onotrain train {output}")

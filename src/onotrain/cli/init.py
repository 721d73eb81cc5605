"""``onotrain init``."""

from __future__ import annotations

from pathlib import Path

import click

from onotrain.cli.subcommand import Subcommand, names, source_options

EXAMPLES = """
onotrain init samples.csv
onotrain init measurements.h5 --features x --targets temperature --output measurements.yaml
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
@click.option("--force", is_flag=True, help="Overwrite the configuration if there is one.")
def command(
    data: str, output: Path, format_: str, features: tuple[str, ...], targets: tuple[str, ...], force: bool
) -> None:
    """Look at a data file and write a commented configuration that trains on it.

    DATA is a file, or `digits` or `mnist`.  The task follows from the targets: text and whole numbers are classes,
    columns of zeros and ones are labels, other numbers are predicted as they are.
    """
    from onotrain.cli.template import template
    from onotrain.data import DataSpec
    from onotrain.data.info import describe
    from onotrain.errors import ResourceError, UsageError

    if output.exists() and not force:
        raise UsageError(f"{output}: exists already", hint="use another --output, or --force to overwrite it")
    spec = DataSpec(data, format_, names(features), names(targets))
    text = template(spec, describe(spec))
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ResourceError(f"{output}: cannot be written: {error.strerror}") from error
    click.echo(f"{output}: {text.splitlines()[0].removeprefix('# ')}")
    click.echo(f"next: onotrain train {output}")

"""``onotrain init``."""

from __future__ import annotations

from pathlib import Path

import click

from onotrain.cli.verb import Verb

EXAMPLES = """
onotrain init samples.csv
onotrain init measurements.h5 --features x --targets temperature --output measurements.yaml
onotrain init train-images-idx3-ubyte --targets train-labels-idx1-ubyte
"""


@click.command(cls=Verb, examples=EXAMPLES)
@click.argument("data")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default="config.yaml",
    metavar="FILE",
    help="Configuration to write.  [default: config.yaml]",
)
@click.option(
    "--format", "format_", default="auto", metavar="FORMAT", help="Format of the file, if its name does not tell."
)
@click.option(
    "--features", multiple=True, metavar="NAME", help="Array (HDF5, NPZ), or columns (CSV, TSV; once for each)."
)
@click.option(
    "--targets", multiple=True, metavar="NAME", help="The same for the targets; the label file of NPY and IDX."
)
@click.option("--force", is_flag=True, help="Overwrite the configuration if there is one.")
def command(
    data: str, output: Path, format_: str, features: tuple[str, ...], targets: tuple[str, ...], force: bool
) -> None:
    """Look at a data file and write a commented configuration that trains on it.

    DATA is a file, or `digits` or `mnist`.  The task follows from the targets: text and whole numbers are classes,
    columns of zeros and ones are labels, other numbers are predicted as they are.
    """
    from onotrain.data import DataSpec, check_finite, load_dataset
    from onotrain.errors import ResourceError, UsageError
    from onotrain.training.template import template

    if output.exists() and not force:
        raise UsageError(f"{output}: exists already", hint="use another --output, or --force to overwrite it")
    spec = DataSpec(data, format_, _names(features), _names(targets))
    dataset = load_dataset(spec)
    check_finite(dataset)
    text = template(spec, dataset)
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ResourceError(f"{output}: cannot be written: {error.strerror}") from error
    click.echo(f"{output}: {text.splitlines()[0].removeprefix('# ')}")
    click.echo(f"next: onotrain train {output}")


def _names(names: tuple[str, ...]) -> str | tuple[str, ...] | None:
    """Return what the option means: nothing, one name, or several."""
    return None if not names else names[0] if len(names) == 1 else names

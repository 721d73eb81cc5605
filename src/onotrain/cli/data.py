"""``onotrain data``: info, convert, fetch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onotrain.cli.subcommand import Group, Subcommand, show_help_without_subcommand, source_options

if TYPE_CHECKING:
    from onotrain.data import DataSpec


@click.group(cls=Group, invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Look at data files, convert them, fetch built-in data sets."""
    show_help_without_subcommand(ctx)


@command.command(
    cls=Subcommand,
    examples="""
onotrain data info samples.csv
onotrain data info train.h5 test.h5 --targets label
onotrain data info digits
""",
)
@click.argument("paths", nargs=-1, required=True, metavar="DATA...")
@source_options
def info(paths: Sequence[str], spec: Callable[..., DataSpec]) -> None:
    """Show what is in data files, and what would be made of it.

    Of tables: how they are written, every column, its kind and what is missing, and the target that would be taken.  Of
    arrays: shapes, types and spread.  Of targets: balance of the classes, or the range of each.
    """
    from onotrain.cli import data_info
    from onotrain.cli.display import files_progress
    from onotrain.cli.terminal import console, terminal_columns, text_columns
    from onotrain.data.reading import FileReader
    from onotrain.text import printable, wrapped

    out, columns = console(terminal_columns()), text_columns()
    for number, path in enumerate(paths):
        with files_progress() as progress:
            facts, tables = data_info.describe(spec(path), FileReader(progress))
        if number:
            out.print()
        for name, fact in facts:
            out.print(wrapped(printable(fact), columns, 10, first=f"{name:<10}"), markup=False, soft_wrap=True)
        for table in tables:
            out.print()
            out.print(table)


class _Seed(click.ParamType):
    """A whole number that is not negative."""

    name = "seed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number, or explain what was taken for it."""
        if isinstance(value, int):
            return value
        if not str(value).isdecimal():
            self.fail(f"{value!r} is no seed, expected a whole number from 0; put --shuffle after SRC and DST", param)
        return int(value)


@command.command(
    cls=Subcommand,
    examples="""
onotrain data convert samples.csv samples.h5 --targets species
onotrain data convert digits digits.h5
onotrain data convert prices.csv prices.parquet
onotrain data convert large.h5 shuffled.h5 --shuffle 7
""",
)
@click.argument("source", metavar="SRC")
@click.argument("destination", type=click.Path(path_type=Path), metavar="DST")
@click.option(
    "--shuffle", type=_Seed(), is_flag=False, flag_value=0, metavar="[SEED]",
    help="Write the samples in a random order that follows from the seed.  [without SEED: 0]",
)  # fmt: skip
@click.option("--part", type=click.Choice(["train", "test"]), default="train", help="Part of a built-in data set.")
@click.option("--compress", is_flag=True, help="Compress with gzip: smaller, and slower to read.")
@click.option("--force", is_flag=True, help="Overwrite DST if it exists.")
@source_options
def convert(
    source: str,
    destination: Path,
    shuffle: int | None,
    part: str,
    compress: bool,
    force: bool,
    spec: Callable[..., DataSpec],
) -> None:
    """Write a data file in another format, which the suffix of DST says.

    As HDF5 numbers are read fastest, and can be streamed when they are larger than the memory.  A table is written as
    CSV, TSV, Parquet, Arrow or HDF5 with its text, dates and missing values.

    A random order makes the windows in which streamed data are shuffled alike.
    """
    from onotrain.data.convert import convert as write
    from onotrain.data.convert import convert_table, takes_columns
    from onotrain.errors import UsageError
    from onotrain.known_names import TABLES, format_of_file
    from onotrain.text import count, printable

    if destination.suffix.lower() not in (".h5", ".hdf5") and format_of_file(destination.name) not in TABLES:
        raise UsageError(
            f"{destination}: no format that is written; expected .h5, .hdf5, .csv, .tsv, .parquet or .arrow",
            hint=f"write {destination.stem}.h5",
        )
    if destination.exists() and not force:
        raise UsageError(f"{destination}: exists already", hint="use another name, or --force to overwrite it")
    compression = "gzip" if compress else None
    if part == "train" and takes_columns(spec(source), destination):
        samples, notes = convert_table(spec(source), destination, shuffle_seed=shuffle, compression=compression)
        for note in notes:
            click.echo(f"note: {printable(note)}")
    else:
        with _bar("samples") as report:
            samples = write(
                spec(source, part), destination, shuffle_seed=shuffle, compression=compression,
                progress=lambda done, total: report(str(destination), done, total),
            )  # fmt: skip
    click.echo(f"{destination}: {count(samples, 'sample')}")


@command.command(
    cls=Subcommand,
    examples="""
onotrain data fetch mnist
onotrain data fetch mnist --from ~/downloads
""",
)
@click.argument("name")
@click.option("--from", "source", type=click.Path(path_type=Path), metavar="DIR", help="Directory that has the files.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where data sets are kept.  [default: $ONOTRAIN_DATA_DIR, or the user's cache]",
)
def fetch(name: str, source: Path | None, data_dir: Path | None) -> None:
    """Put the files of a built-in data set in place and verify their SHA-256.

    Files that are there and right are left alone.  Without --from they are downloaded.
    """
    from onotrain.data.fetch import fetch as get

    with _bar("bytes") as report:
        files = get(name, source, data_dir, progress=report)
    for file in files:
        click.echo(f"{file}: right")


@contextmanager
def _bar(unit: str) -> Iterator[Callable[[str, int, int | None], None]]:
    """Give a function that draws how far something is; it draws nothing where there is no terminal."""
    from onotrain.cli.terminal import console, terminal_columns

    columns = terminal_columns()
    if columns is None:
        yield lambda name, done, total: None
        return
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    amount = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    with Progress(
        TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn(),
        console=console(columns), transient=True,
    ) as progress:  # fmt: skip
        tasks: dict[str, Any] = {}

        def report(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=done)

        yield report

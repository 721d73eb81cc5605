"""What all subcommands share: examples in the help, and options that several subcommands have."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from onotrain.known_names import FORMATS

_F = TypeVar("_F", bound=Callable[..., Any])


class Subcommand(click.Command):
    """A command whose help ends with examples, shown as they are written.

    Parameters
    ----------
    examples
        Lines of example commands, without indentation.
    """

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the examples."""
        if self.examples:
            lines = "".join(f"  {line}\n" for line in self.examples.strip().splitlines())
            formatter.write(f"\nExamples:\n{lines}")


class Group(click.Group):
    """A group of subcommands that knows what was meant by a wrong one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the subcommand and its arguments."""
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            ctx.fail(f"no such command {args[0]!r}; {nearest(args[0], known)}")
        return super().resolve_command(ctx, args)


def nearest(wanted: str, known: Sequence[str]) -> str:
    """Return a sentence that names the known word nearest to `wanted`, or all of them."""
    near = difflib.get_close_matches(wanted.lower(), known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"


def show_help_without_subcommand(ctx: click.Context) -> None:
    """Print the help of a group that was called without a subcommand."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def overrides(function: _F) -> _F:
    """Add the option ``--set``, which changes values of a configuration file; the function gets `overrides`."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY.PATH=VALUE",
        help="Change one value of the configuration, such as training.epochs=3; may be given several times.",
    )(function)


def features_and_format(function: _F) -> _F:
    """Add the options ``--features`` and ``--format``; the function gets `features` and `format_`."""
    features = click.option(
        "--features",
        multiple=True,
        metavar="NAME",
        help="Array (HDF5, NPZ), or columns of a table: names, patterns such as 'p_*', or a list with commas.",
    )
    format_ = click.option(
        "--format",
        "format_",
        type=click.Choice(["auto", *FORMATS]),
        default="auto",
        help="Format of the file; auto goes by its name.  [default: auto]",
    )
    return format_(features(function))


def csv_option(function: _F) -> _F:
    """Add the option ``--csv``; the function gets `csv`."""
    return click.option(
        "--csv", multiple=True, metavar="KEY=VALUE",
        help="How a CSV or TSV file is written, such as decimal=',' or header=false; keys: those of data.csv.",
    )(function)  # fmt: skip


def source_options(function: _F) -> _F:
    """Add the options that say how to read a file; the function gets `spec`, which makes a `DataSpec` of a path."""

    @functools.wraps(function)
    def with_spec(
        *arguments: Any, format_: str, features: Sequence[str], targets: Sequence[str], exclude: Sequence[str],
        csv: Sequence[str], **others: Any,
    ) -> Any:  # fmt: skip
        from onotrain.config import text_table_of
        from onotrain.data import DataSpec

        def spec(path: str, part: str = "train") -> DataSpec:
            return DataSpec(
                path, format_, names(features), names(targets), part, exclude=tuple(exclude), csv=text_table_of(csv)
            )

        return function(*arguments, spec=spec, **others)

    for option in (
        csv_option,
        click.option("--exclude", multiple=True, metavar="NAME", help="Columns that are no features; patterns too."),
        click.option(
            "--targets", multiple=True, metavar="NAME", help="The same for targets; the label file of NPY and IDX."
        ),
        features_and_format,
    ):  # fmt: skip
        with_spec = option(with_spec)
    return with_spec  # type: ignore[return-value]


def names(values: Sequence[str]) -> str | tuple[str, ...] | None:
    """Return what a repeatable option means: nothing, one name, or several."""
    return None if not values else values[0] if len(values) == 1 else tuple(values)

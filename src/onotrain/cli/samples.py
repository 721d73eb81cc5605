"""Arguments and options of the subcommands that put samples through a trained network."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from onotrain.cli.subcommand import csv_option, features_and_format, names
from onotrain.known_names import BUILT_IN, PRECISIONS

if TYPE_CHECKING:
    from onotrain.data import DataSpec

_F = TypeVar("_F", bound=Callable[..., Any])
_HELD_OUT = ", ".join(f"{built_in.held_out} of {name}" for name, built_in in BUILT_IN.items())
_STREAM: dict[str, Any] = {"auto": "auto", "true": True, "false": False}


def samples(function: _F) -> _F:
    """Add RUN and DATA, and how to read DATA: `run`, `data`, `format_`, `features`, `csv`, `part`, `stream`."""
    for decorate in (
        click.option(
            "--stream",
            type=click.Choice(list(_STREAM)),
            default="auto",
            help="Leave HDF5 or Parquet on the disk while reading it; auto: if it is large beside the memory.",
        ),
        click.option(
            "--part",
            type=click.Choice(["train", "test"]),
            help=f"Part of a built-in data set.  [default: {_HELD_OUT}]",
        ),
        csv_option,
        features_and_format,
        click.argument("data", metavar="DATA"),
        click.argument("run", metavar="RUN"),
    ):
        function = decorate(function)
    return function


precision_option = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="full",
    help="What matrix products are computed in: the network's dtype, or bf16 with float32 sums, which is faster.",
)


def stream_of(word: str) -> Any:
    """Return what the value of ``--stream`` stands for."""
    return _STREAM[word]


def spec_of(
    data: str, format_: str, features: Sequence[str], part: str | None, targets: Sequence[str] = (),
    csv: Sequence[str] = (),
) -> DataSpec:  # fmt: skip
    """Return which data the arguments mean; of built-in data with a test part that one."""
    from onotrain.config import text_table_of
    from onotrain.data import DataSpec
    from onotrain.errors import ConfigError, on_all_ranks

    try:
        table = text_table_of(csv)
    except ConfigError as error:
        raise on_all_ranks(error) from None
    return DataSpec(
        data,
        format_,
        names(features),
        names(targets),
        part=part or (BUILT_IN[data].held_out if data in BUILT_IN else "train"),
        csv=table,
    )


def names_in(text: str) -> list[str]:
    """Return the names in a comma-separated list; a comma in brackets is part of a name, as in ``f1[a, b]``."""
    return [name.strip() for name in re.split(r",(?![^\[]*\])", text) if name.strip()]


def threshold_of(text: str | None, *names: str) -> Any:
    """Return a threshold on the command line: a number, one of `names`, or None if it is not given.

    Raises
    ------
    click.UsageError
        It is something else.
    """
    if text is None or text in names:
        return text
    try:
        return float(text)
    except ValueError:
        expected = " or ".join(["a probability from 0 to 1", *names])
        raise click.UsageError(f"--threshold is {text!r}, expected {expected}") from None

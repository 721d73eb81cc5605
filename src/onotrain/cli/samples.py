"""Arguments and options of the verbs that put samples through a trained network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from onotrain.cli.verb import names
from onotrain.data import FORMATS, DataSpec

_F = TypeVar("_F", bound=Callable[..., Any])
_STREAM: dict[str, Any] = {"auto": "auto", "true": True, "false": False}


def samples(function: _F) -> _F:
    """Add RUN and DATA, and how to read DATA: `run`, `data`, `format_`, `features`, `part`, `stream`."""
    for decorate in (
        click.option(
            "--stream",
            type=click.Choice(list(_STREAM)),
            default="auto",
            help="Leave HDF5 on the disk while reading it; auto: if it is large beside the memory.",
        ),
        click.option(
            "--part",
            type=click.Choice(["train", "test"]),
            help="Part of a built-in data set.  [default: test of mnist, train of digits]",
        ),
        click.option(
            "--features", multiple=True, metavar="NAME", help="Array (HDF5, NPZ), or columns (CSV, TSV; one by one)."
        ),
        click.option(
            "--format",
            "format_",
            type=click.Choice(["auto", *FORMATS]),
            default="auto",
            help="Format of DATA; auto goes by its name.  [default: auto]",
        ),
        click.argument("data", metavar="DATA"),
        click.argument("run", metavar="RUN"),
    ):
        function = decorate(function)
    return function


def stream_of(word: str) -> Any:
    """Return what the value of ``--stream`` stands for."""
    return _STREAM[word]


def spec_of(
    data: str, format_: str, features: Sequence[str], part: str | None, targets: Sequence[str] = ()
) -> DataSpec:
    """Return which data the arguments mean; of built-in data with a test part that one."""
    return DataSpec(
        data, format_, names(features), names(targets), part=part or ("test" if data == "mnist" else "train")
    )

"""What all verbs share: examples in the help, and options that several verbs have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])


class Verb(click.Command):
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


def overrides(function: _F) -> _F:
    """Add the option ``--set``, which changes values of a configuration file; the function gets `overrides`."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY.PATH=VALUE",
        help="Change one value of the configuration, such as training.epochs=3; may be given several times.",
    )(function)

"""``onotrain watch``."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onotrain.cli.subcommand import Subcommand

if TYPE_CHECKING:
    from onotrain.watching.watched import WatchedRun

EXAMPLES = """
onotrain watch runs/mnist
onotrain watch runs/mnist --once
onotrain watch runs/mnist --web :8080
onotrain watch runs/mnist --ask stop
"""
#: Width of what is printed where there is no terminal [characters].
_COLUMNS = 100
#: How long to wait for a run to hear a request, and between two looks [s].
_HEARD_S, _LOOK_S = 60.0, 0.2


@click.command(cls=Subcommand, examples=EXAMPLES)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--once", is_flag=True, help="Print what there is to see, and end; this is also what a pipe gets.")
@click.option(
    "--web", metavar="[HOST]:PORT",
    help="Serve a page that a browser updates, in place of the terminal; without HOST to programs of this host only.",
)  # fmt: skip
@click.option(
    "--ask", type=click.Choice(["save", "stop"]), help="Ask the run to save and go on, or to save and stop, and end."
)
def command(run: Path, once: bool, web: str | None, ask: str | None) -> None:
    """Watch a run that goes on, or look at one that is over.

    Reads the run directory only, so it works from every host that sees it, such as a login node.  Keys: s has the run
    save, x has it save and stop, q leaves.
    """
    from onotrain.watching.watched import WatchedRun

    if sum((once, web is not None, ask is not None)) > 1:
        raise click.UsageError("--once, --web and --ask exclude each other")
    watched = WatchedRun(run)
    if ask is not None:
        _ask(watched, ask)
    elif web is not None:
        _serve(watched, web)
    elif once or not _can_draw():
        _print(watched)
    else:
        _draw(watched)


def _can_draw() -> bool:
    """Return whether there is a terminal, to draw on and to take keys from."""
    terminals = all(os.isatty(descriptor) for descriptor in range(3))
    return terminals and os.environ.get("TERM", "dumb") != "dumb"


def _print(watched: WatchedRun) -> None:
    from onotrain.cli.terminal import text_columns
    from onotrain.watching.drawing import draw, plain

    ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
    click.echo(plain(draw(watched.look(), max(20, text_columns() or _COLUMNS), ascii_only=ascii_only)))


def _draw(watched: WatchedRun) -> None:
    from onotrain.watching.extra import needing

    with needing():
        from onotrain.watching.terminal import Dashboard
    dashboard = Dashboard(watched)
    dashboard.run()
    if dashboard.failure is not None:
        raise dashboard.failure


def _serve(watched: WatchedRun, web: str) -> None:
    from onotrain.config.recording import Address
    from onotrain.watching.extra import needing

    address = Address.of(web)
    if address is None:
        raise click.UsageError(f"--web: expected HOST:PORT or :PORT, such as :8080 (got {web!r})")
    with needing():
        from onotrain.watching.web import Page
    page = Page(watched, address)
    click.echo(f"{page.url}\nwhoever has this address may watch the run, have it save, and stop it; Ctrl-C ends")
    page.serve()


def _ask(watched: WatchedRun, ask: str) -> None:
    """Ask, and wait until the run has heard it."""
    from onotrain.errors import PlatformError
    from onotrain.runs import live

    request = live.Request(ask)
    watched.look()
    watched.ask(request)
    end = time.monotonic() + _HEARD_S
    try:
        while live.asked(watched.path, request):
            if time.monotonic() > end:
                raise PlatformError(
                    f"{watched.path}: the run has not heard the request for {_HEARD_S:.0f} s, and it was taken back",
                    hint="see whether it is alive: onotrain watch RUN --once",
                )
            time.sleep(_LOOK_S)
    finally:
        live.withdraw(watched.path, request)
    click.echo(f"{watched.path}: the run has heard that it is to {ask}")

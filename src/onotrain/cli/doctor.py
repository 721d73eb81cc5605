"""``onotrain doctor``."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

import click

from onotrain.cli.subcommand import Subcommand

EXAMPLES = """
onotrain doctor
mpirun -n 4 onotrain doctor
srun onotrain doctor
"""
#: When a job that makes no progress is ended [s].
LIMIT_S = 60.0


@click.command(cls=Subcommand, examples=EXAMPLES)
def command() -> None:
    """Check MPI, BLAS, kernels, cores, memory and limits on all ranks; say what is wrong and how to fix it.

    Run it as you run your training: alone, or under mpirun or srun with as many ranks.  The exit code is 7 if something
    fails, 0 if there are only warnings.
    """
    from onotrain.errors import PlatformError, on_all_ranks
    from onotrain.parallel import doctor
    from onotrain.parallel.world import World

    watchdog = threading.Timer(LIMIT_S, _give_up)
    watchdog.daemon = True
    watchdog.start()
    world = World.connect()
    out = _Output() if world.rank == 0 else None
    failures = 0
    for finding in doctor.examine(world):
        failures += finding.level == "FAIL"
        if out is not None:
            out.show(finding)
    watchdog.cancel()
    if failures:
        raise on_all_ranks(PlatformError(f"{failures} check{'s' * (failures > 1)} failed; see the hints above"))


class _Output:
    """Prints findings, with the level in colour on a terminal."""

    def __init__(self) -> None:
        from onotrain.cli.terminal import console, terminal_columns, text_columns

        self._console, self._columns = console(terminal_columns()), text_columns()

    def show(self, finding: Any) -> None:
        """Print one finding."""
        from rich.text import Text

        from onotrain.text import wrapped

        style = {"ok": "green", "warn": "yellow", "FAIL": "bold red"}[finding.level]
        text = wrapped(finding.text, self._columns, 21, first=f"{finding.level:<5}{finding.subject:<16}")
        line = Text(text)
        line.stylize(style, 0, len(finding.level))
        self._console.print(line, soft_wrap=True)
        if finding.hint is not None and finding.level != "ok":
            hint = wrapped(finding.hint, self._columns, 24, first=f"{'':<21}-> ")
            self._console.print(Text(hint), soft_wrap=True)


def _give_up() -> None:
    """End a job whose ranks wait for each other for ever; in a thread, because the main one hangs in MPI."""
    from onotrain.errors import PlatformError
    from onotrain.parallel import launcher

    print(
        f"onotrain: rank {launcher.rank()}: no progress for {LIMIT_S:.0f} s: ranks cannot reach each other\n"
        "  hint: check firewalls and that all hosts run the same MPI; with Open MPI try --mca btl self,sm,tcp",
        file=sys.stderr,
        flush=True,
    )
    os._exit(PlatformError.exit_code)

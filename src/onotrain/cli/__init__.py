"""The command line: one file for each subcommand, loaded when it is called; nothing else in the package prints."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of this process, and end the process with its exit code (see `onotrain.errors`)."""
    from onotrain.parallel import stop_signals

    trains = sys.argv[1:2] == ["train"]
    if trains:
        stop_signals.StopRequest().take()  # a run finds what has come before it began
    from onotrain.cli.program import run
    from onotrain.cli.terminal import protect_output

    protect_output()
    code = run(sys.argv[1:])
    if trains:
        stop_signals.ignore()  # all is saved
    sys.exit(code)

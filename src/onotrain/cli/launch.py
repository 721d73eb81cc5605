"""``onotrain launch``."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from onotrain.cli.subcommand import Subcommand
from onotrain.errors import PlatformError, UsageError

EXAMPLES = """
onotrain launch -n 4 -- train config.yaml --output runs/long
onotrain launch -n 8 --mpirun-args '--hostfile hosts' -- train config.yaml
"""


@click.command(cls=Subcommand, examples=EXAMPLES, context_settings={"allow_interspersed_args": False})
@click.option("--ranks", "-n", type=click.IntRange(1), metavar="N", help="Ranks to launch.")
@click.option(
    "--workers", type=click.IntRange(1), metavar="N", help="Instead: ranks that compute, to which servers are added."
)
@click.option(
    "--min-ranks",
    type=click.IntRange(1),
    metavar="M",
    help="Fewest ranks to go on with: after each launch that saves nothing new, one rank fewer is used.  [default: N]",
)
@click.option(
    "--max-restarts", type=click.IntRange(0), default=3, metavar="R", help="How often to launch again.  [default: 3]"
)
@click.option("--mpirun", default="mpirun", metavar="PROGRAM", help="The launcher of MPI.  [default: mpirun]")
@click.option("--mpirun-args", default="", metavar="TEXT", help="Further options of it, such as '--hostfile hosts'.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="-- train CONFIG [OPTION]...")
def command(
    ranks: int | None,
    workers: int | None,
    min_ranks: int | None,
    max_restarts: int,
    mpirun: str,
    mpirun_args: str,
    arguments: Sequence[str],
) -> None:
    """Train under mpirun, and launch the training again from its last checkpoint when it has failed.

    Runs outside of MPI, and takes the place of mpirun.  Every signal that asks for an end (TERM, INT, HUP, USR1, USR2)
    has all ranks save at the same step; the exit code is then 75.  Errors that would come again, such as in the
    configuration or the data, are not tried again.
    """
    from onotrain.cli.train import command as train
    from onotrain.config import load_config
    from onotrain.parallel import launcher
    from onotrain.runs.run_files import claim
    from onotrain.supervisor.policy import Policy
    from onotrain.supervisor.supervise import newest, supervise

    if launcher.may_have_others():
        raise UsageError("launch takes the place of mpirun, and does not run under it")
    if not arguments or arguments[0] != "train":
        raise UsageError(
            "expected `train CONFIG` after the options of launch", hint="onotrain launch -n 4 -- train config.yaml"
        )
    words = list(arguments[1:])
    given = train.make_context("train", list(words)).params  # what is wrong with them is said before anything starts
    if (ranks is None) == (workers is None):
        raise UsageError("expected one of --ranks and --workers", hint="onotrain launch -n 4 -- train config.yaml")
    output = given["output"]
    if output is None and given["resume"]:
        raise UsageError("--resume needs --output DIR, the run to go on with")
    config = load_config(given["config"], given["overrides"])  # a mistake in it shall leave no directory behind
    ranks = ranks or (workers or 0) + config.strategy.serving_ranks
    if (min_ranks or ranks) > ranks:
        raise UsageError(f"--min-ranks: must be at most the {ranks} that are launched (got {min_ranks})")
    if config.data.partition.name != "none" and (min_ranks or ranks) < ranks:
        raise UsageError(
            "--min-ranks: data.partition gives each rank samples of its own, and fewer ranks would have others",
            hint="leave --min-ranks out",
        )
    if output is None:
        output = claim(Path(given["config"]).stem)
    policy = Policy(max_restarts, ranks, min_ranks or ranks, -1 if given["overwrite"] else newest(output))
    command = launcher_of(mpirun, mpirun_args, outlives_ranks=config.fault_tolerance.outlives_ranks)
    sys.exit(supervise(command, _without_output(words), output, ranks, policy, _say))


def launcher_of(program: str, arguments: str, *, outlives_ranks: bool) -> list[str]:
    """Return the launcher of MPI and its options: the one beside this Python, or else the first on the path.

    `outlives_ranks`: with what it needs not to end a job that has lost a rank.
    """
    found = shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)
    if found is None:
        raise PlatformError(f"{program}: there is no such program", hint="load your site's MPI, or name it by --mpirun")
    given = shlex.split(arguments)
    if outlives_ranks and "--with-ft" not in given:
        version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
        given += ["--with-ft", "ulfm"] if re.search(r"Open MPI\) ([5-9]|\d\d)", version) else []
    return [found, *given]


def _without_output(words: Sequence[str]) -> list[str]:
    """Return the arguments of `train` without ``--output DIR``."""
    kept, rest = list[str](), iter(words)
    for word in rest:
        if word in ("--output", "-o"):
            next(rest, None)
        elif not word.startswith(("--output=", "-o")):
            kept.append(word)
    return kept


def _say(message: str) -> None:
    click.echo(f"onotrain launch: {message}", err=True)

"""``onotrain slurm``."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import click

from onotrain.cli.subcommand import Subcommand, overrides
from onotrain.errors import DataError, PlatformError, UsageError

EXAMPLES = """
onotrain slurm config.yaml --nodes 4 --ntasks-per-node 32 --time 2:00:00
onotrain slurm config.yaml --ntasks-per-node 8 --site site.sh --submit
"""


@click.command(cls=Subcommand, examples=EXAMPLES)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--nodes", type=click.IntRange(1), default=1, metavar="N", help="Nodes.  [default: 1]")
@click.option("--ntasks-per-node", type=click.IntRange(1), required=True, metavar="N", help="Ranks on each node.")
@click.option(
    "--cpus-per-task",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="Cores, and threads, of a rank.  [default: 1]",
)
@click.option("--time", default="01:00:00", metavar="TIME", help="Longest time, as of sbatch.  [default: 01:00:00]")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), metavar="DIR", help="Run directory.  [default: runs/NAME]"
)
@click.option(
    "--launcher",
    type=click.Choice(["mpirun", "srun"]),
    default="mpirun",
    help="What starts the ranks.  [default: mpirun]",
)
@click.option(
    "--site", type=click.Path(path_type=Path), metavar="FILE",
    help="Lines of your site, such as module load, and #SBATCH --partition=...",
)  # fmt: skip
@click.option(
    "--script", type=click.Path(path_type=Path), metavar="FILE", help="Script to write.  [default: NAME.sbatch]"
)
@click.option("--submit", is_flag=True, help="Submit it.")
@click.option("--force", is_flag=True, help="Overwrite the script.")
@overrides
def command(
    config: Path, nodes: int, ntasks_per_node: int, cpus_per_task: int, time: str, output: Path | None, launcher: str,
    site: Path | None, script: Path | None, submit: bool, force: bool, overrides: Sequence[str],
) -> None:  # fmt: skip
    """Write a batch script for Slurm that trains CONFIG, and submit it if asked to.

    Two minutes before its time is over, and when it is preempted, the job saves, is requeued, and goes on where it was.
    Submitting the script again goes on, too.
    """
    from onotrain.config import load_config
    from onotrain.supervisor.slurm import Batch
    from onotrain.text import count

    load_config(config, overrides)  # what is wrong with it is said now, not by a job that has waited for days
    words = [
        str(config),
        str(output or Path("runs") / config.stem),
        *(w for change in overrides for w in ("--set", change)),
    ]
    batch = Batch(config.stem, nodes, ntasks_per_node, cpus_per_task, time, launcher, words, lines_of(site))
    script = script or Path(f"{config.stem}.sbatch")
    if script.exists() and not force:
        raise UsageError(f"{script}: exists already", hint="overwrite it with --force, or name another --script")
    script.write_text(batch.script())
    where = f"{count(nodes * ntasks_per_node, 'rank')} on {count(nodes, 'node')}"
    click.echo(f"{script}: {where}, run directory {words[1]}")
    if not submit:
        click.echo(f"next: sbatch {script}")
        return
    click.echo(submitted([str(script)]))


def submitted(words: Sequence[str]) -> str:
    """Submit a job with these words of sbatch, and return what that says."""
    program = shutil.which("sbatch")
    if program is None:
        raise PlatformError("sbatch: there is no such program", hint="submit the script where Slurm is")
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PlatformError(f"sbatch has refused the script: {done.stderr.strip()}")
    return done.stdout.strip()


def lines_of(site: Path | None) -> list[str]:
    """Return the lines of a site."""
    if site is None:
        return []
    try:
        return site.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{site}: cannot be read: {error}") from error

"""``onotrain torture``."""

from __future__ import annotations

import json
import re
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onotrain.cli.launch import launcher_of
from onotrain.cli.subcommand import Subcommand, overrides
from onotrain.errors import CheckpointError

if TYPE_CHECKING:
    from onotrain.supervisor.torture import Report

EXAMPLES = """
onotrain torture configs/digits.yaml -n 4 --kill-every 5 --for 10m
onotrain torture config.yaml -n 2 --kinds kill --faults 100 --output torture
"""
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


class Duration(click.ParamType):
    """A time such as 90, 90s, 10m or 1h; becomes seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(value))
        if not found:
            self.fail(f"expected a time such as 90s, 10m or 1h (got {value!r})", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


@click.command(cls=Subcommand, examples=EXAMPLES)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--ranks", "-n", type=click.IntRange(2), default=2, metavar="N", help="Ranks to launch.  [default: 2]")
@click.option(
    "--kill-every", "every", type=Duration(), default="15s", metavar="TIME",
    help="Mean time between faults.  [default: 15s]",
)  # fmt: skip
@click.option("--for", "seconds", type=Duration(), metavar="TIME", help="For how long.  [default: 10m]")
@click.option("--faults", type=click.IntRange(1), metavar="K", help="How many faults, in place of a time.")
@click.option(
    "--kinds", default="kill,stop,slow", metavar="KIND,...",
    help="kill: end a rank; stop: stop it for good; slow: stop it for less than a second.  [default: all]",
)  # fmt: skip
@click.option("--seed", type=int, default=0, metavar="N", help="Of the choices.  [default: 0]")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), default=Path("torture"), metavar="DIR",
    help="Folder for the runs.  [default: torture]",
)  # fmt: skip
@click.option("--mpirun", default="mpirun", metavar="PROGRAM", help="The launcher of MPI.  [default: mpirun]")
@click.option("--mpirun-args", default="", metavar="TEXT", help="Further options of it.")
@overrides
def command(
    config: Path, ranks: int, every: float, seconds: float | None, faults: int | None, kinds: str, seed: int,
    output: Path, mpirun: str, mpirun_args: str, overrides: Sequence[str],
) -> None:  # fmt: skip
    """Train under faults that are made on purpose, and see whether the result is the same.

    Trains CONFIG twice without any, then again and again while ranks are killed, stopped and slowed, as `onotrain
    launch` would: each launch goes on from the last checkpoint.  Set fault_tolerance.watchdog_seconds to a few seconds,
    or each rank that is stopped takes five minutes.
    """
    from onotrain.config import load_config
    from onotrain.supervisor.torture import KINDS, torture

    chosen = kinds.split(",")
    if wrong := [kind for kind in chosen if kind not in KINDS]:
        raise click.UsageError(f"--kinds: unknown kind {wrong[0]!r}; expected some of {', '.join(KINDS)}")
    end = time.monotonic() + (600.0 if seconds is None else seconds)
    words = [str(config), "--quiet", *(word for change in overrides for word in ("--set", change))]
    outlives = load_config(config, overrides).fault_tolerance.outlives_ranks
    command = launcher_of(mpirun, mpirun_args, outlives_ranks=outlives)
    report = torture(
        command, words, output, ranks=ranks, every=every, kinds=chosen, seed=seed,
        over=lambda so_far: len(so_far.faults) >= faults if faults else time.monotonic() >= end, say=click.echo,
    )  # fmt: skip
    (output / "report.json").write_text(json.dumps(report.to_dict(), indent=1) + "\n")
    click.echo(_summary(report))
    if report.differ:
        raise CheckpointError(
            f"{len(report.differ)} of {report.runs} runs ended with other parameters than without faults: "
            f"{', '.join(report.differ)}",
            hint=f"{output / 'report.json'} has all faults",
        )


def _summary(report: Report) -> str:
    """Return how many faults there were, and how long it took to go on."""
    counts = Counter(fault.kind for fault in report.faults)
    lines = [
        f"{report.runs} runs, {len(report.faults)} faults ({', '.join(f'{n} {kind}' for kind, n in counts.items())})"
    ]
    for kind in counts:
        times = [fault.recovered for fault in report.faults if fault.kind == kind and fault.recovered is not None]
        if times:
            lines.append(
                f"{kind}: the next step {statistics.median(times):.1f} s later (median), {max(times):.1f} s at most"
            )
    if not report.compared:
        lines.append("parameters differ without any fault, too, so they are not compared: the strategy is asynchronous")
    return "\n".join(lines)

"""``onotrain bench``: kernels, step, allreduce, predict, io."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from onotrain.cli.bench_session import Session
from onotrain.cli.subcommand import Group, Subcommand, overrides, show_help_without_subcommand
from onotrain.known_names import PRECISIONS, Precision

EXAMPLES = """
onotrain bench kernels
mpirun -n 4 onotrain bench step configs/mnist-mlp.yaml
mpirun -n 4 onotrain bench allreduce --json allreduce.json
"""
_UNITS = {"": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


class _Benches(Group):
    """The group, with examples as its subcommands have them."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the examples."""
        lines = "".join(f"  {line}\n" for line in EXAMPLES.strip().splitlines())
        formatter.write(f"\nExamples:\n{lines}")


class _Numbers(click.ParamType):
    """Whole numbers above 0, separated by commas; with `units`, also such as 64KiB."""

    def __init__(self, name: str, *, units: bool = False) -> None:
        self.name, self._units = name, units

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the numbers, or explain what was taken for them."""
        if isinstance(value, tuple):
            return value
        return tuple(self._number(word.strip(), value, param, ctx) for word in value.split(","))

    def _number(self, word: str, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d+)\s*([a-z]*)", word.lower())
        if match is None or match[2] not in (_UNITS if self._units else ("",)) or int(match[1]) == 0:
            example = "4KiB,1MiB" if self._units else "32,256"
            self.fail(f"{word!r} in {value!r} is no number above 0; expected such as {example}", param, ctx)
        return int(match[1]) * _UNITS[match[2]]


@click.group(cls=_Benches, invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Measure kernels, training steps, collectives, prediction and files on this machine.

    Run it as you run your training: alone, or under mpirun or srun.  Numbers are medians of readings that are taken in
    turn with what they are compared with; a time is that of the slowest rank.
    """
    show_help_without_subcommand(ctx)


def _measured(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what all measurements have; the function gets `session`, which runs one."""

    @functools.wraps(function)
    def wrapped(
        config: Path | None, overrides: Sequence[str], inputs: int | None, build: str | None,
        precision: Precision | None, seconds: float, json_path: Path | None, **own: Any,
    ) -> None:  # fmt: skip
        if precision is not None:
            overrides = (*overrides, f"training.precision={precision}")
        function(session=Session(config, overrides, inputs, build, seconds, json_path), **own)

    decorated: Any = wrapped
    for option in (_JSON, _SECONDS, _PRECISION, _KERNELS, _INPUTS, overrides):
        decorated = option(decorated)
    return click.argument("config", required=False, type=click.Path(path_type=Path))(decorated)


_JSON = click.option(
    "--json", "json_path", type=click.Path(path_type=Path), metavar="FILE",
    help="Write all numbers, with a description of the machine.",
)  # fmt: skip
_SECONDS = click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), default=1.0, metavar="S", show_default=True,
    help="Time for each measurement; five readings are taken in any case.",
)  # fmt: skip
_KERNELS = click.option(
    "--kernels", "build", metavar="BUILD",
    help="Build of the kernels, as ONOTRAIN_KERNELS; onotrain doctor lists them.",
)  # fmt: skip
_PRECISION = click.option(
    "--precision", type=click.Choice(PRECISIONS),
    help="What matrix products are computed in.  [default: the configuration's]",
)  # fmt: skip
_INPUTS = click.option(
    "--inputs", type=click.IntRange(1), metavar="N",
    help="Features of a sample, for data that are not there.  [default: those of data.train]",
)  # fmt: skip


@command.command(
    "kernels",
    cls=Subcommand,
    examples="""
onotrain bench kernels
onotrain bench kernels configs/digits.yaml --rows 16,128 --optimizer lamb
onotrain bench kernels --precision bf16
ONOTRAIN_KERNELS=baseline onotrain bench kernels --json baseline.json
mpirun -n 4 onotrain bench kernels
""",
)
@click.option("--rows", type=_Numbers("rows"), default="32,64,256", metavar="N,...",
              help="Rows of a rank's batches.  [default: 32,64,256]")  # fmt: skip
@click.option("--optimizer", "optimizers", multiple=True, metavar="NAME",
              help="Update rule to measure; may be given several times.  [default: the configuration's]")  # fmt: skip
@_measured
def kernels_command(session: Session, rows: Sequence[int], optimizers: Sequence[str]) -> None:
    """Measure every kernel of a step, beside the bare matrix products (BLAS) of its shapes.

    CONFIG names the network; without it, 784-512-256-128-10.  Under mpirun all ranks do the same at the same time.
    """
    from onotrain.bench import kernels
    from onotrain.cli.bench_tables import kernel_tables

    session.run(
        "kernels",
        lambda world, subject, say: kernels.run(world, subject, rows, optimizers, session.seconds, say),
        kernel_tables,
    )


@command.command(
    "step",
    cls=Subcommand,
    examples="""
onotrain bench step
mpirun -n 4 onotrain bench step configs/mnist-mlp.yaml
mpirun -n 4 onotrain bench step --rows 64 --set strategy.name=flat
""",
)
@click.option("--rows", type=_Numbers("rows"), default="32,256", metavar="N,...",
              help="Rows of a rank's batches.  [default: 32,256]")  # fmt: skip
@_measured
def step_command(session: Session, rows: Sequence[int]) -> None:
    """Measure where the time of a training step goes, with 1, 2, 4, ... and all ranks.

    While some ranks train, the others sleep.  CONFIG names the network, the optimizer and the strategy; without it,
    784-512-256-128-10 with Adam.
    """
    from onotrain.bench import step
    from onotrain.cli.bench_tables import step_tables

    # A number of ranks and rows is one measurement of three loops.
    session.run(
        "step", lambda world, subject, say: step.run(world, subject, rows, 3 * session.seconds, say), step_tables
    )


@command.command(
    "allreduce",
    cls=Subcommand,
    examples="""
mpirun -n 4 onotrain bench allreduce
mpirun -n 4 onotrain bench allreduce --sizes 64KiB,2MiB --json allreduce.json
""",
)
@click.option("--sizes", type=_Numbers("sizes", units=True), metavar="SIZE,...",
              help="Sizes of the vectors.  [default: 4KiB to 64MiB]")  # fmt: skip
@_measured
def allreduce_command(session: Session, sizes: Sequence[int] | None) -> None:
    """Measure sums over all ranks: in the node's memory, by the strategies, and by MPI; and barriers.

    The network of CONFIG plays no part in it.
    """
    from onotrain.bench import allreduce
    from onotrain.cli.bench_tables import allreduce_tables

    session.run(
        "allreduce",
        lambda world, subject, say: allreduce.run(world, sizes or allreduce.SIZES, session.seconds, say),
        allreduce_tables,
    )


@command.command(
    "predict",
    cls=Subcommand,
    examples="""
onotrain bench predict
mpirun -n 2 onotrain bench predict configs/mnist-mlp.yaml --samples 10000
""",
)
@click.option("--samples", type=click.IntRange(1), default=60_000, metavar="N",
              help="Samples in memory.  [default: 60000]")  # fmt: skip
@_measured
def predict_command(session: Session, samples: int) -> None:
    """Measure prediction of samples in memory, beside the bare matrix products of the same shapes.

    CONFIG names the network, whose parameters are random; without it, 784-512-256-128-10.
    """
    from onotrain.bench import predict
    from onotrain.cli.bench_tables import predict_tables

    session.run(
        "predict",
        lambda world, subject, say: predict.run(world, subject, samples, 3 * session.seconds, say),
        predict_tables,
    )


@command.command(
    "io",
    cls=Subcommand,
    examples="""
onotrain bench io
mpirun -n 4 onotrain bench io configs/mnist-mlp.yaml --directory runs
""",
)
@click.option("--directory", type=click.Path(path_type=Path), default=".", metavar="DIR",
              help="Where to write, for a while.  [default: here]")  # fmt: skip
@click.option("--samples", type=click.IntRange(1), default=60_000, metavar="N",
              help="Samples of the data files.  [default: 60000]")  # fmt: skip
@click.option("--every", type=click.IntRange(2), default=200, metavar="STEPS",
              help="Steps between two checkpoints.  [default: 200]")  # fmt: skip
@_measured
def io_command(session: Session, directory: Path, samples: int, every: int) -> None:
    """Measure checkpoints and data files, and what saving costs a training that goes on.

    CONFIG names the network, the optimizer and the strategy; without it, 784-512-256-128-10 with Adam.
    """
    from onotrain.bench import io
    from onotrain.cli.bench_tables import io_tables

    session.run(
        "io",
        lambda world, subject, say: io.run(world, subject, directory, samples, every, session.seconds, say),
        io_tables,
    )

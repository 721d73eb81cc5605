"""``onotrain plan``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onotrain.cli.subcommand import Subcommand, overrides

if TYPE_CHECKING:
    from onotrain.planning.plan import Prediction

EXAMPLES = """
onotrain plan config.yaml --nodes 16 --ranks-per-node 32 --network 100gbit,2us
onotrain plan config.yaml --nodes 4 --network 1gbit,50us --run runs/mnist
mpirun -n 4 onotrain plan config.yaml
"""
_RATES = {"kbit": 1e-3, "mbit": 1.0, "gbit": 1e3}
_TIMES = {"us": 1.0, "ms": 1e3, "s": 1e6}


class _Network(click.ParamType):
    """Bandwidth and latency, such as 100gbit,2us."""

    name = "network"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        """Return Mbit/s and us, or explain what was taken for them."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"([\d.]+)([kmg]bit)(?:,([\d.]+)([um]?s))?", value.replace(" ", "").lower())
        try:
            assert match is not None  # noqa: S101
            rate, latency = float(match[1]) * _RATES[match[2]], float(match[3] or 0) * _TIMES[match[4] or "us"]
            assert rate > 0  # noqa: S101
        except (AssertionError, ValueError):
            self.fail(f"{value!r} is no network; expected bandwidth and latency such as 100gbit,2us", param, ctx)
        return rate, latency


@click.command(cls=Subcommand, examples=EXAMPLES)
@click.argument("config", type=click.Path(path_type=Path), metavar="CONFIG")
@overrides
@click.option("--nodes", type=click.IntRange(1, 100_000), help="Nodes.  [default: those of this job]")
@click.option("--ranks-per-node", type=click.IntRange(1, 4096), help="Ranks of each.  [default: those of this job]")
@click.option(
    "--network", type=_Network(), metavar="RATE,TIME",
    help="Bandwidth of a node's link, and latency, such as 100gbit,2us.  [default: measured between the nodes of this "
    "job]",
)  # fmt: skip
@click.option(
    "--run", type=click.Path(path_type=Path), metavar="RUN",
    help="A run with metrics.noise_scale, for what larger batches are good for.",
)  # fmt: skip
@click.option("--json", "json_path", type=click.Path(path_type=Path), metavar="FILE", help="Write the numbers there.")
def command(
    config: Path, overrides: Sequence[str], nodes: int | None, ranks_per_node: int | None,
    network: tuple[float, float] | None, run: Path | None, json_path: Path | None,
) -> None:  # fmt: skip
    """Predict how long a training takes on a cluster, by each method, and recommend one.

    Half a second of measuring says what a rank of this machine computes; under mpirun all ranks measure at the same
    time, and the network between their nodes, too.  What follows from that is computed as `onotrain simulate` does.
    Nothing is trained.
    """
    from onotrain.config import load_config
    from onotrain.config.cluster import Cluster
    from onotrain.errors import UsageError, on_all_ranks
    from onotrain.parallel.agreement import agreed
    from onotrain.parallel.world import World
    from onotrain.planning.probe import costs_of, network_of
    from onotrain.planning.workload import Workload

    with World.connect() as world:
        with agreed(world.comm):
            loaded = load_config(config, overrides)
        workload = Workload.of(loaded, world)
        nodes, per_node = nodes or world.nodes, ranks_per_node or world.node_sizes[0]
        ranks = nodes * per_node
        measured = network_of(world)
        if network is None and measured is None and nodes > 1:
            error = UsageError(
                f"--nodes {nodes}: the network between them is not known (got no --network)",
                hint="give its bandwidth and latency, such as --network 100gbit,2us, or start ranks on two nodes",
            )
            raise on_all_ranks(error)
        given = {} if network is None else {"bandwidth_mbit": network[0], "latency_us": network[1]}
        cluster = Cluster(ranks_per_node=per_node, **(given or measured or {}))
        workers = max(1, ranks - loaded.strategy.serving_ranks)
        least = max(1, workload.batch // min(8 * ranks, workload.batch))
        costs = costs_of(workload, [least, max(1, workload.batch // workers), workload.batch], world)
        with agreed(world.comm):
            if world.rank == 0:
                _show(workload, cluster, nodes, ranks, costs, "measured" if not given else "given", run, json_path)


def _show(
    workload: Any, cluster: Any, nodes: int, ranks: int, costs: Any, known: str, run: Path | None,
    json_path: Path | None,
) -> None:  # fmt: skip
    """Print facts, table and recommendation, and write the numbers."""
    from onotrain.cli.tables import table
    from onotrain.cli.terminal import console, terminal_columns, text_columns
    from onotrain.errors import UsageError
    from onotrain.files import write_atomically
    from onotrain.planning.plan import Prediction, predictions
    from onotrain.runs.json_objects import pretty
    from onotrain.text import wrapped

    every = list(predictions(workload, cluster, ranks, costs))
    found = [each for each in every if isinstance(each, Prediction)]
    if not found:
        raise UsageError(f"no method can be predicted: {next(iter(every))}")
    out = console(terminal_columns())
    for fact in _facts(workload, cluster, nodes, ranks, costs, known):
        out.print(wrapped(fact, text_columns(), 2), markup=False, soft_wrap=True)
    out.print()
    columns = ("method", "step", "epoch", "samples/s", "efficiency", "sent a step", "memory")
    out.print(table("", columns, [_row(each, workload.samples) for each in found], least=("memory", "sent a step")))
    out.print()
    for fact in (*_advice(workload, cluster, ranks, costs, found), *_noise(workload, run)):
        out.print(wrapped(fact, text_columns(), 2), markup=False, soft_wrap=True)
    for why in (each for each in every if isinstance(each, str)):
        out.print(wrapped(f"not predicted: {why.partition(chr(10))[0]}", text_columns(), 2), markup=False)
    if json_path is not None:
        facts = {"ranks": ranks, "nodes": nodes, "cluster": cluster.model_dump(mode="json", exclude_defaults=True),
                 "costs": {"rows": costs.rows.tolist(), "seconds": costs.seconds.tolist(), "update": costs.update},
                 "predictions": [each.to_dict() for each in found]}  # fmt: skip
        write_atomically(json_path, pretty(facts))


def _facts(workload: Any, cluster: Any, nodes: int, ranks: int, costs: Any, known: str) -> Iterator[str]:
    from onotrain.text import count, figure

    model = workload.model
    yield f"network   {model.widths}, {count(model.layout.parameter_count, 'parameter')}"
    yield f"work      {count(workload.samples, 'sample')}, {workload.batch:,} a step"
    link = "" if nodes == 1 else (
        f", {_rate(cluster.bandwidth_mbit)} and {figure(cluster.latency_us, short=True)} us between them ({known})"
    )  # fmt: skip
    yield f"cluster   {count(ranks, 'rank')} on {count(nodes, 'node')}{link}"
    rows = max(1, workload.batch // ranks)
    yield (
        f"one rank  {_time(float(costs.of_rows([rows])[0]))} for {count(rows, 'sample')}, "
        f"{_time(costs.update)} for the update (measured here)"
    )


def _row(each: Prediction, samples: int) -> tuple[str, ...]:
    from onotrain.text import size

    return (
        f"{'* ' if each.configured else ''}{each.method}", _time(each.step_seconds), _time(each.epoch_seconds),
        f"{samples / each.epoch_seconds:,.0f}", f"{each.efficiency:.1%}", size(round(each.node_bytes)),
        size(each.memory_bytes),
    )  # fmt: skip


def _advice(workload: Any, cluster: Any, ranks: int, costs: Any, found: Sequence[Prediction]) -> Iterator[str]:
    """Yield which method to take, what would be faster, and when more ranks stop helping."""
    from onotrain.planning.plan import enough, faster, one_rank, recommended

    best, why = recommended(found)
    yield f"* is the configuration's.  Take {best.method}: {why}."
    others = faster(found, best)
    if others:
        listed = ", ".join(f"{each.method} ({times:.1f} times)" for each, times in others[:3])
        yield f"Faster, with another result: {listed}.  What they cost in accuracy, onotrain compare measures."
    alone = one_rank(workload, costs)
    if ranks > 1 and alone < best.epoch_seconds:
        yield f"ONE RANK IS FASTER: it takes {_time(alone)} for an epoch."
    number, seconds, known = enough(workload.with_config(best.config), cluster, ranks, costs)
    if known:
        yield (
            f"More than {number:,} rank{'s do' if number > 1 else ' does'} not help: twice as many make an epoch, "
            f"{_time(seconds)}, less than a tenth faster.  A larger training.batch_size would change that."
        )


def _noise(workload: Any, run: Path | None) -> Iterator[str]:
    """Yield what larger batches are good for, by the gradient noise scale of a run."""
    from onotrain.errors import UsageError
    from onotrain.planning.plan import noise_scale
    from onotrain.runs.run_directory import RunDirectory

    if run is None:
        return
    scale, batch = noise_scale(RunDirectory.open(run).records()), workload.batch
    if scale is None:
        raise UsageError(
            f"{run}: its records do not tell a noise scale",
            hint="train with --set metrics.noise_scale=true, for longer or with more measurements",
        )
    times = 1.0 + scale / batch
    yield (
        f"Gradient noise scale of {run}: {scale:,.0f} samples.  Batches of {batch:,} need {times:.2f} times the fewest "
        f"possible steps, twice as large ones {1.0 + scale / (2 * batch):.2f} times."
    )
    if batch > scale:
        yield f"Larger batches, and more ranks for them, save few steps: {batch:,} is above the noise scale already."


def _rate(mbit: float | None) -> str:
    if mbit is None:
        return "unlimited bandwidth"
    return f"{mbit / 1e3:g} Gbit/s" if mbit >= 1e3 else f"{mbit:.4g} Mbit/s"  # noqa: PLR2004


def _time(seconds: float) -> str:
    """Return a time with three digits and a unit."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 1.0 or unit == "us":
            return f"{seconds * factor:,.3g} {unit}" if seconds * factor < 1e3 else f"{seconds * factor:,.0f} {unit}"  # noqa: PLR2004
    raise AssertionError("us is the last unit")

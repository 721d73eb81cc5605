"""Trains with a rank that is twice as slow, with equal slices and with slices that follow throughput.

    python benchmarks/uneven.py [--rounds 2] [--epochs 4] [--batch-size 2048] [--cases allreduce ...]

MNIST and the network of ``configs/mnist-mlp.yaml`` on two ranks that compute, one of which sleeps as long as it has
computed (``simulate.slow_ranks``), and a server besides, where the strategy has one.  Runs to compare are made in turn;
figures are medians over the epochs of all of them, without each run's first, in which slices are found.  Whether the
training is the same is asked in float64: in float32 rounding now and then turns a ReLU on or off, and grows.  A second
table is of ranks that are slow now and then (``simulate.jitter``), with equal slices.  Both are put into
docs/strategies-measured.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from programs import Ours, mnist
from results import STRATEGIES, machine, parser, put, save, table, today

from onotrain.bench.measure import spread

WORKERS = 2
SLICES = ("none", "throughput")
Record = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A strategy with its options, as a user writes them."""

    name: str
    what: str
    strategy: dict[str, Any]
    #: Whether all ranks make every step together, so that slices change no result.
    bulk_synchronous: bool = True
    servers: int = 0
    #: Mean random part of a step; 0: the last rank is twice as slow instead.
    jitter: float = 0.0
    slices: Sequence[str] = field(default=SLICES)

    @property
    def simulate(self) -> dict[str, Any]:
        """Return the section of the configuration."""
        slow = {"rank": self.servers + WORKERS - 1, "factor": 2}
        return {"jitter": self.jitter} if self.jitter else {"slow_ranks": [slow]}

    @property
    def fast(self) -> list[int]:
        """Return the ranks that compute and are not always slow."""
        return list(range(self.servers, self.servers + (WORKERS if self.jitter else WORKERS - 1)))


def _server(name: str, what: str, staleness: int | str, **options: Any) -> Case:
    strategy = {"name": "parameter_server", "staleness": staleness, **options}
    return Case(name, what, strategy, bulk_synchronous=staleness == 0, servers=1)


def _now_and_then(case: Case) -> Case:
    return Case(f"{case.name}-jitter", case.what, case.strategy, case.bulk_synchronous, case.servers, 1.0, SLICES[:1])


ALWAYS = (
    Case("allreduce", "all-reduce, activations", {"name": "allreduce"}),
    Case("allreduce-gradients", "all-reduce, gradients", {"name": "allreduce", "share": "gradients"}),
    _server("ps-sync", "parameter server, synchronous", 0),
    _server("ps-ssp-4", "parameter server, staleness 4", 4),
    _server("ps-ssp-4-overlap", "staleness 4, overlap", 4, overlap=True),
    _server("ps-async", "parameter server, asynchronous", "unbounded"),
    _server("ps-async-overlap", "asynchronous, overlap", "unbounded", overlap=True),
)
NOW_AND_THEN = tuple(
    map(_now_and_then, (ALWAYS[2], _server("ps-ssp-1", "parameter server, staleness 1", 1), *ALWAYS[3:]))
)


def train(ours: Ours, args: argparse.Namespace, case: Case, slices: str, **changes: Any) -> list[Record]:
    """Train; return the records of the epochs."""
    settings = {
        "training.epochs": args.epochs, "training.batch_size": args.batch_size, "training.load_balance": slices,
        "strategy": case.strategy, "simulate": case.simulate,
        **{f"training.{key}": value for key, value in changes.items()},
    }  # fmt: skip
    return ours.train_mnist(settings, WORKERS + case.servers)[0]


def measure(case: Case, ours: Ours, args: argparse.Namespace) -> dict[str, Any]:
    """Return what a case's runs say, by how slices are cut."""
    made: dict[str, list[list[Record]]] = {slices: [] for slices in case.slices}
    for _ in range(args.rounds):
        for slices in case.slices:
            made[slices].append(train(ours, args, case, slices))
    found: dict[str, Any] = {
        "name": case.name, "what": case.what, "strategy": case.strategy, "simulate": case.simulate,
        "slices": {slices: summary(case, each) for slices, each in made.items()},
    }  # fmt: skip
    if case.bulk_synchronous and len(case.slices) > 1:
        runs = (train(ours, args, case, slices, epochs=2, dtype="float64") for slices in case.slices)
        even, cut = ([each[name] for each in epochs for name in ("train_loss", "validation_loss")] for epochs in runs)
        found["difference"] = max(abs(one - other) / one for one, other in zip(even, cut, strict=True))
    return found


def summary(case: Case, rounds: Sequence[list[Record]]) -> dict[str, Any]:
    """Return figures over the epochs; shares are medians."""
    epochs = [record for records in rounds for record in records[1:] or records]
    return {
        "epoch_seconds": spread([record["train_seconds"] for record in epochs]),
        **{kind: statistics.median(share(record, kind, case.fast) for record in epochs)
           for kind in ("wait", "communication")},
        "loss": statistics.median(records[-1]["train_loss"] for records in rounds),
        "largest_lead": max(max(record.get("worker_leads", [0])) for record in epochs),
    }  # fmt: skip


def share(record: Record, kind: str, ranks: Sequence[int]) -> float:
    """Return the part of their time that these ranks spend waiting, or exchanging data."""
    seconds = record["ranks_seconds"]
    return sum(float(seconds[kind][rank]) for rank in ranks) / (len(ranks) * float(record["train_seconds"]))


def always_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of a rank that is always slow, in Markdown."""
    columns = (
        "a rank twice as slow", "s an epoch, equal slices", "by throughput", "", "fast rank waits, exchanges",
        "by throughput", "loss, equal slices", "by throughput", "differs in float64 by",
    )  # fmt: skip
    lines = []
    for result in results:
        even, cut = (result["slices"][slices] for slices in SLICES)
        before, after = (each["epoch_seconds"]["median"] for each in (even, cut))
        lines.append(
            (
                result["what"], f"{before:.2f}", f"{after:.2f}", f"{100 * (after / before - 1):+.0f} %",
                _idle(even), _idle(cut), f"{even['loss']:.4f}", f"{cut['loss']:.4f}",
                f"{result['difference']:.0e}" if "difference" in result else "",
            )
        )  # fmt: skip
    return table(columns, lines)


def now_and_then_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of ranks that are slow now and then, in Markdown."""
    columns = ("slow now and then", "s an epoch", "a worker waits, exchanges", "largest lead")
    each = [(result["what"], result["slices"]["none"]) for result in results]
    return table(columns, [(what, *_figures(found), str(found["largest_lead"])) for what, found in each])


def _figures(found: Mapping[str, Any]) -> tuple[str, str]:
    return f"{found['epoch_seconds']['median']:.2f}", _idle(found)


def _idle(found: Mapping[str, Any]) -> str:
    return f"{100 * found['wait']:.0f} %, {100 * found['communication']:.0f} %"


def main() -> None:
    """Run the cases, write JSON, and put the tables into the page if all were run."""
    cases = (*ALWAYS, *NOW_AND_THEN)
    options = parser(__doc__, [case.name for case in cases])
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--epochs", type=int, default=4)
    options.add_argument("--batch-size", type=int, default=2048)
    args = options.parse_args()
    mnist()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(Path(folder))
        about = {**machine(ours), "load_before": os.getloadavg()[0], "batch_size": args.batch_size}
        for case in cases:
            if case.name in args.cases:
                results[case.name] = measure(case, ours, args)
                slices = results[case.name]["slices"]
                print(case.name, *(f"{how}: {' s, '.join(_figures(each))}" for how, each in slices.items()), flush=True)
                save(args.output or today("uneven"), {"machine": about}, results.values())
    if len(results) == len(cases):
        put(STRATEGIES, always_table([results[case.name] for case in ALWAYS]), "uneven")
        put(STRATEGIES, now_and_then_table([results[case.name] for case in NOW_AND_THEN]), "jitter")


if __name__ == "__main__":
    main()

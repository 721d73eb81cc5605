"""Trains with a rank that is twice as slow, with equal slices and with slices that follow throughput.

    python benchmarks/uneven.py [--rounds 2] [--epochs 4] [--batch-size 2048] [--cases allreduce ...]

MNIST and the network of ``configs/mnist-mlp.yaml`` on two ranks that compute, one of which sleeps as long as it has
computed (``simulate.slow_ranks``), and a server besides, where the strategy has one.  Runs to compare are made in turn;
figures are medians over the epochs of all of them, without each run's first, in which slices are found.  Whether the
training is the same is asked in float64: in float32 rounding now and then turns a ReLU on or off, and grows.  A second
table is of ranks that are slow now and then (``simulate.jitter``), with equal slices.  Both are put into
docs/strategies.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compare import commit
from programs import ROOT, Ours, mnist
from report import filled

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "strategies.md"
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
    lockstep: bool = True
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
    return Case(name, what, strategy, lockstep=staleness == 0, servers=1)


def _now_and_then(case: Case) -> Case:
    return Case(f"{case.name}-jitter", case.what, case.strategy, case.lockstep, case.servers, 1.0, SLICES[:1])


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


class Runs:
    """Makes the runs.

    Parameters
    ----------
    ours
        Starts them.
    folder
        For what they write.
    batch_size
        Of a step, over all ranks.
    """

    def __init__(self, ours: Ours, folder: Path, batch_size: int) -> None:
        self._ours, self._folder, self._batch_size, self._count = ours, folder, batch_size, 0

    def epochs(self, case: Case, slices: str, epochs: int, dtype: str = "float32") -> list[Record]:
        """Train; return the records of the epochs."""
        self._count += 1
        output = self._folder / str(self._count)
        changes = {
            "training.epochs": epochs, "training.batch_size": self._batch_size, "training.dtype": dtype,
            "training.load_balance": slices, "strategy": case.strategy, "simulate": case.simulate,
        }  # fmt: skip
        settings = [part for key, value in changes.items() for part in ("--set", f"{key}={json.dumps(value)}")]
        self._ours.run(
            "train", ROOT / "configs" / "mnist-mlp.yaml", "--output", output, "--quiet", *settings,
            ranks=WORKERS + case.servers,
        )  # fmt: skip
        return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def measure(case: Case, runs: Runs, rounds: int, epochs: int) -> dict[str, Any]:
    """Return what a case's runs say, by how slices are cut."""
    made: dict[str, list[list[Record]]] = {slices: [] for slices in case.slices}
    for _ in range(rounds):
        for slices in case.slices:
            made[slices].append(runs.epochs(case, slices, epochs))
    found: dict[str, Any] = {
        "name": case.name, "what": case.what, "strategy": case.strategy, "simulate": case.simulate,
        "slices": {slices: summary(case, each) for slices, each in made.items()},
    }  # fmt: skip
    if case.lockstep and len(case.slices) > 1:
        losses = [
            [
                each[name]
                for each in runs.epochs(case, slices, 2, "float64")
                for name in ("train_loss", "validation_loss")
            ]
            for slices in case.slices
        ]
        pairs = zip(*losses, strict=True)
        found |= {"losses": losses, "difference": max(abs(even - cut) / even for even, cut in pairs)}
    return found


def summary(case: Case, rounds: Sequence[list[Record]]) -> dict[str, Any]:
    """Return medians over the epochs, and the records themselves."""
    epochs = [record for records in rounds for record in records[1:] or records]
    return {
        "epoch_seconds": statistics.median(record["train_seconds"] for record in epochs),
        **{kind: statistics.median(share(record, kind, case.fast) for record in epochs)
           for kind in ("wait", "communication")},
        "loss": statistics.median(records[-1]["train_loss"] for records in rounds),
        "largest_lead": max(max(record.get("worker_leads", [0])) for record in epochs),
        "rounds": rounds,
    }  # fmt: skip


def share(record: Record, kind: str, ranks: Sequence[int]) -> float:
    """Return the part of their time that these ranks spend waiting, or exchanging data."""
    seconds = record["ranks_seconds"]
    return sum(float(seconds[kind][rank]) for rank in ranks) / (len(ranks) * float(record["train_seconds"]))


def always_table(results: Sequence[dict[str, Any]]) -> str:
    """Return the table of a rank that is always slow, in Markdown."""
    lines: list[Sequence[str]] = [
        ("a rank twice as slow", "s an epoch, equal slices", "by throughput", "", "fast rank waits, exchanges",
         "by throughput", "loss, equal slices", "by throughput", "differs in float64 by"),
    ]  # fmt: skip
    lines.append(("---",) * len(lines[0]))
    for result in results:
        even, cut = (result["slices"][slices] for slices in SLICES)
        gain = 100 * (cut["epoch_seconds"] / even["epoch_seconds"] - 1)
        lines.append(
            (
                result["what"], f"{even['epoch_seconds']:.2f}", f"{cut['epoch_seconds']:.2f}", f"{gain:+.0f} %",
                _idle(even), _idle(cut), f"{even['loss']:.4f}", f"{cut['loss']:.4f}",
                f"{result['difference']:.0e}" if "difference" in result else "",
            )
        )  # fmt: skip
    return _markdown(lines)


def now_and_then_table(results: Sequence[dict[str, Any]]) -> str:
    """Return the table of ranks that are slow now and then, in Markdown."""
    lines: list[Sequence[str]] = [("slow now and then", "s an epoch", "a worker waits, exchanges", "largest lead")]
    lines.append(("---",) * len(lines[0]))
    for result in results:
        even = result["slices"]["none"]
        lines.append((result["what"], f"{even['epoch_seconds']:.2f}", _idle(even), str(even["largest_lead"])))
    return _markdown(lines)


def _idle(found: dict[str, Any]) -> str:
    return f"{100 * found['wait']:.0f} %, {100 * found['communication']:.0f} %"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def put(table: str, name: str) -> None:
    """Put a table between the markers of that name in the page."""
    page = filled(PAGE.read_text(encoding="utf-8"), table, f"<!-- {name}: begin -->", f"<!-- {name}: end -->")
    PAGE.write_text(page, encoding="utf-8")


def main() -> None:
    """Run the cases, write JSON, and put the tables into the page if all were run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cases = (*ALWAYS, *NOW_AND_THEN)
    names = [case.name for case in cases]
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--cases", nargs="+", choices=names, default=names, metavar="CASE", help=", ".join(names))
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    mnist()
    path = args.output or RESULTS / f"{datetime.date.today().isoformat()}-uneven.json"
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(Path(folder))
        about = {**ours.bench("kernels", "--rows", 1, "--seconds", 1e-4, ranks=1)["machine"], "commit": commit()}
        about |= {"load_before": os.getloadavg()[0], "batch_size": args.batch_size}
        runs = Runs(ours, Path(folder), args.batch_size)
        for case in cases:
            if case.name in args.cases:
                results[case.name] = measure(case, runs, args.rounds, args.epochs)
                found = results[case.name]["slices"]
                said = ", ".join(f"{how} {each['epoch_seconds']:.2f} s ({_idle(each)})" for how, each in found.items())
                print(f"{case.name}: {said}", flush=True)
                path.write_text(json.dumps({"machine": about, "results": list(results.values())}, indent=1) + "\n")
    if len(results) == len(cases):
        put(always_table([results[case.name] for case in ALWAYS]), "uneven")
        put(now_and_then_table([results[case.name] for case in NOW_AND_THEN]), "jitter")


if __name__ == "__main__":
    main()

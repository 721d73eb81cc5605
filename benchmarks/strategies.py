"""Trains the same network with every strategy, and writes what came of it.

    python benchmarks/strategies.py [--workers 4] [--epochs 5] [--cases allreduce ...]

MNIST and the network of ``configs/mnist-mlp.yaml``, the same seed and global batch everywhere; servers are ranks
besides the workers.  Every rank is taken for a node, so that what is sent is what would be on a cluster; one row shows
all-reduce as it is on one.  The table of docs/strategies-measured.md is made from the JSON, in which a run replaces
that of the same case; others stay.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from processes import Failed
from programs import Ours, mnist
from results import STRATEGIES, commit, load, machine, parser, put, save, table, today

from onotrain.bench.measure import spread

NAME = "comparison"
COLUMNS = (
    "strategy", "ranks", "accuracy", "s an epoch", "mean staleness", "most", "waiting and exchange", "MB an epoch",
)  # fmt: skip

_ASYNCHRONOUS = {"name": "parameter_server", "staleness": "unbounded"}
#: Ranks that share no memory.
APART = {"simulate.ranks_per_node": 1}


@dataclass(frozen=True)
class Case:
    """A strategy with its options, as a user writes them."""

    name: str
    what: str
    strategy: dict[str, Any]
    servers: int = 0
    changes: Mapping[str, Any] = field(default_factory=lambda: APART)


def _server(name: str, what: str, servers: int = 1, **options: Any) -> Case:
    return Case(name, what, {"name": "parameter_server", "servers": servers, **options}, servers)


def _coded(codec: str, strategy: dict[str, Any], what: str, servers: int = 0) -> Case:
    name = f"{strategy['name']}-{codec}"
    return Case(name, f"{what}, {codec}", strategy, servers, {**APART, "communication.codec": codec})


CASES = (
    Case("allreduce-node", "all-reduce, in the memory of one node", {"name": "allreduce"}, changes={}),
    Case("allreduce", "all-reduce", {"name": "allreduce"}),
    Case("flat", "flat MPI_Allreduce", {"name": "flat"}),
    _server("ps-sync", "parameter server, synchronous", staleness=0),
    _server("ps-sync-2", "parameter server, synchronous, 2 servers", servers=2, staleness=0),
    _server("ps-ssp-2", "parameter server, staleness 2", staleness=2),
    _server("ps-async", "parameter server, asynchronous", staleness="unbounded"),
    _server("ps-async-overlap", "asynchronous, overlap", staleness="unbounded", overlap=True),
    _server("ps-async-rate", "asynchronous, rate by staleness", staleness="unbounded", compensation="learning_rate"),
    _server("ps-async-delay", "asynchronous, delay compensation", staleness="unbounded", compensation="delay"),
    _server("ps-async-batch", "asynchronous, constant batch", staleness="unbounded", compensation="constant_batch"),
    Case("switch", "Strategy-Switch after 2 epochs", {"name": "strategy_switch", "at_epoch": 2}),
    Case(
        "switch-batch", "Strategy-Switch after 2 epochs, constant batch",
        {"name": "strategy_switch", "at_epoch": 2, "server": {**_ASYNCHRONOUS, "compensation": "constant_batch"}},
    ),
    Case("local-8", "local SGD, 8 steps", {"name": "local_sgd", "period": 8}),
    Case(
        "local-post", "local SGD, post-local 8 from epoch 2",
        {"name": "local_sgd", "period": {"name": "post_local", "steps": 8, "from_epoch": 1}},
    ),
    Case(
        "local-adaptive", "local SGD, adaptive from 8",
        {"name": "local_sgd", "period": {"name": "adaptive", "steps": 8}},
    ),
    Case("diloco", "local SGD, 8 steps, DiLoCo", {"name": "local_sgd", "period": 8, "outer": {"name": "nesterov"}}),
    *(_coded(codec, {"name": "allreduce"}, "all-reduce") for codec in ("fp16", "bf16", "int8", "topk", "powersgd")),
    _coded("int8", {"name": "parameter_server"}, "parameter server, synchronous", 1),
    _coded("int8", {"name": "local_sgd", "period": 8, "inner_state": "keep"}, "local SGD, 8 steps, own state"),
)  # fmt: skip


def run(case: Case, workers: int, epochs: int, ours: Ours) -> dict[str, Any]:
    """Train with one strategy; return what its records say."""
    ranks = workers + case.servers
    settings = {"training.epochs": epochs, "strategy": case.strategy, **case.changes}
    records, seconds = ours.train_mnist(settings, ranks)
    return {
        "name": case.name, "what": case.what, "strategy": case.strategy, "ranks": ranks, "commit": commit(),
        "seconds": seconds, **summary(records),
    }  # fmt: skip


def summary(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the records of a run's epochs say; waiting, exchange and traffic are those of the last one."""
    last, staleness = records[-1], [record["staleness"] for record in records if record.get("staleness")]
    seconds, traffic = last["ranks_seconds"], last.get("ranks_bytes")
    idle = sum(seconds["wait"]) + sum(seconds["communication"])
    return {
        "accuracy": last["validation_accuracy"],
        "loss": last["validation_loss"],
        "epoch_seconds": spread([record["train_seconds"] for record in records]),
        "mean_staleness": sum(s["mean"] for s in staleness) / len(staleness) if staleness else None,
        "largest_staleness": max(s["max"] for s in staleness) if staleness else None,
        "idle": idle / (idle + sum(seconds["compute"])),
        "bytes": None if traffic is None else {kind: sum(traffic[kind]) for kind in ("raw", "sent")},
    }


def cells(result: Mapping[str, Any]) -> list[str]:
    """Return the cells of one row."""
    mean, most = result["mean_staleness"], result["largest_staleness"]
    return [
        result["what"], str(result["ranks"]), f"{result['accuracy']:.4f}", f"{result['epoch_seconds']['median']:.2f}",
        "" if mean is None else f"{mean:.2f}", "" if most is None else str(most),
        f"{100 * result['idle']:.0f} %", _traffic(result["bytes"]),
    ]  # fmt: skip


def _traffic(nbytes: Mapping[str, int] | None) -> str:
    """Return what all ranks sent, and what it would have been where a codec made it less [MB]; nothing if unknown."""
    if nbytes is None:
        return ""
    raw, sent = nbytes["raw"] / 1e6, nbytes["sent"] / 1e6
    return f"{sent:.0f}" if sent == raw else f"{sent:.0f} of {raw:.0f}"


def main() -> None:
    """Run the cases, write JSON, and put the table into the page."""
    names = [case.name for case in CASES]
    options = parser(__doc__, names)
    options.add_argument("--workers", type=int, default=4)
    options.add_argument("--epochs", type=int, default=5)
    args = options.parse_args()
    mnist()
    path = args.output or today("strategies")
    results = {result["name"]: result for result in load(path)}
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(Path(folder))
        about = {"machine": machine(ours), "workers": args.workers}
        for case in CASES:
            if case.name not in args.cases:
                continue
            try:
                last = run(case, args.workers, args.epochs, ours)
            except Failed as error:
                print(f"{case.name}: failed: {error}", flush=True)
                continue
            print(" | ".join(cells(last)), flush=True)
            results[case.name] = last
            ordered = [results[name] for name in names if name in results]
            save(path, about, ordered)
            put(STRATEGIES, table(COLUMNS, map(cells, ordered)), NAME)


if __name__ == "__main__":
    main()

"""Trains the same network with every strategy, and writes what came of it.

    python benchmarks/strategies.py [--workers 4] [--epochs 5] [--cases allreduce ...]

MNIST and the network of ``configs/mnist-mlp.yaml``, the same seed and global batch everywhere; servers are ranks
besides the workers.  Every rank is taken for a node, so that what is sent is what would be on a cluster; one row shows
all-reduce as it is on one.  The table of docs/strategies.md is made from the JSON, in which a run replaces that of the
same case; others stay.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compare import commit
from programs import LIMIT_S, ROOT, Ours, mnist
from report import filled

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "strategies.md"
BEGIN, END = "<!-- comparison: begin -->", "<!-- comparison: end -->"

_ASYNCHRONOUS = {"name": "parameter_server", "staleness": "unbounded"}


#: Ranks that share no memory.
APART = ("simulate.ranks_per_node=1",)


@dataclass(frozen=True)
class Case:
    """A strategy with its options, as a user writes them."""

    name: str
    what: str
    strategy: dict[str, Any]
    servers: int = 0
    changes: Sequence[str] = APART


def _server(name: str, what: str, servers: int = 1, **options: Any) -> Case:
    return Case(name, what, {"name": "parameter_server", "servers": servers, **options}, servers)


def _coded(codec: str, strategy: dict[str, Any], what: str, servers: int = 0) -> Case:
    name = f"{strategy['name']}-{codec}"
    return Case(name, f"{what}, {codec}", strategy, servers, (*APART, f"communication.codec={codec}"))


CASES = (
    Case("allreduce-node", "all-reduce, in the memory of one node", {"name": "allreduce"}, changes=()),
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


def run(case: Case, workers: int, epochs: int, ours: Ours, folder: Path) -> dict[str, Any]:
    """Train with one strategy; return what its records say."""
    ranks, output = workers + case.servers, folder / case.name
    arguments = (
        "train", ROOT / "configs" / "mnist-mlp.yaml", "--output", output, "--quiet",
        "--set", f"training.epochs={epochs}", "--set", f"strategy={json.dumps(case.strategy)}",
        *(argument for change in case.changes for argument in ("--set", change)),
    )  # fmt: skip
    seconds = ours.run(*arguments, ranks=ranks)
    records = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return {
        "name": case.name, "what": case.what, "strategy": case.strategy, "ranks": ranks,
        "accuracy": records[-1]["validation_accuracy"], "loss": records[-1]["validation_loss"],
        "epoch_seconds": sorted(record["train_seconds"] for record in records)[len(records) // 2],
        "seconds": seconds, "commit": commit(), "epochs": records,
    }  # fmt: skip


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return the table in Markdown."""
    columns = (
        "strategy",
        "ranks",
        "accuracy",
        "s an epoch",
        "mean staleness",
        "most",
        "waiting and exchange",
        "MB an epoch",
    )
    lines = [columns, ("---",) * len(columns)]
    for result in results:
        staleness = [record["staleness"] for record in result["epochs"] if record.get("staleness")]
        last = result["epochs"][-1]["ranks_seconds"]
        busy = sum(last["compute"])
        idle = sum(last["wait"]) + sum(last["communication"])
        lines.append(
            (
                result["what"], str(result["ranks"]), f"{result['accuracy']:.4f}", f"{result['epoch_seconds']:.2f}",
                f"{sum(s['mean'] for s in staleness) / len(staleness):.2f}" if staleness else "",
                str(max(s["max"] for s in staleness)) if staleness else "",
                f"{100 * idle / (idle + busy):.0f} %", _traffic(result["epochs"][-1].get("ranks_bytes")),
            )
        )  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _traffic(ranks_bytes: dict[str, list[int]] | None) -> str:
    """Return what all ranks sent, and what it would have been where a codec made it less [MB]; nothing if unknown."""
    if ranks_bytes is None:
        return ""
    raw, sent = (sum(ranks_bytes[kind]) / 1e6 for kind in ("raw", "sent"))
    return f"{sent:.0f}" if sent == raw else f"{sent:.0f} of {raw:.0f}"


def main() -> None:
    """Run the cases, write JSON, and put the table into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [case.name for case in CASES]
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--cases", nargs="+", choices=names, default=names, metavar="CASE", help=", ".join(names))
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    mnist()
    path = args.output or RESULTS / f"{datetime.date.today().isoformat()}-strategies.json"
    kept = json.loads(path.read_text())["results"] if path.exists() else []
    results = {result["name"]: result for result in kept}
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(Path(folder))
        about = {**ours.bench("kernels", "--rows", 1, "--seconds", 1e-4, ranks=1)["machine"]}
        for case in CASES:
            if case.name not in args.cases:
                continue
            try:
                last = run(case, args.workers, args.epochs, ours, Path(folder))
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                print(f"{case.name}: failed within {LIMIT_S:.0f} s: {error}", flush=True)
                continue
            print(f"{case.name}: {last['accuracy']:.4f}, {last['epoch_seconds']:.2f} s an epoch", flush=True)
            results[case.name] = last
            ordered = [results[name] for name in names if name in results]
            path.write_text(
                json.dumps({"machine": about, "workers": args.workers, "results": ordered}, indent=1) + "\n"
            )
            page = filled(PAGE.read_text(encoding="utf-8"), table(ordered), BEGIN, END)
            PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()

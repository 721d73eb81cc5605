"""Digests of a fixed set of runs: what a restructuring must not change.

    python scripts/digests.py before.json                      with this environment's onotrain
    python scripts/digests.py after.json --against before.json
    python scripts/digests.py other.json --bin ../other/.venv/bin

Every run is deterministic for its number of ranks: a server that is not synchronous has one worker.  A digest is that
of the parameters, of every epoch's losses and of the steps made.  Digests differ between kinds of processor.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import launch  # noqa: E402 - a helper of the tests, found by the line above

LIMIT_S = 240.0
SERVER = {"name": "parameter_server"}
LOCAL = {"name": "local_sgd", "inner_state": "keep"}
RELU, TANH = {"units": 48, "activation": "relu"}, {"units": 24, "activation": "tanh"}
LAYERS = [{"dense": RELU}, {"dropout": 0.2}, {"dense": TANH}]

#: Name -> ranks, changes of the base configuration.
RUNS: dict[str, tuple[int, dict[str, Any]]] = {
    **{
        f"allreduce-{ranks}": (ranks, {}) for ranks in (1, 2, 3, 4)
    },
    "allreduce-gradients-2": (2, {"strategy": {"name": "allreduce", "share": "gradients"}}),
    "allreduce-two-nodes": (4, {"simulate": {"ranks_per_node": 2}}),
    "allreduce-four-nodes": (4, {"simulate": {"ranks_per_node": 1}}),
    "allreduce-uneven-nodes": (3, {"simulate": {"ranks_per_node": 2}}),
    "flat-1": (1, {"strategy": "flat"}),
    "flat-3": (3, {"strategy": "flat"}),
    "server-sync-3": (3, {"strategy": SERVER}),
    "server-sync-two-servers-4": (4, {"strategy": {**SERVER, "servers": 2}}),
    "server-stale-2": (2, {"strategy": {**SERVER, "staleness": 2}}),
    "server-unbounded-2": (2, {"strategy": {**SERVER, "staleness": "unbounded"}}),
    "server-overlap-2": (2, {"strategy": {**SERVER, "staleness": "unbounded", "overlap": True}}),
    **{
        f"server-{name}-2": (2, {"strategy": {**SERVER, "staleness": "unbounded", "compensation": name}})
        for name in ("learning_rate", "delay", "constant_batch")
    },
    "server-delay-adaptive-2": (
        2, {"strategy": {**SERVER, "staleness": 1, "compensation": {"name": "delay", "adaptive": True}}},
    ),
    "server-two-servers-unbounded-3": (3, {"strategy": {**SERVER, "servers": 2, "staleness": "unbounded"}}),
    "switch-2": (2, {"strategy": {"name": "strategy_switch", "at_epoch": 1}}),
    "switch-sync-server-3": (3, {"strategy": {"name": "strategy_switch", "at_epoch": 2, "server": {"staleness": 0}}}),
    "local-2": (2, {"strategy": {**LOCAL, "period": 4}}),
    "local-average-3": (3, {"strategy": {"name": "local_sgd", "period": 3}}),
    "local-reset-proximal-2": (2, {"strategy": {**LOCAL, "inner_state": "reset", "period": 5, "proximal": 0.01}}),
    "local-post-2": (2, {"strategy": {**LOCAL, "period": {"name": "post_local", "steps": 4, "from_epoch": 1}}}),
    "local-adaptive-2": (2, {"strategy": {**LOCAL, "period": {"name": "adaptive", "steps": 8}}}),
    "local-nesterov-2": (2, {"strategy": {**LOCAL, "period": 4, "outer": "nesterov"}}),
    "local-adam-2": (2, {"strategy": {**LOCAL, "period": 4, "outer": "adam"}}),
    **{
        f"{name}-2": (2, {"optimizer": {"name": name}})
        for name in ("sgd", "adamw", "rmsprop", "adagrad", "lamb")
    },
    "momentum-3": (3, {"optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4}}),
    "nesterov-2-flat": (2, {"optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True}, "strategy": "flat"}),
    "adam-clip-2": (2, {"training": {"clip_norm": 0.5}}),
    "adam-accumulate-2": (2, {"training": {"gradient_accumulation": 3}}),
    "adam-float64-2": (2, {"training": {"dtype": "float64"}}),
    "lamb-server-3": (3, {"optimizer": {"name": "lamb"}, "strategy": SERVER}),
    **{
        f"codec-{name}-two-nodes": (4, {"communication": {"codec": name}, "simulate": {"ranks_per_node": 2}})
        for name in ("fp16", "bf16", "int8", "topk", "powersgd")
    },
    "codec-int8-flat-3": (3, {"communication": {"codec": "int8"}, "strategy": "flat"}),
    "codec-int8-server": (
        3, {"communication": {"codec": "int8"}, "strategy": SERVER, "simulate": {"ranks_per_node": 1}},
    ),
    "codec-powersgd-local": (2, {"communication": {"codec": "powersgd"}, "strategy": {**LOCAL, "period": 4}}),
    "partition-by-label-2": (2, {"data": {"partition": "by_label"}, "strategy": {**LOCAL, "period": 4}}),
    "balance-2": (2, {"training": {"load_balance": "throughput"}}),
    "early-stopping-plateau-2": (
        2,
        {
            "training": {"epochs": 6, "early_stopping": {"patience": 1}},
            "schedule": {"name": "plateau", "patience": 0, "factor": 0.5},
        },
    ),
    "cosine-warmup-2": (2, {"schedule": {"name": "cosine", "warmup_steps": 10}}),
    "mse-2": (2, {"loss": "mse"}),
    "mae-2": (2, {"loss": "mae"}),
    "huber-3": (3, {"loss": "huber"}),
    "binary-2": (2, {"loss": "binary_cross_entropy"}),
    "mse-server-2": (2, {"loss": "mse", "strategy": {**SERVER, "staleness": "unbounded"}, "optimizer": "rmsprop"}),
}  # fmt: skip


def data_for(loss: str, folder: Path) -> tuple[dict[str, Any], int]:
    """Return the section ``data`` for a loss, and the number of outputs; write the file if there is none built in."""
    if loss == "cross_entropy":
        return {"train": "digits", "validation": 0.2, "normalize": "standard"}, 10
    path = folder / f"{loss}.npz"
    rng = np.random.default_rng(7)
    x = rng.normal(size=(900, 12)).astype(np.float32)
    y = np.tanh(x @ rng.normal(size=(12, 3)) / 3).astype(np.float32)
    outputs = 1 if loss == "binary_cross_entropy" else 3
    np.savez(path, x=x, y=(y[:, 0] > 0).astype(np.int64) if outputs == 1 else y)
    return {"train": str(path), "validation": 0.2, "normalize": "standard"}, outputs


def configuration(changes: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a whole configuration."""
    loss = changes.get("loss", "cross_entropy")
    data, outputs = data_for(loss, folder)
    return {
        "data": {**data, **changes.get("data", {})},
        "model": {"layers": [*LAYERS, {"dense": outputs}]},
        "loss": loss,
        "optimizer": changes.get("optimizer", {"name": "adam", "learning_rate": 0.003}),
        "training": {"epochs": 3, "batch_size": 50, "seed": 3, **changes.get("training", {})},
        **{key: value for key, value in changes.items() if key not in ("data", "loss", "optimizer", "training")},
    }


def digest(name: str, ranks: int, config: dict[str, Any], bin_folder: Path, folder: Path) -> str:
    """Train, and return the digest of what came out."""
    path, output = folder / f"{name}.yaml", folder / name
    path.write_text(json.dumps(config))
    command = [bin_folder / "mpirun", "-n", str(ranks), bin_folder / "onotrain", "train", path, "--output", output]
    environment = launch.environment({"PATH": f"{bin_folder}:/usr/bin:/bin"})
    ended = subprocess.run(command, env=environment, timeout=LIMIT_S, capture_output=True, text=True, check=False)
    if ended.returncode:
        return f"exit {ended.returncode}: {ended.stderr.strip()[-300:]}"
    summary = json.loads((output / "summary.json").read_text())
    records = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    losses = [(each["train_loss"], each["validation_loss"], each["steps"]) for each in records]
    if config["training"].get("load_balance"):  # slices follow the clock, and so does the order of the sum of losses
        losses = []
    return hashlib.sha256(repr((summary["parameters_sha256"], losses)).encode()).hexdigest()


def main() -> int:
    """Run all, or those named; return 1 if a digest is not that of the other file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--against", type=Path, help="a file of an earlier call")
    parser.add_argument("--bin", type=Path, default=Path(sys.executable).parent, help="folder of onotrain and mpirun")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="runs whose names contain one of these words")
    options = parser.parse_args()
    known = json.loads(options.against.read_text()) if options.against else {}
    found = json.loads(options.output.read_text()) if options.only and options.output.exists() else {}
    different = []
    with tempfile.TemporaryDirectory() as name:
        for run, (ranks, changes) in RUNS.items():
            if options.only and not any(word in run for word in options.only):
                continue
            config = configuration(changes, Path(name))
            found[run] = digest(run, ranks, config, options.bin.resolve(), Path(name))
            same = {True: "equal", False: "DIFFERENT"}[found[run] == known[run]] if run in known else ""
            different += [run] if same == "DIFFERENT" else []
            print(f"{run:<34}{found[run][:80]}  {same}", flush=True)
    options.output.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{len(found)} runs, {len(different)} different")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())

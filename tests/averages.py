"""Trainings of a network with averaged tensors, for ``tests/system/test_averaged_tensors.py``.

``PYTHONPATH=FOLDER mpirun -n 3 python averages.py OUTPUT`` where FOLDER has what `toy_layer.install` leaves.  Rank 0
prints, as JSON, the averaged tensors that each training ends with and, of one rank, the means of all its batches.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from onotrain.config import Config
from onotrain.parallel.world import World
from onotrain.runs.run_directory import RunDirectory
from onotrain.training import train

sys.path.insert(0, str(Path(__file__).parent))
import builders  # noqa: E402 - a helper of the tests, found by the line above
from toy_layer import SERVER, STRATEGIES  # noqa: E402

#: Rows that any of 1 to 3 ranks cut into equal slices, in batches of 24.
ROWS, FEATURES = 240, 6
RATE = 0.25
HIDDEN = {"dense": {"units": 7, "activation": "tanh"}}
LOCAL: dict[str, Any] = {"name": "local_sgd", "period": 4, "inner_state": "reset", "proximal": 0.1}
DECAY: dict[str, Any] = {"learning_rate": 0.01, "weight_decay": 0.1, "decay_norm_and_bias": False}
NODES: dict[str, Any] = {"strategy": {"name": "allreduce", "bucket_mib": 1e-4}, "simulate": {"ranks_per_node": 1}}
RULES = ("sgd", "adam", "adamw", "rmsprop", "adagrad", "lion", "nadam")

#: Changes of the configuration; all make of the averages what one rank makes of them.
CASES: dict[str, dict[str, Any]] = {
    **{name: {"strategy": strategy} for name, strategy in STRATEGIES.items() if name not in ("stale", "asynchronous")},
    "adaptive server": {"strategy": {**SERVER, "compensation": "none"}, "optimizer": {"name": "adam", **DECAY}},
    "two servers": {"strategy": {**SERVER, "servers": 2}, "optimizer": {"name": "lamb", **DECAY}},
    "local steps": {"strategy": {**SERVER, "push_every": 4}, "optimizer": {"name": "adam", **DECAY}},
    "nesterov": {"strategy": {**LOCAL, "outer": "nesterov"}},
    "outer adam": {"strategy": {**LOCAL, "outer": "adam"}},
    **{
        name: {"optimizer": {"name": name, **DECAY}}
        for name in (*RULES, "lamb")
    },
    "clipped": {"optimizer": {"name": "adam", **DECAY}, "training": {"clip_norm": 1e-3}},
    "clipped flat": {"strategy": "flat", "training": {"clip_norm": 1e-3}},
    "clipped lamb": {"optimizer": {"name": "lamb", **DECAY}, "training": {"clip_norm": 1e-3}},
    "schedule": {"schedule": {"name": "exponential", "factor": 0.1}},
    "accumulated": {"training": {"gradient_accumulation": 3}},
    "nodes": NODES,
    "clipped nodes": {**NODES, "training": {"clip_norm": 1e-3}},
    **{
        f"{codec} {name}": {**changes, "communication": {"codec": codec}}
        for codec in ("bf16", "int8", "topk", "powersgd")
        for name, changes in (
            ("nodes", NODES), ("flat", {"strategy": "flat"}), ("local", {"strategy": {**LOCAL, "outer": "nesterov"}}),
            ("server", {"strategy": SERVER, "simulate": {"ranks_per_node": 1}}),
            ("local steps", {"strategy": {**SERVER, "push_every": 4}, "simulate": {"ranks_per_node": 1}}),
        )
    },
}  # fmt: skip
#: Those that are not the same for any number of ranks.
UNLIKE: dict[str, dict[str, Any]] = {
    name: {"strategy": {**SERVER, "staleness": "unbounded", **options}}
    for name, options in {
        "asynchronous": {},
        "delay": {"compensation": {"name": "delay", "strength": 1.0}},
        "constant batch": {"compensation": "constant_batch"},
        "by staleness": {"compensation": "learning_rate"},
        "local steps by staleness": {"push_every": 4, "compensation": "learning_rate", "rate_scaling": "none"},
    }.items()
}


#: Those that two ranks are enough for.
TWO_RANKS = [name for name in CASES if name.split()[0] in ("bf16", "int8", "powersgd", *RULES)]
#: Those that are also trained with an interruption after the first epoch.
RESUMED = (
    "allreduce", "gradients", "server", "switch", "nesterov", "clipped", "lamb", "topk flat", "asynchronous",
    "local steps",
)  # fmt: skip


def tried(name: str, ranks: int) -> bool:
    """Return whether a case is, and can be, trained on this number of ranks."""
    changes = (CASES | UNLIKE)[name]
    strategy = changes.get("strategy")
    if ("communication" in changes and ranks == 1) or (name in TWO_RANKS and ranks != 2):
        return False
    if not isinstance(strategy, dict) or strategy["name"] not in ("parameter_server", "strategy_switch"):
        return True
    return ranks > int(strategy.get("servers", 1))


def write_data(path: Path) -> None:
    """Write the samples, whose means are far from zero."""
    rng = np.random.default_rng(5)
    y = rng.integers(0, 3, ROWS)
    np.savez(path, x=rng.normal(size=(ROWS, FEATURES)) + y[:, None] + 10.0 * np.arange(FEATURES), y=y)


def configuration(data: Path, changes: dict[str, Any], **training: Any) -> Config:
    """Return the configuration of a case; the layers at both ends have averages, one of the raw data."""
    base = {
        "data": {"train": str(data)},
        "model": {"layers": [{"follow": {}}, HIDDEN, {"follow": {}}, {"dense": 3}]},
        "loss": "cross_entropy",
        "optimizer": {"name": "sgd", "momentum": 0.9, **DECAY},
        "training": {"epochs": 2, "batch_size": 24, "dtype": "float64"},
    }
    return Config.from_mapping(builders.changed(builders.changed(base, **changes), training=training))


def averages(output: Path) -> dict[str, list[float]]:
    """Return the averaged tensors of a run."""
    arrays = RunDirectory.open(output).checkpoint("latest").checkpoint.arrays
    return {name: array.tolist() for name, array in arrays.items() if name.startswith("parameters/") and "mean" in name}


def main(folder: str) -> None:
    """Train all cases for this number of ranks."""
    world, found = World.connect(), dict[str, Any]()
    data = Path(folder) / f"data-{world.size}.npz"
    if world.rank == 0:
        write_data(data)
    world.comm.Barrier()
    means = importlib.import_module("toy").Follow.means
    for name, changes in (CASES | UNLIKE).items():
        if not tried(name, world.size):
            continue
        del means[:]
        whole, parts = (Path(folder) / f"{world.size}-{name}-{kind}".replace(" ", "-") for kind in ("whole", "parts"))
        summary = train(configuration(data, changes), world.comm, output=whole).summary
        batches = [mean.tolist() for mean in means[::2]] if world.size == 1 and name == "allreduce" else []
        digests = [summary["parameters_sha256"]]
        if name in RESUMED:
            train(configuration(data, changes, epochs=1), world.comm, output=parts)
            resumed = train(configuration(data, changes), world.comm, output=parts, resume=True).summary
            digests.append(resumed["parameters_sha256"])
        if world.rank == 0:
            found[name] = {"averages": averages(whole), "digests": digests, "batches": batches}
    if world.rank == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])

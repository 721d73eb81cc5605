"""Trains with every strategy, one after the other: ``mpirun -n 4 python every_strategy.py FOLDER [RANKS_PER_NODE]``.

Rank 0 prints, as JSON, the summary of each.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from onotrain.config import Config
from onotrain.parallel.world import World
from onotrain.training import train

SERVER = {"name": "parameter_server"}
STRATEGIES: dict[str, dict[str, Any]] = {
    "allreduce": {"name": "allreduce"},
    "flat": {"name": "flat"},
    "server": SERVER,
    "two servers": {**SERVER, "servers": 2},
    "stale": {**SERVER, "staleness": 2},
    "asynchronous": {**SERVER, "staleness": "unbounded"},
    "local steps": {**SERVER, "push_every": 4},
    "overlap": {**SERVER, "staleness": "unbounded", "overlap": True},
    "two asynchronous servers": {**SERVER, "servers": 2, "staleness": "unbounded"},
    "switch": {"name": "strategy_switch", "at_epoch": 1},
    "local": {"name": "local_sgd", "inner_state": "keep"},
    "diloco": {"name": "local_sgd", "inner_state": "keep", "outer": {"name": "nesterov"}},
}

HIDDEN = {"units": 32, "activation": "relu"}
#: Those whose gradients are as stale as the machine is busy: of ten classes they know some in any case.
AS_IT_COMES = ("asynchronous", "overlap", "two asynchronous servers", "switch")
#: Those that make the same updates.
ALIKE = ("allreduce", "flat", "server", "two servers")


def command(folder: Path, *ranks_per_node: int) -> list[object]:
    """Return what each rank runs."""
    return [sys.executable, __file__, folder, *ranks_per_node]


def check(output: str) -> dict[str, Any]:
    """Look whether all have learnt something, and the same where updates are the same; return the summaries."""
    summaries = json.loads(output.splitlines()[-1])
    expected = summaries["allreduce, none"]["train_loss"]
    for name, each in summaries.items():
        assert each["finished"], name
        assert each["validation_accuracy"] > (0.3 if name.split(",")[0] in AS_IT_COMES else 0.6), name
        alike = name in [f"{strategy}, none" for strategy in ALIKE]
        assert not alike or math.isclose(each["train_loss"], expected, rel_tol=1e-4), name
    return dict(summaries)


def main(folder: str, ranks_per_node: int | None = None) -> None:
    """Train, without a codec, and with one where anything is sent."""
    world = World.connect()
    nodes = World.connect(ranks_per_node=ranks_per_node).nodes
    summaries = {}
    for codec in ("none", "int8"):
        for name, strategy in STRATEGIES.items():
            always_sends = strategy["name"] in ("flat", "local_sgd")
            if world.size <= strategy.get("servers", 1) or (codec != "none" and nodes == 1 and not always_sends):
                continue
            config = Config.from_mapping(
                {
                    "data": {"train": "digits", "validation": 0.2},
                    "model": {"layers": [{"dense": HIDDEN}, {"residual": [{"dense": HIDDEN}]}, {"dense": 10}]},
                    "loss": "cross_entropy",
                    "optimizer": {"name": "adam", "learning_rate": 0.005},
                    "training": {"epochs": 2, "batch_size": 32},
                    "strategy": strategy,
                    "communication": {"codec": codec},
                    "simulate": {"ranks_per_node": ranks_per_node},
                }
            )
            output = Path(folder) / f"{name}-{codec}".replace(" ", "-")
            summaries[f"{name}, {codec}"] = dict(train(config, world.comm, output=output).summary)
    if world.rank == 0:
        print(json.dumps(summaries))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))

"""What strategies say that they send is what they send: records of simulated epochs against those of real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import builders
from builders import records, relu
from onotrain.config.cluster import Cluster
from onotrain.parallel.world import World
from onotrain.planning.course import machine_of, simulate
from onotrain.planning.workload import Workload
from onotrain.simulation.costs import Costs
from onotrain.training import train

pytestmark = pytest.mark.mpi(min_size=2)
RANKS = (2, 3, 4)

SERVER = {"name": "parameter_server"}
ASYNCHRONOUS = {**SERVER, "staleness": "unbounded"}
STRATEGIES: dict[str, tuple[dict[str, Any], str]] = {
    "allreduce": ({"name": "allreduce"}, "none"),
    "allreduce, int8": ({"name": "allreduce"}, "int8"),
    "allreduce, powersgd": ({"name": "allreduce"}, "powersgd"),
    "allreduce, topk": ({"name": "allreduce"}, "topk"),
    "flat": ({"name": "flat"}, "none"),
    "flat, bf16": ({"name": "flat"}, "bf16"),
    "server": (SERVER, "none"),
    "two servers": ({**SERVER, "servers": 2}, "int8"),
    "asynchronous": (ASYNCHRONOUS, "none"),
    "local steps": ({**ASYNCHRONOUS, "push_every": 4}, "none"),
    "push per epoch": ({**ASYNCHRONOUS, "push_every": "epoch"}, "none"),
    "local SGD": ({"name": "local_sgd", "period": 4}, "none"),
    "local SGD, int8": ({"name": "local_sgd", "period": 5, "inner_state": "keep"}, "int8"),
    "switch": ({"name": "strategy_switch", "at_epoch": 1}, "none"),
}
#: Messages of these have scales and numbers of values for each rank's part of the vector, rounded up.
TOLERANCE = {"int8": 0.01, "topk": 0.02}
COSTS = Costs(np.array([1.0]), np.array([1e-3]), 1e-4)


@pytest.mark.parametrize("name", STRATEGIES)
def test_bytes(world: World, place: Path, name: str) -> None:
    if world.size <= STRATEGIES[name][0].get("servers", 1):
        pytest.skip("Test requires 3 MPI processes")
    compare(world, place, name, 2 if world.size == 4 else 1)


@pytest.mark.parametrize("name", ["allreduce", "allreduce, int8", "flat", "server", "local SGD"])
def test_nodes_of_different_sizes(world: World, place: Path, name: str) -> None:
    if world.size != 3:
        pytest.skip("Test requires 3 MPI processes")
    compare(world, place, name, 2)


def compare(world: World, place: Path, name: str, ranks_per_node: int) -> None:
    """Train, simulate, and compare the records."""
    options, codec = STRATEGIES[name]
    made = builders.config(
        relu(32), 10, training={"epochs": 2, "batch_size": 200}, strategy=options,
        communication={"codec": {"name": codec}}, simulate={"ranks_per_node": ranks_per_node},
    )  # fmt: skip
    train(made, world.comm, output=place)
    real = world.comm.bcast(records(place) if world.rank == 0 else None, root=0)
    workload = Workload.of(made, world)
    cluster = Cluster(ranks_per_node=ranks_per_node)
    course = simulate(workload, machine_of(workload, cluster, world.size, COSTS))
    for mine, theirs in zip(course.records, real, strict=True):
        for kind in ("raw", "sent"):
            said, sent = (np.array(record["ranks_bytes"][kind]) for record in (mine, theirs))
            assert said.sum() == pytest.approx(sent.sum(), rel=TOLERANCE.get(codec, 1e-4)), kind
            # Parts of the vector end at cache lines, 64 bytes apart, and some of them hold more matrices than others.
            assert np.allclose(said, sent, rtol=0.25 if codec == "powersgd" else 0.02), (kind, said, sent)
        for key in ("steps", "ranks", "nodes", "workers", "servers", "strategy"):
            assert mine[key] == theirs[key], key
        if "staleness" in theirs:
            assert mine["staleness"]["gradients"] == theirs["staleness"]["gradients"]

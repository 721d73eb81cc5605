"""What ranks measure of themselves and of the network between them for a plan."""

from __future__ import annotations

import math

import pytest

import builders
from onotrain.parallel.world import World
from onotrain.planning.probe import costs_of, network_of
from onotrain.planning.workload import Workload

RANKS = (1, 3)


def test_network(world: World) -> None:
    """Between two nodes, the same numbers on all ranks; none within one."""
    assert network_of(world) is None
    if world.size == 1:
        return
    found = network_of(builders.two_nodes(world.comm))
    assert found is not None and all(0.0 < value < math.inf for value in found.values())
    assert set(found) == {"latency_us", "bandwidth_mbit"}
    assert world.comm.allgather(found) == [found] * world.size


def test_costs_are_those_of_the_slowest(world: World) -> None:
    """The same on all ranks; more rows take no less time."""
    workload = Workload.of(builders.config(32, 10, training={"batch_size": 600}), world)
    costs = costs_of(workload, [1, 200, 600], world)
    assert costs.rows.tolist() == [1.0, 24.0, 600.0]
    assert (costs.seconds[1:] >= costs.seconds[:-1]).all() and costs.seconds[0] > 0.0 and costs.update > 0.0
    everyone = world.comm.allgather((costs.seconds.tolist(), costs.update))
    assert everyone == [everyone[0]] * world.size


@pytest.mark.parametrize("codec", ["int8", "powersgd"])
def test_codecs_take_time(world: World, codec: str) -> None:
    made = builders.config(32, 10, training={"batch_size": 60}, communication={"codec": codec})
    costs = costs_of(Workload.of(made, world), [20], world)
    assert costs.encode > 0.0 and (costs.decode > 0.0) == (codec == "int8")

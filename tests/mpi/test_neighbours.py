"""What nodes learn of each other by datagrams."""

from __future__ import annotations

from time import monotonic, monotonic_ns, sleep

import pytest

from onotrain.parallel.neighbours import Neighbours
from onotrain.parallel.world import World

pytestmark = pytest.mark.mpi(min_size=3)


def test_every_node_learns_that_one_makes_progress(world: World) -> None:
    """The first node passes on what it hears, as the others hear nobody else."""
    with World.connect(world.comm, 1) as nodes:
        neighbours = Neighbours(nodes)
        began, end = monotonic_ns(), monotonic() + 20
        world.barrier()
        assert neighbours.progress < began
        learned = False
        while not all(nodes.comm.allgather(learned)) and monotonic() < end:
            neighbours.beat(monotonic_ns() if nodes.rank == nodes.size - 1 else 0)
            learned = neighbours.progress >= began
            sleep(0.01)
        assert learned and neighbours.progress <= monotonic_ns()
        neighbours.close()

"""The node's barrier: nobody leaves before the last has come, with ranks that are late and more ranks than cores."""

from __future__ import annotations

import time

import numpy as np
import pytest

from onotrain.parallel.barrier import STATE, make_barrier
from onotrain.parallel.shared_memory import allocate
from onotrain.parallel.world import World

pytestmark = pytest.mark.mpi


def test_nobody_leaves_before_the_last_has_come(world: World) -> None:
    """Two thousand rounds: after each, every rank has written its number of the round; a late one makes all wait."""
    memory = allocate(world.node, {"state": STATE, "rounds": ((world.node.size,), np.int64)})
    barrier = make_barrier(world, memory["state"])
    rng = np.random.default_rng(world.rank)
    for number in range(1, 2001):
        if rng.random() < 0.005:
            time.sleep(0.002)
        memory["rounds"][world.node.rank] = number
        barrier()
        assert (memory["rounds"] == number).all()
        barrier()
    assert memory["state"][0] == 0 and memory["state"][8] == 4000


def test_a_long_wait_gives_the_core_away(world: World) -> None:
    """A rank that waits for another's whole second of sleep can be interrupted, and goes on when that one comes."""
    memory = allocate(world.node, {"state": STATE})
    barrier = make_barrier(world, memory["state"])
    began = time.monotonic()
    if world.node.rank == 0:
        time.sleep(0.3)
    barrier()
    assert time.monotonic() - began >= 0.29


def test_too_little_memory_for_its_state(world: World) -> None:
    with pytest.raises(ValueError, match="expected 16"):
        make_barrier(world, np.zeros(8, np.int64))()

"""The node's barrier: nobody leaves before the last has come, with ranks that are late and more ranks than cores."""

from __future__ import annotations

import signal
import time

import numpy as np
import pytest

from onotrain.parallel.barrier import STATE, Barrier
from onotrain.parallel.shared_memory import allocate
from onotrain.parallel.world import World

pytestmark = pytest.mark.mpi


def test_nobody_leaves_before_the_last_has_come(world: World) -> None:
    """Two thousand rounds: after each, every rank has written its number of the round; a late one makes all wait."""
    memory = allocate(world.node, {"state": STATE, "rounds": ((world.node.size,), np.int64)})
    barrier = Barrier(world, memory["state"])
    rng = np.random.default_rng(world.rank)
    for number in range(1, 2001):
        if rng.random() < 0.005:
            time.sleep(0.002)
        memory["rounds"][world.node.rank] = number
        barrier()
        assert (memory["rounds"] == number).all()
        barrier()
    assert memory["state"][0] == 0 and memory["state"][8] == 4000


def test_a_rank_that_waits_hears_signals(world: World) -> None:
    """The first rank comes when all others have heard one, and lets them go on: they are not deaf to TERM."""
    node = world.node
    memory = allocate(node, {"state": STATE, "heard": ((node.size,), np.int64)})
    barrier, heard = Barrier(world, memory["state"]), memory["heard"]

    def hear(number: int, frame: object) -> None:
        heard[node.rank] = 1

    before = signal.signal(signal.SIGALRM, hear)
    try:
        if node.rank == 0:
            while heard[1:].sum() < node.size - 1:
                time.sleep(0.01)
        else:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
        barrier()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_too_little_memory_for_its_state(world: World) -> None:
    with pytest.raises(ValueError, match="expected 16"):
        Barrier(world, np.zeros(8, np.int64))()

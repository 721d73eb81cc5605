"""Sums over nodes that go on while a rank computes."""

from __future__ import annotations

import time

import numpy as np
import pytest

from onotrain.parallel.exchange import MESSAGE_BYTES, Sum
from onotrain.parallel.world import World

pytestmark = pytest.mark.mpi(min_size=2)


def vector_of(rank: int, length: int, dtype: str) -> np.ndarray:
    """Return numbers of very different sizes, so that the order of additions shows."""
    rng = np.random.default_rng([rank, length])
    return (rng.normal(size=length) * 10.0 ** rng.integers(-6, 7, length)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("length", [0, 1, 3, 1000, MESSAGE_BYTES // 4 + 1, 100_003])
def test_every_element_is_added_in_the_order_of_the_ranks(world: World, length: int, dtype: str) -> None:
    """The same bits on all ranks, whatever the length; twice, for its requests are used again."""
    expected = vector_of(0, length, dtype)
    for rank in range(1, world.size):
        expected = expected + vector_of(rank, length, dtype)
    vector = np.empty(length, dtype)
    exchange = Sum(world.comm, vector, 0)
    for _ in range(2):
        vector[:] = vector_of(world.rank, length, dtype)
        exchange.start()
        exchange.finish()
        assert not exchange.flying
        np.testing.assert_array_equal(vector, expected)
    exchange.close()


def test_how_a_vector_is_cut_does_not_change_the_sum(world: World) -> None:
    """Several exchanges under way at once, looked at until they have ended without anyone waiting."""
    length = 50_000
    sums = []
    for cuts in ([0, length], [0, 7, 20_000, 20_001, length]):
        vector = vector_of(world.rank, length, "float32")
        exchanges = [Sum(world.comm, vector[a:b], 2 * n) for n, (a, b) in enumerate(zip(cuts, cuts[1:], strict=False))]
        for exchange in exchanges:
            exchange.start()
        while any(exchange.flying for exchange in exchanges):
            for exchange in exchanges:
                exchange.advance()
        for exchange in exchanges:
            exchange.close()
        sums.append(vector.tobytes())
    assert sums[0] == sums[1]
    assert len(set(world.comm.allgather(sums[0]))) == 1


def test_a_late_rank_gets_the_same_sum(world: World) -> None:
    """Its peers' messages come before it has begun."""
    vector = np.full(200_000, world.rank + 1.0)
    exchange = Sum(world.comm, vector, 0)
    if world.rank == world.size - 1:
        time.sleep(0.2)
    exchange.start()
    exchange.finish()
    exchange.close()
    assert (vector == world.size * (world.size + 1) / 2).all()

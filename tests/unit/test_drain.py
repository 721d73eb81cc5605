"""How servers come to rest: when they name a stop batch, what they tell each other, and what they report."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from onotrain.strategies import StepStatistics
from onotrain.strategies.parameter_server.drain import Drain
from onotrain.strategies.parameter_server.roles import Roles


class Sum:
    """Servers' sums, of which the others' part is given."""

    def __init__(self, *others: float) -> None:
        self._others, self.several = np.array(others), len(others) > 0
        self.sent: list[list[float]] = []

    def sum(self, values: np.ndarray) -> None:
        """Add the others' values."""
        self.sent.append(values.tolist())
        values += self._others


def drain(
    *others: float, rank: int = 0, synchronous: bool = False, overlap: bool = False, servers: Any = None
) -> Drain:
    """Return that of a server, where the others find these squares, requests, divergences and stop batches."""
    servers = servers or Sum(*others)
    ranges = (slice(0, 8), slice(8, 16))
    return Drain(Roles(rank, 2, 2, synchronous, ranges, (0,) * 4, servers, servers), overlap=overlap)


def statistics(loss: float = 1.0, *, stop: bool = False) -> StepStatistics:
    """Return what a rank has found."""
    made = StepStatistics()
    made.losses[0], made.samples, made.stop = loss, 4, stop
    return made


def test_without_a_reason_nothing_happens() -> None:
    one = drain()
    assert one.note_push(statistics()) and one.note_update(3.0) == 3.0
    one.note_request(statistics())
    one.name_stop_batch(lambda: 7)
    assert one.agree(6, 3.0) == 3.0
    assert one.stop_batch == 0 and not one.diverged
    total = statistics()
    one.conclude(total)
    assert total.finite and not total.stop


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("why", ["request", "push", "loss", "update"])
def test_rank_0_names_the_first_batch_that_all_can_hear_of_in_time(why: str, overlap: bool) -> None:
    """With overlap the worker that is ahead has begun that one already; what was named stays."""
    one = drain(overlap=overlap)
    if why == "request":
        one.note_request(statistics(stop=True))
    elif why == "push":
        assert one.note_push(statistics(stop=True))
    elif why == "loss":
        assert not one.note_push(statistics(math.nan))
    else:
        assert one.note_update(math.inf) == 0.0
    one.name_stop_batch(lambda: 7)
    assert one.stop_batch == 7 + overlap
    one.name_stop_batch(lambda: 9)
    assert one.stop_batch == 7 + overlap


def test_other_servers_wait_for_rank_0_to_name_it() -> None:
    """Workers listen to rank 0 alone; what this server has found goes there."""
    servers = Sum(0.5, 0.0, 0.0, 9.0)
    one = drain(servers=servers, rank=1)
    one.note_request(statistics(stop=True))
    one.name_stop_batch(lambda: 7)
    assert one.stop_batch == 0
    assert one.agree(6, 0.25) == 0.75
    assert one.stop_batch == 9
    assert servers.sent == [[0.25, 1.0, 0.0, 0.0]]


@pytest.mark.parametrize(("requests", "divergences"), [(1.0, 0.0), (0.0, 1.0)])
def test_rank_0_learns_of_what_others_have_found(requests: float, divergences: float) -> None:
    """When all have pushed a batch; the stop batch comes after."""
    one = drain(0.0, requests, divergences, 0.0)
    one.agree(6, 1.0)
    assert one.diverged == bool(divergences)
    one.name_stop_batch(lambda: 8)
    assert one.stop_batch == 8


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("others", [(), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 2.0, 0.0)])
def test_synchronous_servers_stop_at_the_very_batch(rank: int, others: tuple[float, ...]) -> None:
    """Nobody was replied to yet: all servers agree on it, whoever has the reason."""
    one = drain(*others, rank=rank, synchronous=True)
    if not others:
        one.note_request(statistics(stop=True))
    one.name_stop_batch(lambda: 6)
    assert one.stop_batch == 0
    one.agree(6, 1.0)
    assert one.stop_batch == 6


def test_the_synchronization_point_tells_all_why() -> None:
    """The loss that is not finite is in the sum; then everything begins anew."""
    one = drain()
    assert not one.note_push(statistics(math.inf, stop=True)) and one.note_push(statistics())
    total = statistics()
    one.conclude(total)
    assert total.loss_sum == math.inf and math.isnan(total.gradient_squares) and total.stop
    assert total.values[2] == 1.0
    one.reset()
    one.name_stop_batch(lambda: 7)
    total = statistics()
    one.conclude(total)
    assert one.stop_batch == 0 and total.finite and not total.stop

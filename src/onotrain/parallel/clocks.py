"""How far the clocks of other nodes are from that of rank 0.

A node's first rank and rank 0 send each other a few messages.  Rank 0 sends at ``a``, the other one answers with its
time ``t``, and rank 0 has the answer at ``b``: on rank 0's clock ``t`` was between ``a`` and ``b``.  So the offset is
``t - (a + b) / 2``, and cannot be wrong by more than ``(b - a) / 2``, however unlike both directions are; of several
exchanges the shortest one counts (Cristian, Distributed Computing 3:146, 1989).

Clocks of computers also run at different rates, by up to some 10 us in a second.  Two measurements, before and after,
give the rate: in between, offsets are those of the straight line through both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from onotrain.parallel.world import World

#: Exchanges of a measurement: the shortest of so many is hardly ever disturbed.
EXCHANGES = 16
_TAG = 3


class Offset(NamedTuple):
    """How far a rank's clock was ahead of rank 0's."""

    #: When, by the rank's clock [s].
    at: float
    #: By how much, and by how much that can be wrong [s].
    ahead: float
    uncertainty: float


class Clocks(NamedTuple):
    """Takes times of this rank to rank 0's clock: the line through two measurements."""

    before: Offset
    after: Offset

    @property
    def uncertainty(self) -> float:
        """By how much times between the measurements can be wrong, if both clocks run evenly [s]."""
        return max(self.before.uncertainty, self.after.uncertainty)

    def to_first_rank(self, nanoseconds: np.ndarray) -> np.ndarray:
        """Return times of this rank by rank 0's clock, both int64 [ns]; later times stay later."""
        before, after = self.before, self.after
        rate = (after.ahead - before.ahead) / (after.at - before.at) if after.at > before.at else 0.0
        # Of differences, for a float64 has not all digits of nanoseconds since the computer was started.
        since = nanoseconds - round(before.at * 1e9)
        return nanoseconds - round(before.ahead * 1e9) - np.rint(since * rate).astype(np.int64)


def offset_of(exchanges: list[tuple[float, float, float]]) -> Offset:
    """Return what exchanges say, each: sent by rank 0 at, answered at by the other clock, answer here at [s]."""
    sent, answered, here = min(exchanges, key=lambda each: each[2] - each[0])
    return Offset(answered, answered - (sent + here) / 2, (here - sent) / 2)


def measure(world: World, now: Callable[[], float]) -> Offset:
    """Return how far this rank's clock is ahead of rank 0's.  *Collective*.

    The clock `now` [s] is one for all ranks of a node.
    """
    comm, mine = world.comm, Offset(now(), 0.0, 0.0)
    leaders: list[bool] = comm.allgather(world.node.rank == 0)
    message = np.zeros(1)
    for leader in [rank for rank, leads in enumerate(leaders) if leads and rank > 0]:
        if comm.rank == 0:
            exchanges = []
            for _ in range(EXCHANGES):
                sent = now()
                comm.Send(message, leader, _TAG)
                comm.Recv(message, leader, _TAG)
                exchanges.append((sent, float(message[0]), now()))
            comm.send(offset_of(exchanges), leader, _TAG)
        elif comm.rank == leader:
            for _ in range(EXCHANGES):
                comm.Recv(message, 0, _TAG)
                message[0] = now()
                comm.Send(message, 0, _TAG)
            mine = comm.recv(None, 0, _TAG)
    return Offset(*world.node.bcast(tuple(mine), root=0))

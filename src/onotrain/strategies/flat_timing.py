"""How long steps of the plain baseline take: `onotrain.strategies.timing`."""

from __future__ import annotations

import numpy as np

from onotrain.simulation.epoch import Epoch
from onotrain.strategies.timing import Timing, bytes_of_sum


class FlatTiming(Timing):
    """All ranks wait for each other, sum the gradient, and make the same update."""

    def epoch(self, number: int) -> Epoch:
        """Return what epoch `number` comes to."""
        computing = self.computing(number) * self.machine.crowding(self.machine.ranks)
        return alike(self, computing.max(axis=1).sum(), computing.sum(axis=0), self.steps, self.sum_of_messages())

    def sum_of_messages(self) -> float:
        """Return how long the sum of a vector over all ranks takes, with a codec that of its messages [s]."""
        ranks, machine, costs = self.machine.ranks, self.machine, self.machine.costs
        if self.job.context.codec is None or ranks == 1:
            return self.sum_over_ranks(self.vector)
        others = ranks - machine.ranks_per_node
        rounds = 1 if ranks == 2 else 2  # noqa: PLR2004
        part = self.message if ranks == 2 else self.message / ranks  # noqa: PLR2004
        sent = rounds * (machine.link(machine.ranks_per_node * others * part) + machine.latency)
        return sent + machine.crowding(ranks) * (costs.encode * (1 + 1 / ranks) + costs.decode * 2)


def alike(
    timing: Timing, computing: float, compute: np.ndarray, updates: int, seconds: float, sums: int | None = None,
    plain: float = 0.0,
) -> Epoch:  # fmt: skip
    """Return an epoch of ranks that hold the same, and meet in sums over all of them.

    Parameters
    ----------
    computing
        Of the slowest rank between the sums, added up [s].
    compute
        Of each rank [s].
    updates
        That each rank makes of all parameters.
    seconds
        Of a sum.
    sums
        Their number; None: one after each update.
    plain
        Bytes that each sum sends besides, as they are.
    """
    machine, sums = timing.machine, updates if sums is None else sums
    update = updates * timing.update * machine.crowding(machine.ranks)
    total, compute = float(computing + update + sums * seconds), compute + update
    raw, sent = (
        np.full(machine.ranks, round(sums * bytes_of_sum(nbytes + plain, machine.ranks)) if machine.ranks > 1 else 0)
        for nbytes in (timing.vector, timing.message)
    )
    return Epoch(total, compute, np.zeros(machine.ranks), total - compute, raw, sent)

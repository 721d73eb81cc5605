"""Uneven machines: slices of the global batch in proportion to how fast ranks are.

Whoever has the same measurements cuts in the same way: from averages on, all is done in Python numbers and integers,
never in sums whose order of additions a CPU could choose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from onotrain.data.batches import Batch
from onotrain.nn.blocks import BLOCKS, block_rows, blocks
from onotrain.parallel.world import World
from onotrain.strategies.telemetry import Clock

#: Steps after which ranks exchange their throughput, where slices follow it.
BALANCED_STEPS = 10

#: Weight of the fastest rank; the others' are in proportion.
_FULL = 2**32


class Balance:
    """How many rows of a global batch each rank gets.

    Until a change promises to pay, the cut is that of `onotrain.data.batches.Batch.slice`: as even as can be.

    Parameters
    ----------
    ranks
        Their number.
    batch_size
        Rows of a full global batch, which predictions are made for.
    smoothing
        Weight of the newest measurement in the exponential average, in (0, 1].
    min_gain
        By what fraction the slowest rank's time must be predicted to fall for the cut to change.
    """

    def __init__(self, ranks: int, batch_size: int, smoothing: float = 0.5, min_gain: float = 0.05) -> None:
        self._ranks = ranks
        self._batch_size = batch_size
        self._smoothing, self._min_gain = smoothing, min_gain
        self._speeds: list[float | None] = [None] * ranks
        self._weights: list[int] | None = None
        self._bounds: dict[int, np.ndarray] = {}

    @property
    def speeds(self) -> list[float | None]:
        """Average throughput of each rank [samples/s]; None before its first measurement."""
        return list(self._speeds)

    @property
    def rows(self) -> list[int]:
        """Rows of a full batch that each rank gets."""
        rows: list[int] = np.diff(self.bounds(self._batch_size)).tolist()
        return rows

    def bounds(self, batch: int) -> np.ndarray:
        """Return where the ranks' slices of a batch of `batch` rows begin and end.

        Returns
        -------
        Read-only int64 array of ranks + 1 elements, from 0 to `batch`: rank ``r`` has rows ``bounds[r]`` to
        ``bounds[r + 1]``.  At least one, if there are as many rows as ranks.
        """
        if batch not in self._bounds:
            self._bounds[batch] = self._cut(batch, self._weights)
        return self._bounds[batch]

    def observe(self, rows: Sequence[int], seconds: Sequence[float]) -> bool:
        """Take in what every rank computed; return whether the cut changed.

        *Collective* in effect: the same numbers on all ranks.  A measurement of no rows, or whose speed is no positive
        finite number, is passed over; nothing changes before there is one of every rank.

        Parameters
        ----------
        rows
            Rows that each rank computed since the last call.
        seconds
            Time it took to compute them, waiting not included [s].
        """
        self._speeds = [
            _averaged(old, int(count), float(time), self._smoothing)
            for old, count, time in zip(self._speeds, rows, seconds, strict=True)
        ]
        speeds = [speed for speed in self._speeds if speed is not None]
        if len(speeds) < self._ranks:
            return False
        fastest = max(speeds)
        weights = [max(1, round(speed / fastest * _FULL)) for speed in speeds]
        now, then = self.bounds(self._batch_size), self._cut(self._batch_size, weights)
        if _slowest(now, speeds) <= (1.0 + self._min_gain) * _slowest(then, speeds):
            return False
        self._weights = weights
        self._bounds = {self._batch_size: then}
        return True

    def _cut(self, batch: int, weights: list[int] | None) -> np.ndarray:
        if weights is None:
            bounds = batch * np.arange(self._ranks + 1, dtype=np.int64) // self._ranks
        else:
            bounds = np.cumsum([0, *apportion(batch, weights)], dtype=np.int64)
        bounds.flags.writeable = False
        return bounds

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must keep."""
        return {"speeds": list(self._speeds), "weights": self._weights}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`; with another number of ranks, begin anew."""
        if len(state["speeds"]) == self._ranks:
            self._speeds, self._weights = list(state["speeds"]), state["weights"]
            self._bounds = {}


class LocalSlices:
    """Which rows of every global batch this rank computes: nearly equal slices, or in proportion to throughput.

    Parameters
    ----------
    world
        Ranks of the job.
    make_balance
        Returns the load balance of a number of ranks; None: slices are equal.
    clock
        Counts the seconds of exchanges.
    servers
        Ranks, the first ones, that compute no rows.
    bulk_synchronous
        Whether no rank begins a step before all ranks have the samples of the one before, as reading together needs.
    local_mean
        Whether the gradient of a rank is that of the mean loss of its own slice; else those of all ranks sum to that of
        the mean loss of the batch.
    exchange_every
        Steps after which `observe` exchanges throughput; None: the strategy calls `exchange` itself.
    in_blocks
        Whether slices are of whole blocks of rows (`onotrain.nn.blocks`); without a balance.
    """

    def __init__(
        self,
        world: World,
        make_balance: Callable[[int], Balance] | None,
        clock: Clock,
        servers: int = 0,
        *,
        bulk_synchronous: bool = True,
        local_mean: bool = False,
        exchange_every: int | None = BALANCED_STEPS,
        in_blocks: bool = False,
    ) -> None:
        self._in_blocks = in_blocks
        self.bulk_synchronous = bulk_synchronous
        self._clock = clock
        self.world, self._servers, self._ranks = world, servers, world.size - servers
        self._local_mean, self._exchange_every = local_mean, exchange_every
        self._balance = None if make_balance is None else make_balance(self._ranks)
        #: Rows and seconds of this rank since the last exchange.
        self._throughput = np.zeros(2)
        #: Steps since then; 0 where slices do not follow throughput.
        self.steps = 0
        #: How often the slices have changed.
        self.repartitions = 0

    @property
    def workers(self) -> int:
        """Number of ranks that compute; the others are servers."""
        return self._ranks

    def local(self, batch: Batch) -> Batch:
        """Return this rank's slice; those of all ranks make up the batch."""
        samples, step = len(batch), block_rows(len(batch)) if self._in_blocks else 1
        part = self.share(-(-samples // step))
        return Batch(batch.begin + min(part.begin * step, samples), batch.begin + min(part.end * step, samples))

    def share(self, size: int) -> Batch:
        """Return this rank's share of something of this size, as large a part of it as its slice is of a batch."""
        rank = self.world.rank - self._servers
        if rank < 0:
            return Batch(0, 0)
        if self._balance is None:
            return Batch(0, size).slice(rank, self._ranks)
        return Batch(*self._balance.bounds(size)[rank : rank + 2].tolist())

    def capacity(self, samples: int) -> int:
        """Return the length of the largest slice that this rank may get of a batch of up to `samples`."""
        if self.world.rank < self._servers:
            return 0
        others = self._ranks - 1
        if self._balance is None:
            if not self._in_blocks:
                return -(-samples // self._ranks)
            # A batch that is a little shorter may have smaller blocks, and so more of them.
            sizes = (min(samples, step * BLOCKS) for step in range(1, block_rows(samples) + 1))
            return max(min(size, -(-blocks(size) // self._ranks) * block_rows(size)) for size in sizes)
        return max(samples - others, min(samples, others))  # the others have one each, if there are as many

    def averaged(self, samples: int) -> int:
        """Return over how many samples the mean loss is that this rank's gradient is of, for a batch of `samples`."""
        return max(1, len(self.local(Batch(0, samples)))) if self._local_mean else samples

    def observe(self, rows: int, seconds: float) -> None:
        """Take in that this rank has computed its `rows` of a batch in `seconds`, waiting not included.

        *Collective*: called by all ranks, between what they computed and the step.
        """
        if self._balance is None:
            return
        self._throughput += rows, seconds
        self.steps += 1
        if self.steps == self._exchange_every:
            start = self._clock.now()
            self.exchange()
            self._clock.communicated("throughput of the ranks", start)

    def exchange(self) -> None:
        """Exchange throughput, and change the slices if that pays.  *Collective*."""
        if self._balance is None:
            return
        everyone = np.empty((self.world.size, 2))
        self.world.comm.Allgather(self._throughput, everyone)
        rows, seconds = everyone[self._servers :].T
        self._throughput[:], self.steps = 0.0, 0
        self.repartitions += self._balance.observe(rows.astype(int).tolist(), seconds.tolist())

    def report(self) -> dict[str, Any]:
        """Return how many rows of a batch each rank gets by now, if that follows their throughput."""
        return {} if self._balance is None else {"rows": self._balance.rows}

    def notes(self) -> dict[str, Any]:
        """Return the ranks' throughput and the slices in force."""
        return {} if self._balance is None else {"balance": self._balance.state()}

    def restore(self, notes: Mapping[str, Any]) -> None:
        """Go on with those slices."""
        if self._balance is not None and "balance" in notes:
            self._balance.restore(notes["balance"])
            self.repartitions += 1


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """Cut `total` in proportion to positive integer `weights`, by largest remainder; earlier ones win ties.

    Where `total` is no less than their number nobody gets 0: the missing ones are taken from those who have most.
    """
    everything = sum(weights)
    parts, remainders = zip(*(divmod(total * weight, everything) for weight in weights), strict=True)
    rows = list(parts)
    order = sorted(range(len(rows)), key=lambda rank: -remainders[rank])
    for rank in order[: total - sum(rows)]:
        rows[rank] += 1
    if total >= len(rows):
        for rank in (rank for rank, count in enumerate(rows) if count == 0):
            # Of several with most, the one with the least weight: who is faster shall not have less.
            rows[max(range(len(rows)), key=lambda other: (rows[other], -weights[other]))] -= 1
            rows[rank] = 1
    return rows


def _averaged(old: float | None, rows: int, seconds: float, smoothing: float) -> float | None:
    speed = rows / seconds if seconds > 0.0 else math.inf
    if not math.isfinite(speed) or speed <= 0.0:
        return old
    return speed if old is None else smoothing * speed + (1.0 - smoothing) * old


def _slowest(bounds: np.ndarray, speeds: list[float]) -> float:
    """Return the time that the slowest rank takes [s]."""
    return max(rows / speed for rows, speed in zip(np.diff(bounds).tolist(), speeds, strict=True))

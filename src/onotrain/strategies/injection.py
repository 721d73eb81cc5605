"""Injected delays and latency: slow ranks, uneven steps and a slow network on a machine that has neither.

A delay is a function of seed, rank and step, so it is the same whatever the strategy, and a resumed run has those that
it would have had.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter, sleep

import numpy as np

from onotrain.config import Config
from onotrain.errors import UsageError
from onotrain.parallel.world import World
from onotrain.seeds import key


@dataclass(frozen=True)
class Delays:
    """What is to be slower, and by how much.

    A step of ``c`` seconds is to take ``c * factor * (1 + jitter * x)``, ``x`` exponentially distributed with mean 1:
    the shifted exponential that step times of workers are commonly modelled with (Dutta et al., arXiv 1803.01113).
    """

    #: Rank -> how many times as long its steps take, at least 1; 1 for all others.
    slow_ranks: Mapping[int, float] = field(default_factory=dict)
    #: Mean of the random part of a step's time, relative to the rest of it; 0 for none.
    jitter: float = 0.0
    #: Extra time of each message [ms].
    delay_ms: float = 0.0
    seed: int = 0

    def extra_seconds(self, rank: int, step: int, compute_seconds: float) -> float:
        """Return how much longer than its true `compute_seconds` step `step` of `rank` is to take [s], at least 0."""
        factor = self.slow_ranks.get(rank, 1.0)
        if self.jitter > 0.0:
            factor *= 1.0 - self.jitter * math.log1p(-uniform(self.seed, rank, step))
        return max(0.0, (factor - 1.0) * compute_seconds)

    @property
    def message_seconds(self) -> float:
        """How much longer than it does each message is to take [s]."""
        return self.delay_ms / 1000.0


class Injection:
    """Slows down this rank's computing and messages as the section ``simulate`` wants; without one, does nothing.

    Parameters
    ----------
    rank
        Of this process.
    delays
        What is slower, and by how much.
    now
        Time source of the strategy's telemetry [s].
    """

    def __init__(self, rank: int = 0, delays: Delays | None = None, now: Callable[[], float] = perf_counter) -> None:
        self._rank, self._delays, self._now = rank, Delays() if delays is None else delays, now
        self._message_seconds = self._delays.message_seconds
        #: Whether anything is to be slower.
        self.active = self._delays != Delays(seed=self._delays.seed)

    @classmethod
    def of(cls, config: Config, world: World, now: Callable[[], float] = perf_counter) -> Injection:
        """Return the injection of a configuration.

        Raises
        ------
        UsageError
            A rank is to be slow that the job does not have.
        """
        wanted = config.simulate
        if wanted is None:
            return cls(now=now)
        slow_ranks = {slow.rank: slow.factor for slow in wanted.slow_ranks}
        beyond = [rank for rank in slow_ranks if rank >= world.size]
        if beyond:
            raise UsageError(
                f"simulate.slow_ranks: there is no rank {beyond[0]}, the job has {world.size}",
                hint=f"expected ranks from 0 to {world.size - 1}, or start more",
            )
        return cls(world.rank, Delays(slow_ranks, wanted.jitter, wanted.delay_ms, config.training.seed), now)

    def inject_delay(self, step: int, seconds: float) -> float:
        """Sleep for as long as `seconds` of computing for step `step` are to take longer; return what they took [s]."""
        if not self.active:
            return seconds
        extra = self._delays.extra_seconds(self._rank, step, seconds)
        if extra > 0.0:
            sleep(extra)
        return seconds + extra

    def inject_latency(self, began: float) -> None:
        """Sleep until an exchange that began at that time of `now` has taken the longer time."""
        if not self.active:
            return
        left = began + self._message_seconds - self._now()
        if left > 0.0:
            sleep(left)


def uniform(seed: int, rank: int, step: int) -> float:
    """Return the number in [0, 1) of (seed, rank, step), with 53 random bits from Philox 4x64-10 at counter `step`."""
    # Raw bits, for NumPy promises that they stay the same in later versions, and of its distributions it does not.
    raw = np.random.Philox(key=key(seed, "jitter", rank), counter=step).random_raw()
    return (raw >> 11) * 2.0**-53

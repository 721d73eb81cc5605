"""Injected delays and latency: slow ranks, uneven steps and a slow network on a machine that has neither.

A delay is a function of seed, rank and step, so it is the same whatever the strategy, and a resumed run has those that
it would have had.

Each node has a link, which carries as much in each direction at the same time.  Its ranks have equal parts of the
bandwidth, whether all of them send or not, so that no rank needs to know what the others do::

    last byte of what is put at t    leaves at  max(t, when all before it has left) + bytes * ranks / bandwidth
    an exchange                      ends when all that was put has left, and one latency later

Not simulated: several latencies of an exchange of several rounds, headers of packets, switches between the links, and
what is no part of the telemetry's bytes (statistics of steps, synchronisation points, checkpoints).
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
    #: Of the link of a node, in each direction [Mbit/s]; None: unlimited.
    bandwidth_mbit: float | None = None
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

    @property
    def byte_seconds(self) -> float:
        """How long a node's link takes for each byte [s]; 0 if it is unlimited."""
        return 0.0 if self.bandwidth_mbit is None else 8e-6 / self.bandwidth_mbit


class NodeLink:
    """A rank's part of the link of its node, in one direction: what is put into it leaves in this order.

    Parameters
    ----------
    latency
        From when a byte has left until it has arrived [s].
    byte_seconds
        How long each byte of this rank takes [s].
    now
        Time source of the strategy's telemetry [s].
    """

    def __init__(self, latency: float, byte_seconds: float, now: Callable[[], float]) -> None:
        self._latency, self._byte_seconds, self._now = latency, byte_seconds, now
        self._free_at = -math.inf

        #: Whether bytes take time; and whether an exchange takes any longer than it does.
        self.limited = byte_seconds > 0.0
        self.slows = latency > 0.0 or self.limited

    def put(self, nbytes: int, at: float) -> float:
        """Put bytes in at that time; return when the last of them, and of all before them, has left."""
        self._free_at = max(self._free_at, at) + nbytes * self._byte_seconds
        return self._free_at

    def inject_latency(self) -> None:
        """Sleep until all that was put in has arrived."""
        if self.slows:
            self.sleep_until(self._free_at + self._latency)

    def sleep_until(self, end: float) -> None:
        """Sleep until that time, such as one that `put` has returned."""
        left = end - self._now()
        if left > 0.0:
            sleep(left)


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
        delays = Delays(slow_ranks, wanted.jitter, wanted.delay_ms, wanted.bandwidth_mbit, config.training.seed)
        return cls(world.rank, delays, now)

    def inject_delay(self, step: int, seconds: float) -> float:
        """Sleep for as long as `seconds` of computing for step `step` are to take longer; return what they took [s]."""
        if not self.active:
            return seconds
        extra = self._delays.extra_seconds(self._rank, step, seconds)
        if extra > 0.0:
            sleep(extra)
        return seconds + extra

    def link(self, ranks: int) -> NodeLink:
        """Return this rank's part of the link of its node, of as many `ranks` that send as much as it does."""
        return NodeLink(self._delays.message_seconds, self._delays.byte_seconds * ranks, self._now)


def uniform(seed: int, rank: int, step: int) -> float:
    """Return the number in [0, 1) of (seed, rank, step), with 53 random bits from Philox 4x64-10 at counter `step`."""
    # Raw bits, for NumPy promises that they stay the same in later versions, and of its distributions it does not.
    raw = np.random.Philox(key=key(seed, "jitter", rank), counter=step).random_raw()
    return (raw >> 11) * 2.0**-53

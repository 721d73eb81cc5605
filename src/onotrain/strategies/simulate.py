"""Slow ranks, uneven steps and a slow network, to order: how much longer things are to take, not the waiting itself.

Nothing here has a state: a delay is a function of seed, rank and step, so it is the same whatever the strategy, and a
resumed run has those that it would have had.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from onotrain.data.feed import key


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


def uniform(seed: int, rank: int, step: int) -> float:
    """Return the number in [0, 1) of (seed, rank, step), with 53 random bits from Philox 4x64-10 at counter `step`."""
    # Raw bits, for NumPy promises that they stay the same in later versions, and of its distributions it does not.
    raw = np.random.Philox(key=key(seed, "jitter", rank), counter=step).random_raw()
    return (raw >> 11) * 2.0**-53

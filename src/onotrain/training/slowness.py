"""Slow ranks and a slow network, where the configuration wants to have them simulated."""

from __future__ import annotations

from time import perf_counter, sleep

from onotrain.config import Config
from onotrain.errors import UsageError
from onotrain.parallel.world import World
from onotrain.strategies.simulate import Delays


class Slowness:
    """Lets this rank's computing and messages take longer; without a section ``simulate``, no longer than they do.

    Parameters
    ----------
    config
        Of the run.
    world
        Ranks of the job.

    Raises
    ------
    UsageError
        A rank is to be slow that the job does not have.
    """

    def __init__(self, config: Config, world: World) -> None:
        self._rank, self._delays = world.rank, Delays()
        wanted = config.simulate
        if wanted is None:
            return
        slow_ranks = {slow.rank: slow.factor for slow in wanted.slow_ranks}
        beyond = [rank for rank in slow_ranks if rank >= world.size]
        if beyond:
            raise UsageError(
                f"simulate.slow_ranks: there is no rank {beyond[0]}, the job has {world.size}",
                hint=f"expected ranks from 0 to {world.size - 1}, or start more",
            )
        self._delays = Delays(slow_ranks, wanted.jitter, wanted.delay_ms, config.training.seed)

    def compute(self, step: int, seconds: float) -> float:
        """Sleep for as long as `seconds` of computing for step `step` are to take longer; return what they took [s]."""
        extra = self._delays.extra_seconds(self._rank, step, seconds)
        if extra > 0.0:
            sleep(extra)
        return seconds + extra

    def travel(self, began: float) -> None:
        """Sleep until an exchange that began at that time (`time.perf_counter`) has taken the longer time."""
        left = began + self._delays.message_seconds - perf_counter()
        if left > 0.0:
            sleep(left)

"""Distribution strategies: one file each; this is their registry, the only place that knows their names."""

from __future__ import annotations

from collections.abc import Callable

from onotrain.strategies.allreduce import AllReduce
from onotrain.strategies.base import Job, Strategy, Tally
from onotrain.strategies.flat import Flat

__all__ = ["STRATEGIES", "Job", "Strategy", "Tally", "build"]

STRATEGIES: dict[str, Callable[[Job], Strategy]] = {"allreduce": AllReduce, "flat": Flat}


def build(job: Job) -> Strategy:
    """Return the strategy that the configuration names.  *Collective*."""
    return STRATEGIES[job.options.name](job)

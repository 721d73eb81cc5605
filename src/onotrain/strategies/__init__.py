"""Distribution strategies: one file each; this is their registry, the only place that knows their names."""

from __future__ import annotations

from collections.abc import Callable

from onotrain.strategies.activations import SharedActivations
from onotrain.strategies.allreduce import AllReduce
from onotrain.strategies.base import BatchShape, Job, Strategy, Tally
from onotrain.strategies.flat import Flat
from onotrain.strategies.local_sgd import LocalSgd

__all__ = [
    "STRATEGIES",
    "AllReduce",
    "BatchShape",
    "Flat",
    "Job",
    "LocalSgd",
    "SharedActivations",
    "Strategy",
    "Tally",
    "build",
]


def _allreduce(job: Job) -> Strategy:
    """Return the faster way to the same update."""
    shares_activations = job.options.share == "auto" and SharedActivations.possible(job)
    return SharedActivations(job) if shares_activations else AllReduce(job)


STRATEGIES: dict[str, Callable[[Job], Strategy]] = {"allreduce": _allreduce, "flat": Flat, "local_sgd": LocalSgd}


def build(job: Job) -> Strategy:
    """Return the strategy that the configuration names.  *Collective*."""
    return STRATEGIES[job.options.name](job)

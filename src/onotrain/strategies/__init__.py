"""Distribution strategies: one file each; this is their registry, the only place that knows their names."""

from __future__ import annotations

from collections.abc import Callable

from onotrain.strategies.activations import SharedActivations
from onotrain.strategies.allreduce import AllReduce
from onotrain.strategies.base import BatchShape, Job, Strategy, Tally
from onotrain.strategies.flat import Flat
from onotrain.strategies.local_sgd import LocalSgd
from onotrain.strategies.parameter_server import Worker
from onotrain.strategies.server import Server
from onotrain.strategies.strategy_switch import StrategySwitch

__all__ = [
    "STRATEGIES", "AllReduce", "BatchShape", "Flat", "Job", "LocalSgd", "Server", "SharedActivations", "Strategy",
    "StrategySwitch", "Tally", "Worker", "build",
]  # fmt: skip


def _allreduce(job: Job) -> Strategy:
    """Return the faster way to the same update."""
    shares_activations = job.options.share == "auto" and SharedActivations.possible(job)
    return SharedActivations(job) if shares_activations else AllReduce(job)


def _parameter_server(job: Job) -> Strategy:
    """Return this rank's side."""
    return Server(job) if job.world.rank < job.options.servers else Worker(job)


def _strategy_switch(job: Job) -> Strategy:
    """Return what runs either."""
    return StrategySwitch(job, _allreduce, _parameter_server)


STRATEGIES: dict[str, Callable[[Job], Strategy]] = {
    "allreduce": _allreduce,
    "flat": Flat,
    "local_sgd": LocalSgd,
    "parameter_server": _parameter_server,
    "strategy_switch": _strategy_switch,
}


def build(job: Job) -> Strategy:
    """Return the strategy that the configuration names.  *Collective*."""
    return STRATEGIES[job.options.name](job)

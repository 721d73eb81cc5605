"""Distribution strategies: one file each; this is their registry, the only place that knows their names."""

from __future__ import annotations

from collections.abc import Callable

from onotrain.config.strategy import PLUGINS
from onotrain.errors import UsageError
from onotrain.simulation.machine import Machine
from onotrain.strategies.allreduce.activations import SharedActivations
from onotrain.strategies.allreduce.gradients import AllReduce
from onotrain.strategies.base import BatchShape, Strategy
from onotrain.strategies.context import Context
from onotrain.strategies.flat_allreduce import Flat
from onotrain.strategies.local_sgd.local_sgd import LocalSgd
from onotrain.strategies.memory import Job, Memory
from onotrain.strategies.parameter_server.local_worker import LocalWorker
from onotrain.strategies.parameter_server.server import Server
from onotrain.strategies.parameter_server.worker import Worker
from onotrain.strategies.statistics import StepStatistics, StepSums
from onotrain.strategies.strategy_switch.strategy_switch import StrategySwitch
from onotrain.strategies.strategy_switch.timing import SwitchTiming
from onotrain.strategies.timing import Timing

__all__ = [
    "STRATEGIES", "AllReduce", "BatchShape", "Flat", "Context", "LocalSgd", "LocalWorker", "Server",
    "SharedActivations", "Strategy", "StrategySwitch", "StepStatistics", "StepSums", "Worker", "build", "memory",
    "timing",
]  # fmt: skip


def _refuse_codec_without_network(context: Context) -> None:
    """Refuse to code what is never sent.

    Raises
    ------
    UsageError
        The job runs on one node, whose ranks share memory for what other nodes are sent.
    """
    if context.codec is not None and context.world.nodes == 1:
        raise UsageError(
            f"communication.codec {context.codec.name} needs two nodes or more with strategy {context.options.name} "
            "(got 1): ranks of one node share memory, and send nothing",
            hint="leave the codec out, or start two ranks or more and see what it does with simulate.ranks_per_node",
        )


def _allreduce_class(context: Context) -> type[Strategy]:
    """Return the faster way to the same update."""
    shares_activations = context.options.share == "auto" and SharedActivations.possible(context)
    return SharedActivations if shares_activations else AllReduce


def _server_class(context: Context) -> type[Strategy]:
    """Return this rank's side."""
    worker = LocalWorker if context.options.local_steps else Worker
    return Server if context.world.rank < context.options.servers else worker


def _allreduce(context: Context) -> Strategy:
    _refuse_codec_without_network(context)
    return _allreduce_class(context)(context)  # type: ignore[call-arg]  # a strategy is made of its context


def _parameter_server(context: Context) -> Strategy:
    _refuse_codec_without_network(context)
    return _server_class(context)(context)  # type: ignore[call-arg]


def _strategy_switch(context: Context) -> Strategy:
    """Return what runs either."""
    return StrategySwitch(context, _allreduce, _parameter_server)


STRATEGIES: dict[str, Callable[[Context], Strategy]] = {
    "allreduce": _allreduce,
    "flat": Flat,
    "local_sgd": LocalSgd,
    "parameter_server": _parameter_server,
    "strategy_switch": _strategy_switch,
}


#: The class that a rank runs of each strategy that is one.
_CLASSES: dict[str, Callable[[Context], type[Strategy]]] = {
    "allreduce": _allreduce_class,
    "flat": lambda context: Flat,
    "local_sgd": lambda context: LocalSgd,
    "parameter_server": _server_class,
}


def build(context: Context) -> Strategy:
    """Return the strategy that the configuration names.  *Collective*.

    Raises
    ------
    UsageError
        There are too few ranks for it, or none to send the messages of a codec to.
    """
    options, size = context.options, context.world.size
    if size < options.fewest_ranks:
        raise UsageError(
            f"{options.shown} needs {options.fewest_ranks} ranks or more (got {size})",
            hint=f"start more, as with mpirun -n {options.fewest_ranks}, or use another strategy",
        )
    if context.codec is not None and size == 1:
        raise UsageError(
            f"communication.codec {context.codec.name} needs two ranks or more (got 1): one sends nothing",
            hint="leave the codec out, or start more ranks",
        )
    make = STRATEGIES.get(options.name) or PLUGINS.load(options.name)
    strategy = make(context)
    if context.outlives_ranks and not strategy.outlives_ranks:
        raise UsageError(
            f"fault_tolerance: shrink: ranks of strategy {options.shown} cannot go on without one of them",
            hint="leave the option out and use onotrain launch, which goes on from the last checkpoint, or take "
            "strategy allreduce, flat, local_sgd or parameter_server",
        )
    return strategy


def _class_of(job: Job) -> type[Strategy]:
    """Return what a rank of a job runs, of strategies that are one."""
    name = job.context.options.name
    choose = _CLASSES.get(name)
    chosen: type[Strategy] = choose(job.context) if choose else PLUGINS.load(name)
    return chosen


def memory(job: Job) -> Memory:
    """Return what a rank of a job uses; of a strategy that switches, in its larger phase."""
    options = job.context.options
    if options.name == "strategy_switch":
        phases = [memory(job.with_options(each)) for each in (options.synchronous, options.server)]
        return max(phases, key=lambda each: sum(each.shared.values()) + sum(each.own.values()))
    found = _class_of(job).memory(job)
    if job.world.rank > 0:
        return found
    return found._replace(own={**found.own, "checkpoint": job.vector + job.state + found.saved})


def timing(job: Job, machine: Machine, samples: int) -> Timing | SwitchTiming:
    """Return how long epochs of so many samples take on a machine.

    Raises
    ------
    UsageError
        There are too few ranks, the strategy cannot say it, or when it switches is not known.
    """
    options = job.context.options
    if machine.ranks < options.fewest_ranks:
        raise UsageError(f"{options.shown} needs {options.fewest_ranks} ranks or more (got {machine.ranks})")
    if options.name == "strategy_switch":
        if options.at_epoch is None:
            raise UsageError(
                "strategy_switch cannot be simulated by its rule: when the loss is stable is not known",
                hint="give strategy.at_epoch, or --losses of trainings in which it has switched",
            )
        first, second = (
            _timing(job.with_options(each), machine, samples) for each in (options.synchronous, options.server)
        )
        return SwitchTiming((first, second), options.at_epoch)
    return _timing(job, machine, samples)


def _timing(job: Job, machine: Machine, samples: int) -> Timing:
    """Return that of a strategy that is one."""
    chosen = _class_of(job).timing
    if chosen is None:
        raise UsageError(f"strategy {job.context.options.name} does not say how long its steps would take")
    return chosen(job, machine, samples)

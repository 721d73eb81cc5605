"""What a training would take on a cluster, by each method, and which one to take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from onotrain.config import Config
from onotrain.config.cluster import Cluster
from onotrain.config.method import method_of
from onotrain.errors import ConfigError, OnotrainError
from onotrain.planning.course import machine_of
from onotrain.planning.probe import coding_of
from onotrain.planning.workload import Workload
from onotrain.simulation.costs import Costs
from onotrain.strategies import memory, timing
from onotrain.strategies.memory import evaluation_bytes, on_node
from onotrain.training.noise_scale import scale_of

#: Methods that are compared with the one of the configuration: changes of it, and whether they compute what a single
#: rank computes, up to the order of sums.
_METHODS: Sequence[tuple[Mapping[str, Any], bool]] = (
    ({"strategy": {"name": "allreduce"}}, True),
    ({"strategy": {"name": "flat"}}, True),
    ({"strategy": {"name": "parameter_server"}}, True),
    ({"strategy": {"name": "parameter_server", "staleness": "unbounded"}}, False),
    ({"strategy": {"name": "local_sgd", "period": 8}}, False),
    ({"strategy": {"name": "allreduce"}, "communication": {"codec": {"name": "bf16"}}}, False),
    ({"strategy": {"name": "allreduce"}, "communication": {"codec": {"name": "int8"}}}, False),
    ({"strategy": {"name": "allreduce"}, "communication": {"codec": {"name": "powersgd", "rank": 4}}}, False),
)
#: Share of the time that messages may take before they are what matters.
_LITTLE = 0.2
#: Other methods are worth a word that are so many times as fast.
_WORTH = 1.5
#: Twice the ranks must give so much more, or more of them do not help.
_HELPS = 1.1
#: How many times as many ranks are looked at as there are to be.
_BEYOND = 8
#: Strategies that do so whatever their options are.
_EXACT = ("allreduce", "flat")
#: What simulates other machines than the one that is asked about, and what is recorded: not by every method.
_NO_OTHER: Mapping[str, Any] = {"simulate": None, "metrics": {}}


@dataclass(frozen=True)
class Prediction:
    """What a training takes by one method.

    Attributes
    ----------
    config
        With that method.
    exact
        Whether it computes what a single rank does, up to the order of sums.
    configured
        Whether it is that of the configuration.
    step_seconds, epoch_seconds
        Of a step in the mean, and of an epoch [s].
    efficiency
        Time of one rank / (ranks x this time).
    exchange
        Share of the time of the slowest worker in which it neither computes nor waits for ranks of its node.
    node_bytes
        That the busiest node sends in a step.
    memory_bytes
        Of the first node, which has the servers.
    """

    config: Config
    exact: bool
    configured: bool
    step_seconds: float
    epoch_seconds: float
    efficiency: float
    exchange: float
    node_bytes: float
    memory_bytes: int

    @property
    def method(self) -> str:
        """The method in words."""
        return method_of(self.config)

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers."""
        numbers = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "config"}
        return {"method": self.method, **numbers}


def predictions(workload: Workload, cluster: Cluster, ranks: int, costs: Costs) -> Iterator[Prediction | str]:
    """Yield what each method takes, that of the configuration first; or why one cannot be predicted."""
    seen = set[str]()
    own = workload.config
    plain = own.strategy.name in _EXACT and own.communication.codec.name == "none"
    as_it_is: tuple[Mapping[str, Any], bool] = ({}, plain)
    for number, (changes, exact) in enumerate([as_it_is, *_METHODS]):
        try:
            config = with_changes(own, {**_NO_OTHER, **changes})
        except ConfigError as error:
            yield error.message
            continue
        name = method_of(config)
        if name in seen:
            continue
        seen.add(name)
        try:
            yield predicted(workload.with_config(config), cluster, ranks, costs, exact=exact, configured=not number)
        except OnotrainError as error:
            yield f"{name}: {error.message}"


def with_changes(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return a configuration with other sections; where only the strategy changes, its messages are sent as they are.

    Raises
    ------
    ConfigError
        They do not go together.
    """
    mapping = config.to_mapping()
    plain = {"communication": {"codec": {"name": "none"}}} if "strategy" in changes else {}
    return Config.from_mapping({**mapping, **plain, **changes})


def predicted(
    workload: Workload, cluster: Cluster, ranks: int, costs: Costs, *, exact: bool, configured: bool = False
) -> Prediction:
    """Return what a training takes by the method of its configuration.

    Raises
    ------
    UsageError
        It cannot be simulated.
    """
    encode, decode = coding_of(workload)
    machine = machine_of(workload, cluster, ranks, replace(costs, encode=encode, decode=decode))
    job = workload.job_on(machine)
    course = timing(job, machine, workload.samples)
    epoch = course.epoch(workload.config.training.epochs - 1)
    steps = -(-workload.samples // workload.batch)
    alone = one_rank(workload, costs)
    of_node = [float(epoch.sent[machine.node_of == node].sum()) for node in {0, machine.nodes - 1}]
    return Prediction(
        workload.config, exact, configured, epoch.seconds / steps, epoch.seconds,
        alone / (ranks * epoch.seconds), max(0.0, float(epoch.communication[epoch.servers :].min())) / epoch.seconds,
        max(of_node) / steps, _memory(workload, machine.nodes, machine.ranks_per_node),
    )  # fmt: skip


def one_rank(workload: Workload, costs: Costs) -> float:
    """Return how long an epoch takes one rank alone [s]."""
    steps = -(-workload.samples // workload.batch)
    return steps * float(costs.of_rows(np.array([workload.batch]))[0] + costs.update)


def _memory(workload: Workload, nodes: int, ranks_per_node: int) -> int:
    """Return the memory of the first node, which has the servers [bytes]."""
    found = [memory(job) for job in workload.jobs(nodes, ranks_per_node)]
    checked = ranks_per_node * evaluation_bytes(workload.model.plan) if workload.config.data.has_validation else 0
    return sum(on_node(found).values()) + checked + workload.nbytes


def recommended(found: Sequence[Prediction]) -> tuple[Prediction, str]:
    """Return the method to take, and why, as the rest of a sentence."""
    exact = [each for each in found if each.exact] or list(found)
    best = min(exact, key=lambda each: each.epoch_seconds)
    share = f"{best.exchange:.0%} of a step is exchange between nodes"
    if best.exchange < _LITTLE:
        return best, f"computing takes most of the time, {share}"
    return best, f"of all that compute what one rank does it is the fastest; {share}"


def faster(found: Sequence[Prediction], best: Prediction) -> list[tuple[Prediction, float]]:
    """Return methods with another result that take at most two thirds of the time, and how many times as fast."""
    others = ((each, best.epoch_seconds / each.epoch_seconds) for each in found if not each.exact)
    return sorted(((each, times) for each, times in others if times >= _WORTH), key=lambda pair: -pair[1])


def enough(workload: Workload, cluster: Cluster, ranks: int, costs: Costs) -> tuple[int, float, bool]:
    """Return from which number of ranks on twice as many give less than a tenth more.

    Powers of two are looked at, beyond `ranks` too; at most one rank for each sample of a batch.

    Parameters
    ----------
    workload
        With the method to take.
    cluster, ranks, costs
        As of `predictions`.

    Returns
    -------
    number : int
        Of ranks.
    seconds : float
        An epoch on as many [s].
    known : bool
        Whether more ranks were looked at.
    """
    serving, last = workload.config.strategy.serving_ranks, workload.config.training.epochs - 1
    number, most = workload.config.strategy.fewest_ranks, min(_BEYOND * ranks, workload.batch + serving)
    before: tuple[int, float] | None = None
    while number <= most or before is None:
        machine = machine_of(workload, cluster, number, costs)
        seconds = timing(workload.job_on(machine), machine, workload.samples).epoch(last).seconds
        if before is not None and before[1] < _HELPS * seconds:
            return *before, True
        before, number = (number, seconds), 2 * number
    return *before, False


def noise_scale(records: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the gradient noise scale of a run, of all that it has measured [samples]; None: it is not known."""
    measured = [record for record in records if record.get("noise_batches")]
    variance, square = (
        sum(float(record[key]) * record["noise_batches"] for record in measured)
        for key in ("noise_variance", "noise_square")
    )
    return scale_of(variance, square)

"""A simulated run: the epochs that a strategy makes of a machine, with failures between them, as records of a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from onotrain.config import Config
from onotrain.config.cluster import Cluster
from onotrain.config.method import method_of
from onotrain.errors import UsageError
from onotrain.planning.workload import Workload
from onotrain.seeds import generator
from onotrain.simulation.costs import Costs
from onotrain.simulation.epoch import Epoch
from onotrain.simulation.machine import Machine
from onotrain.strategies import timing

#: A training that fails so often will not end.
_MOST_FAILURES = 100_000


@dataclass(frozen=True)
class Course:
    """A simulated run.

    Attributes
    ----------
    records
        As those of ``metrics.jsonl``, without losses; lists by rank are arrays.
    summary
        As ``summary.json``.
    """

    records: list[dict[str, Any]]
    summary: dict[str, Any]


def machine_of(workload: Workload, cluster: Cluster, ranks: int, costs: Costs) -> Machine:
    """Return the machine of a run.

    Raises
    ------
    UsageError
        A rank is to be slow that the job does not have, or nodes are in groups of which no bandwidth is given.
    """
    beyond = [slow.rank for slow in cluster.slow_ranks if slow.rank >= ranks]
    if beyond:
        raise UsageError(f"slow_ranks: there is no rank {beyond[0]}, the job has {ranks}")
    machine = Machine(cluster, ranks, costs, workload.config.training.seed)
    most = None if cluster.groups is None else cluster.groups.most_nodes()
    if most is not None and machine.nodes > most:
        raise UsageError(
            f"cluster.groups: bandwidth_mbit has rows for {most} nodes (got {machine.nodes})",
            hint="give a row for each group, or one number for any two of them",
        )
    return machine


def simulate(workload: Workload, machine: Machine, after_epoch: Callable[[], None] = lambda: None) -> Course:
    """Return the run.

    Raises
    ------
    UsageError
        See `onotrain.strategies.timing`; or failures let it make no progress.
    """
    config, shown = workload.config, shown_method(workload.config, machine.cluster)
    course = timing(workload.job_on(machine), machine, workload.samples)
    epochs = []
    for number in range(config.training.epochs):
        epochs.append(course.epoch(number))
        after_epoch()
    steps = -(-workload.samples // workload.batch)
    ends, restarts = _with_failures([each.seconds for each in epochs], config, machine, steps)
    records, before, failed = list[dict[str, Any]](), 0.0, 0
    for number, (epoch, end, sofar) in enumerate(zip(epochs, ends, restarts, strict=True)):
        seconds = end - before - (sofar - failed) * machine.cluster.restart_seconds
        lost = max(0.0, seconds - epoch.seconds)
        records.append(
            {
                "epoch": number + 1, "steps": (number + 1) * steps, "train_seconds": seconds, "wall_seconds": end,
                "samples_per_second": workload.samples / seconds, "ranks": machine.ranks, "nodes": machine.nodes,
                "strategy": config.strategy.name, "method": shown, "workers": machine.ranks - epoch.servers,
                "servers": epoch.servers, "ranks_seconds": _seconds(epoch, lost),
                "ranks_bytes": {"raw": epoch.raw, "sent": epoch.sent},
                **({"failures": sofar - failed} if sofar > failed else {}), **epoch.facts,
            }
        )  # fmt: skip
        before, failed = end, sofar
    return Course(records, _summary(workload, records, shown))


def shown_method(config: Config, cluster: Cluster) -> str:
    """Return the method in words, which say that nothing of it has taken place."""
    words = method_of(config).partition("; SIMULATED")[0]
    given = cluster.model_dump(mode="json", exclude_defaults=True, exclude={"computing"})
    listed = ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in given.items()
    )
    return f"{words}; SIMULATED: the whole run{f', {listed}' if listed else ''}"


def _seconds(epoch: Epoch, lost: float) -> dict[str, np.ndarray]:
    """Return where the time of the ranks went; what was lost by failures counts as waiting."""
    kinds = {"compute": epoch.compute, "wait": epoch.wait + lost, "communication": epoch.communication}
    return {name: np.maximum(values, 0.0) for name, values in kinds.items()}


def _with_failures(seconds: list[float], config: Config, machine: Machine, steps: int) -> tuple[list[float], list[int]]:
    """Return when each epoch ends for good [s], and how many failures there were until then.

    After a failure the run goes on from its last checkpoint, which may be some epochs before.
    """
    cluster = machine.cluster
    if cluster.mtbf_hours is None:
        return np.cumsum(seconds).tolist(), [0] * len(seconds)
    draw = generator(config.training.seed, "simulation/failures")
    mean = cluster.mtbf_hours * 3600.0 / machine.nodes
    ends, failures = [0.0] * len(seconds), [0] * len(seconds)
    now, place, failed, saved = 0.0, 0.0, 0, 0.0
    next_failure = draw.exponential(mean)
    while place < len(seconds):
        number = int(place)
        spacing = _epochs_between_checkpoints(config, steps, seconds[number])
        left = (number + 1 - place) * seconds[number]
        if now + left <= next_failure:
            now, place = now + left, float(number + 1)
            ends[number], failures[number] = now, failed
            saved = math.floor(place / spacing + 1e-9) * spacing
            continue
        place += (next_failure - now) / seconds[number]
        saved = max(saved, math.floor(place / spacing) * spacing)
        now, place, failed = next_failure + cluster.restart_seconds, saved, failed + 1
        next_failure = now + draw.exponential(mean)
        if failed > _MOST_FAILURES:
            raise UsageError(
                f"the training fails every {mean:.0f} s and does not come to its end",
                hint="save more often (checkpoint.every_seconds), or give a longer mtbf_hours",
            )
    return ends, failures


def _epochs_between_checkpoints(config: Config, steps: int, seconds: float) -> float:
    """Return after how many epochs a checkpoint is made, the shortest of all intervals."""
    checkpoint = config.checkpoint
    found = [
        math.inf if checkpoint.every_epochs is None else float(checkpoint.every_epochs),
        math.inf if checkpoint.every_steps is None else checkpoint.every_steps / steps,
        math.inf if checkpoint.every_seconds is None else checkpoint.every_seconds / seconds,
    ]
    return min(min(found), float(config.training.epochs))


def _summary(workload: Workload, records: list[dict[str, Any]], shown: str) -> dict[str, Any]:
    last, seconds = records[-1], sum(record["train_seconds"] for record in records)
    return {
        "train_seconds": seconds, "wall_seconds": last["wall_seconds"], "evaluation_seconds": 0.0, "method": shown,
        "samples_per_second": workload.samples * len(records) / seconds, "epochs": len(records),
        "steps": last["steps"], "finished": True, "stopped_early": False,
        **{key: last[key] for key in ("ranks", "nodes", "strategy", "workers", "servers")},
        "parameters": workload.model.layout.parameter_count,
        "failures": sum(record.get("failures", 0) for record in records),
    }  # fmt: skip

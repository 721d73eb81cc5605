"""The trainings of a study, simulated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from onotrain.bench.measure import Say
from onotrain.config import Config
from onotrain.config.cluster import Cluster
from onotrain.config.study import Cell
from onotrain.errors import OnotrainError, UsageError
from onotrain.parallel.world import World
from onotrain.planning.course import Course, machine_of, simulate
from onotrain.planning.probe import costs_of
from onotrain.planning.workload import Workload, given_costs
from onotrain.runs.run_directory import RunDirectory
from onotrain.simulation.costs import Costs
from onotrain.supervisor.study import RUNS_NAME, outcomes_of

#: Sections of a configuration that say what a rank computes.
_COMPUTED = ("data", "model", "loss", "optimizer", "communication")


class Simulated(NamedTuple):
    """A training of a study, and what came of it."""

    cell: Cell
    #: None if it cannot be simulated.
    course: Course | None
    error: str = ""


class Probes:
    """Workloads and costs of a study's trainings: each is read and measured once.

    Parameters
    ----------
    world
        Of this process.
    cells
        All trainings, for the numbers of rows that there will be.
    say
        Learns what is being measured.
    """

    def __init__(self, world: World, cells: Sequence[Cell], say: Say = lambda what: None) -> None:
        self._world, self._cells, self._say = world, cells, say
        self._workloads: dict[str, Workload] = {}
        self._costs: dict[str, Costs] = {}

    def workload(self, config: Config) -> Workload:
        """Return what a configuration gives a cluster to do. Errors as of `Workload.of`."""
        key = _key(config, but="communication")
        if key not in self._workloads:
            self._workloads[key] = Workload.of(config, self._world)
        return self._workloads[key].with_config(config)

    def costs(self, workload: Workload, cluster: Cluster) -> Costs:
        """Return what a rank needs: as the study says, or as this machine does."""
        if cluster.computing is not None:
            return given_costs(cluster.computing)
        key = _key(workload.config)
        if key not in self._costs:
            alike = [cell for cell in self._cells if _key(cell.config) == key]
            rows = [max(1, self._batch(cell, workload) // workers(cell)) for cell in alike]
            self._costs[key] = costs_of(workload, rows, self._world, self._say)
        return self._costs[key]

    @staticmethod
    def _batch(cell: Cell, workload: Workload) -> int:
        return min(cell.config.training.batch_size, workload.samples)


def workers(cell: Cell) -> int:
    """Return the ranks of a training that compute gradients."""
    return max(1, cell.ranks - cell.config.strategy.serving_ranks)


def _key(config: Config, but: str = "") -> str:
    """Return what configurations have in common whose ranks compute the same."""
    mapping = config.to_mapping()
    training = {key: mapping["training"][key] for key in ("dtype", "precision", "clip_norm")}
    return repr([training, *(mapping[name] for name in _COMPUTED if name != but)])


#: Records of real trainings, by label and seed.
Known = Mapping[tuple[str, int], Sequence[Mapping[str, Any]]]


def simulated(
    cells: Sequence[Cell], probes: Probes, known: Known | None = None, after_epoch: Callable[[], None] = lambda: None
) -> Iterator[Simulated]:
    """Yield what comes of each training.

    Parameters
    ----------
    cells
        With a cluster.
    probes
        Of all of them.
    known
        Where losses and metrics of each epoch are taken from, and when strategies switch.
    after_epoch
        Called after each simulated epoch.

    Raises
    ------
    UsageError
        There is no cluster.
    """
    for cell in cells:
        if cell.cluster is None:
            raise UsageError("the study has no section cluster", hint="give one, as in docs/simulation.md")
        cluster = cell.cluster.with_simulated(cell.config.simulate)
        records = (known or {}).get((cell.label, cell.seed), ())
        try:
            workload = probes.workload(decided(cell.config, records))
            machine = machine_of(workload, cluster, cell.ranks, probes.costs(workload, cluster))
            course = simulate(workload, machine, after_epoch)
            yield Simulated(cell, with_losses(course, records) if records else course)
        except OnotrainError as error:
            yield Simulated(cell, None, error.message)


def decided(config: Config, records: Sequence[Mapping[str, Any]]) -> Config:
    """Return the configuration of a strategy that switches as it did in a real training."""
    phases = [record.get("phase") for record in records]
    first = next((number for number, phase in enumerate(phases) if phase != phases[0]), None)
    if first is None or getattr(config.strategy, "at_epoch", None) is not None:
        return config
    mapping = config.to_mapping()
    return Config.from_mapping({**mapping, "strategy": {**mapping["strategy"], "at_epoch": first}})


def with_losses(course: Course, records: Sequence[Mapping[str, Any]]) -> Course:
    """Return a simulated run with the losses and metrics of a real one, epoch by epoch, as far as both go."""
    kinds = ("train_", "validation_", "learning_rate")
    given = [
        {key: value for key, value in record.items() if key.startswith(kinds) and key != "train_seconds"}
        for record in records
    ]
    merged = [{**mine, **theirs} for mine, theirs in zip(course.records, given, strict=False)]
    return Course(merged, {**course.summary, **(given[len(merged) - 1] if merged else {}), "epochs": len(merged)})


def losses_of(output: Path) -> dict[tuple[str, int], Sequence[Mapping[str, Any]]]:
    """Return the records of the finished trainings of a study by label and seed, those of the fewest ranks.

    Raises
    ------
    UsageError
        It is no directory of a study.
    """
    found: dict[tuple[str, int], tuple[int, Sequence[Mapping[str, Any]]]] = {}
    for outcome in outcomes_of(output):
        key = outcome.label, outcome.seed
        if outcome.state in ("kept", "done") and (key not in found or outcome.count < found[key][0]):
            found[key] = outcome.count, RunDirectory.open(output / RUNS_NAME / outcome.name).records()
    return {key: records for key, (_, records) in found.items()}

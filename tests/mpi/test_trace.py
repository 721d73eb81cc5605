"""``metrics.profile``: a trace of all ranks, which changes nothing."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from builders import mapping, relu
from every_strategy import AS_IT_COMES, STRATEGIES
from onotrain._kernels import path as build
from onotrain.parallel.clocks import EXCHANGES, Clocks, measure
from onotrain.parallel.world import World
from onotrain.runs.run_directory import RunDirectory
from onotrain.training import train
from onotrain.training.observers import Observer
from onotrain.training.observers import Trace as Written
from traces import Trace, read

pytestmark = pytest.mark.mpi

#: Three ranks say nothing that two and four do not.
RANKS = (1, 2, 4)
#: 1,438 samples: 23 steps an epoch.  These are some of the first epoch and of the second one.
STEPS = range(11, 31)
#: Those whose ranks wait for each other as little as they can, so that updates come in another order each time.
RACES = (*AS_IT_COMES, "stale")


class Watching(Observer):
    """Keeps what it learns of traces."""

    def __init__(self) -> None:
        self.traces: list[Written] = []
        self.notes: list[str] = []

    def traced(self, trace: Written) -> None:
        self.traces.append(trace)

    def noted(self, message: str) -> None:
        self.notes.append(message)


def config(profile: str | None, strategy: Any = "allreduce", **sections: Any) -> dict[str, Any]:
    training = {"epochs": 2, "batch_size": 64, **sections.pop("training", {})}
    data = {"train": "digits", "validation": 0.2}
    metrics = {"profile": profile}
    return mapping(relu(8), 10, data=data, strategy=strategy, metrics=metrics, training=training, **sections)


def check_ranks(trace: Trace, ranks: int) -> None:
    """Look whether all ranks have all steps, each with what it does in them."""
    assert sorted(trace.processes) == list(range(ranks))
    for rank in range(ranks):
        assert [each.name for each in trace.of("step", rank)] == [f"step {number}" for number in STEPS]
        assert [each.name for each in trace.of("span", rank) if each.name.startswith("epoch")] == ["epoch 1", "epoch 2"]
        assert [each.name for each in trace.of("span", rank) if each.name == "validation"] == ["validation"]
        assert trace.of("kernel", rank)
        inside = sum(trace.seconds(kind, rank) for kind in ("wait", "communication"))
        assert inside <= trace.seconds("step", rank)
    assert trace.facts["missed_events"] == [0] * ranks


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_has_the_same_bits_and_a_trace(world: World, place: Path, name: str) -> None:
    """Of 4 ranks two are a node."""
    strategy = STRATEGIES[name]
    if world.size <= strategy.get("servers", 0) or (world.size == 1 and strategy["name"] not in ("allreduce", "flat")):
        pytest.skip(f"Test requires {max(2, strategy.get('servers', 0) + 1)} MPI processes")
    nodes = {"simulate": {"ranks_per_node": 2}} if world.size == 4 else {}
    digests, watching = set(), Watching()
    for profile in (None, f"{STEPS[0]}-{STEPS[-1]}"):
        made = config(profile, strategy, **nodes)
        result = train(made, world.comm, output=place / str(profile), observers=[watching])
        digests.add(result.summary["parameters_sha256"])
    assert len(digests) == 1 or name in RACES
    if world.rank == 0:
        (written,) = watching.traces
        trace = read(Path(written.path))
        check_ranks(trace, world.size)
        assert (written.first, written.last, written.missed) == (STEPS[0], STEPS[-1], 0)
        for rank, time in enumerate(written.ranks):
            assert time.steps == pytest.approx(trace.seconds("step", rank), rel=1e-6)
            assert time.wait == pytest.approx(trace.seconds("wait", rank), rel=1e-6, abs=1e-9)
        if strategy["name"] == "parameter_server":
            check_arrows(trace, strategy.get("servers", 1), world.size)
        assert bool(trace.flights) == (name in ("allreduce", "switch") and world.size == 4)
        kernels = {each.name for each in trace.of("kernel")}
        assert any("dense_forward" in each for each in kernels)
        assert build() == "reference" or "dense_0 dense_backward" in kernels
    world.barrier()


def check_arrows(trace: Trace, servers: int, ranks: int) -> None:
    """Look whether pushes lead from workers to servers, and replies back."""
    found = {(name, sender, receiver) for name, sender, _, receiver, _ in trace.arrows}
    pairs = [(server, worker) for server in range(servers) for worker in range(servers, ranks)]
    expected = {("push", worker, server) for server, worker in pairs}
    assert found == expected | {("reply", server, worker) for server, worker in pairs}
    assert {each.thread for each in trace.of("sent")} == {"messages"}


def test_checkpoints_of_a_trace_are_those_of_its_steps(world: World, place: Path) -> None:
    """The pause of the ranks; whether the file is begun before the last step is over, is as it comes."""
    made = config("11-15", training={"epochs": 1}) | {"checkpoint": {"every_steps": 4}}
    train(made, world.comm, output=place / "run")
    if world.rank == 0:
        trace = read(place / "run" / "trace.json.gz")
        (pause,) = [each for each in trace.of("span", 0) if each.name == "checkpoint"]
        assert pause.within == ("epoch 1",)
        assert {each.rank for each in trace.of("file")} <= {0}
    world.barrier()


def test_times_of_a_trace_are_those_of_the_records(world: World, place: Path) -> None:
    """All steps of an epoch; the record's time has besides them what is done once for several steps."""
    made = config("1-46", "flat")
    train(made, world.comm, output=place / "run")
    if world.rank == 0:
        trace, records = read(place / "run" / "trace.json.gz"), RunDirectory.open(place / "run").records()
        for rank in range(world.size):
            exchange = sum(record["ranks_seconds"]["communication"][rank] for record in records)
            assert trace.seconds("communication", rank) == pytest.approx(exchange, rel=1e-4)
        assert trace.seconds("step", 0) <= sum(record["train_seconds"] for record in records)
    world.barrier()


def test_steps_that_there_are_not(world: World, place: Path) -> None:
    """A run that ends before them, or within them, or is resumed behind them."""
    watching = Watching()
    train(config("100-120"), world.comm, output=place / "run", observers=[watching])
    assert not (place / "run" / "trace.json.gz").exists()
    train(config("40-60", training={"max_steps": 42}), world.comm, output=place / "within", observers=[watching])
    before = (place / "within" / "trace.json.gz").read_bytes()
    train(config("40-42"), world.comm, output=place / "within", observers=[watching], resume=True)
    assert (place / "within" / "trace.json.gz").read_bytes() == before
    if world.rank == 0:
        assert [(each.first, each.last) for each in watching.traces] == [(40, 42)]
        notes = [each for each in watching.notes if "trace" in each]
        assert notes == [
            "there is no trace: the run ended after step 46, before step 100",
            "there is no trace: step 42 of metrics.profile has been made already",
        ]
    world.barrier()


def test_a_trace_that_cannot_be_written_ends_no_run(world: World, place: Path) -> None:
    """A directory has its name."""
    watching = Watching()
    train(config(None), world.comm, output=place / "run", observers=[watching])
    if world.rank == 0:
        (place / "run" / "trace.json.gz").mkdir()
    made = config("47-50", training={"epochs": 3})
    result = train(made, world.comm, output=place / "run", resume=True, observers=[watching])
    assert result.summary["epochs"] == 3
    if world.rank == 0:
        assert not watching.traces
        assert any(note.startswith("there is no trace: ") and "trace.json.gz" in note for note in watching.notes)
    world.barrier()


@pytest.mark.mpi(min_size=2)
def test_clocks_of_other_nodes_are_measured(world: World) -> None:
    """Each rank is a node whose clock is ahead and runs faster than that of rank 0."""

    def now() -> float:
        return perf_counter() * (1 + 1e-5 * world.rank) + 1000.0 * world.rank

    with World.connect(world.comm, 1) as nodes:
        before = measure(nodes, now)
        after = measure(nodes, now)
        clocks = Clocks(before, after)
        for offset in clocks:
            true = (offset.at - 1000.0 * world.rank) / (1 + 1e-5 * world.rank)
            assert abs((offset.at - offset.ahead) - true) <= offset.uncertainty + 1e-9
        assert (clocks.uncertainty > 0) == (world.rank > 0) and EXCHANGES > 1
    together = measure(world, perf_counter)
    assert world.nodes > 1 or (together.ahead, together.uncertainty) == (0.0, 0.0)

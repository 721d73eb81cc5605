"""Strategies on any number of ranks against one process that sums all ranks' gradients itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from builders import filled, two_nodes
from onotrain import _kernels
from onotrain.config import Config
from onotrain.config.strategy import AllReduce, Flat
from onotrain.errors import ResourceError
from onotrain.nn import ParameterLayout
from onotrain.optim import Optimizer, Shard
from onotrain.parallel.agreement import agreed
from onotrain.parallel.world import World
from onotrain.strategies import Context, StepStatistics, build
from onotrain.strategies.allreduce import arena, gradients

pytestmark = pytest.mark.mpi

SHAPES = [("dense_0/weight", (37, 11)), ("dense_0/bias", (37,)), ("dense_1/weight", (5, 37)), ("dense_1/bias", (5,))]
STEPS = 6
#: Those whose ranks make every step together.
LOCKSTEP = ("allreduce", "flat")
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"name": "sgd", "learning_rate": 0.1},
    "momentum": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    "adam": {"name": "adam", "learning_rate": 0.01, "weight_decay": 0.01},
    "adamw": {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.1},
    "rmsprop": {"name": "rmsprop", "learning_rate": 0.01, "momentum": 0.5},
    "adagrad": {"name": "adagrad", "learning_rate": 0.1},
    "lamb": {"name": "lamb", "learning_rate": 0.01, "weight_decay": 0.01},
}


@pytest.fixture(scope="module", params=["one node", "two uneven nodes"])
def world(request: pytest.FixtureRequest) -> World:
    """Return the job as it is, or as if its last third of ranks were another node."""
    world = World.connect()
    return world if request.param == "one node" else two_nodes(world.comm)


def section(optimizer: str) -> Any:
    """Return the optimiser's section of a configuration."""
    return Config.from_mapping(
        {
            "data": {"train": "digits"},
            "model": {"layers": [{"dense": 10}]},
            "loss": "cross_entropy",
            "optimizer": OPTIMIZERS[optimizer],
            "training": {"epochs": 1, "batch_size": 1},
        }
    ).optimizer


def options(strategy: str, **changes: Any) -> Any:
    """Return the strategy's section of a configuration."""
    of_allreduce = {"bucket_mib": 0.0, "share": "gradients"} | changes
    return AllReduce(**of_allreduce) if strategy == "allreduce" else Flat(name="flat")


def start(layout: ParameterLayout) -> np.ndarray:
    """Return the parameters before the first step."""
    return filled(layout, 1000, 0)


def sequential(layout: ParameterLayout, optimizer: Optimizer, ranks: int) -> np.ndarray:
    """Return the parameters that one process gets from the sum of all gradients."""
    parameters = start(layout)
    state = {name: layout.zeros() for name in optimizer.state_names}
    shard = Shard.of([t.range for t in layout], slice(0, layout.size), parameters, state)
    for step in range(STEPS):
        total = sum(filled(layout, rank, step) for rank in range(ranks))
        optimizer.update(shard, total[np.newaxis].copy(), 0.05, step + 1, lambda values: None)
    return parameters


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("strategy", LOCKSTEP)
def test_steps_are_those_of_one_process(world: World, strategy: str, optimizer: str, clip: float | None) -> None:
    """Every rule, with and without clipping; the same bits on all ranks, and gaps that stay zero."""
    layout = ParameterLayout(SHAPES, "float64")
    rule = Optimizer(section(optimizer), clip, _kernels.load("float64"))
    run = build(Context(world, layout, rule, options(strategy)))
    if world.rank == 0:
        run.replica.parameters[:] = start(layout)
    run.replica.broadcast()
    tally = StepStatistics()
    for step in range(STEPS):
        tally.clear()
        tally.losses[:] = world.rank + 1, 2.0
        if world.rank == world.size - 1 and step == 3:
            tally.ask_to_stop()
        run.replica.gradient[:] = filled(layout, world.rank, step)
        run.step(0.05, step + 1, 1, tally, synchronize=False)
        assert tally.loss_sum == world.size * (world.size + 1) / 2 and tally.correct == 2 * world.size
        assert tally.stop == (step == 3) and tally.finite
        total = sum(filled(layout, rank, step) for rank in range(world.size))
        assert tally.gradient_squares == pytest.approx(float(total @ total), rel=1e-9)
    np.testing.assert_allclose(run.replica.parameters, sequential(layout, rule, world.size), rtol=1e-10, atol=1e-12)
    everyone = world.comm.allgather((run.replica.parameters.tobytes(), tally.values.tobytes()))
    assert len(set(everyone)) == 1
    gaps = np.ones(layout.size, bool)
    for tensor in layout:
        gaps[tensor.range] = False
    assert not run.replica.parameters[gaps].any()
    world.barrier()


@pytest.fixture(scope="module", params=["two uneven nodes", "every rank a node"])
def nodes(request: pytest.FixtureRequest) -> World:
    """Return the job as if it ran on several nodes."""
    world = World.connect()
    if request.param == "two uneven nodes":
        return two_nodes(world.comm)
    if world.size == 1:
        pytest.skip("Test requires 2 MPI processes")
    return World(world.comm, world.comm.Split(world.rank), world.rank, (1,) * world.size)


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("optimizer", ["momentum", "adam", "lamb"])
def test_overlap_does_not_change_a_bit(nodes: World, optimizer: str, clip: float | None) -> None:
    """50 steps: layers sent as they are finished, two at a time, or all at the end; the same on all ranks."""
    layers = [(f"dense_{n}/{name}", shape) for n in range(4) for name, shape in (("weight", (40, 40)), ("bias", (40,)))]
    layout = ParameterLayout(layers, "float32")
    rule = Optimizer(section(optimizer), clip, _kernels.load("float32"))
    ends = []
    for bucket_mib in (0, 1e-6, 0.01):
        run = build(Context(nodes, layout, rule, options("allreduce", bucket_mib=bucket_mib)))
        assert (run.gradient_ready is None) == (bucket_mib == 0)
        if nodes.rank == 0:
            run.replica.parameters[:] = start(layout)
        run.replica.broadcast()
        tally = StepStatistics()
        for step in range(50):
            tally.clear()
            tally.losses[:] = nodes.rank + 1, 1.0
            own = filled(layout, nodes.rank, step)
            run.replica.gradient[:] = np.nan  # what was not finished may not be sent
            begins = [weight.offset for weight in layout.tensors[::2]]
            for begin, end in reversed(list(zip(begins, [*begins[1:], layout.size], strict=True))):
                run.replica.gradient[begin:end] = own[begin:end]
                if run.gradient_ready is not None:
                    run.gradient_ready(begin)
            # All but the first layer's bucket are under way when backward has ended: of one, of four, of two.
            left = len(run._nodes._waiting), len(run._nodes._buckets)
            assert left == {0: (1, 1), 1e-6: (1, 4), 0.01: (1, 2)}[bucket_mib]
            run.step(0.01, step + 1, 1, tally, synchronize=False)
            assert tally.loss_sum == nodes.size * (nodes.size + 1) / 2 and tally.finite
        seconds = run.telemetry.clock.take(1.0)
        assert seconds["hidden"] == 0 or bucket_mib > 0
        ends.append((run.replica.parameters.tobytes(), tally.values.tobytes()))
        run.close()
        nodes.barrier()
    assert ends[0] == ends[1] == ends[2]
    assert len(set(nodes.comm.allgather(ends[0]))) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("strategy", LOCKSTEP)
def test_one_bad_number_on_one_rank_is_seen_by_all(world: World, strategy: str, value: float) -> None:
    """A gradient or a loss that is not finite is everyone's at the same step."""
    layout = ParameterLayout(SHAPES, "float32")
    rule = Optimizer(section("adam"), None, _kernels.load("float32"))
    for where in ("gradient", "loss"):
        run = build(Context(world, layout, rule, options(strategy)))
        run.replica.broadcast()
        tally = StepStatistics()
        run.replica.gradient[:] = filled(layout, world.rank, 0)
        if world.rank == world.size - 1:
            if where == "gradient":
                run.replica.gradient[3] = value
            else:
                tally.losses[0] = value
        run.step(0.01, 1, 1, tally, synchronize=False)
        assert not tally.finite
        world.barrier()


def test_state_is_shared_or_alike(world: World) -> None:
    """What rank 0 puts into parameters and state is everyone's after `synchronize`."""
    layout = ParameterLayout(SHAPES, "float32")
    rule = Optimizer(section("adam"), None, _kernels.load("float32"))
    for strategy in LOCKSTEP:
        run = build(Context(world, layout, rule, options(strategy)))
        if world.rank == 0:
            run.replica.parameters[:] = 1.5
            for number, vector in enumerate(run.replica.optimizer_state.values()):
                vector[:] = number
        run.replica.broadcast()
        assert (run.replica.parameters == 1.5).all()
        assert [vector[0] for vector in run.replica.optimizer_state.values()] == [0, 1]
        world.barrier()


def test_a_node_without_memory_fails_on_all_nodes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others must not be in another collective of the job meanwhile, or nobody would ever know."""
    fresh = World(world.comm, world.node, world.node_index, world.node_sizes)  # its peers have not met yet

    def allocate(*arguments: Any) -> Any:
        raise ResourceError("no memory on the last node")

    if world.node_index == world.nodes - 1:
        monkeypatch.setattr(arena, "allocate", allocate)
    layout = ParameterLayout(SHAPES, "float32")
    rule = Optimizer(section("adam"), None, _kernels.load("float32"))
    with pytest.raises(ResourceError, match="no memory on the last node"), agreed(world.comm):
        build(Context(fresh, layout, rule, options("allreduce")))
    assert world.comm.allreduce(1) == world.size


def test_ranks_without_a_shard_do_not_change_the_order_of_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes of 7 and of 9 ranks cut the vector into 7 shards: both must scale the gradient by the very same bits."""

    def zeros(node: Any, fields: Any) -> dict[str, np.ndarray]:
        return {name: np.zeros(shape, dtype) for name, (shape, dtype) in fields.items()}

    monkeypatch.setattr(arena, "allocate", zeros)
    monkeypatch.setattr(arena, "make_barrier", lambda world, state: world.node.Barrier)
    layout = ParameterLayout(SHAPES, "float64")
    rule = Optimizer(section("sgd"), None, _kernels.load("float64"))
    rng = np.random.default_rng(0)
    for _ in range(50):
        squares, totals, norms = rng.random(7), [], []
        for ranks in (7, 9):
            node = SimpleNamespace(rank=6, size=ranks, Barrier=lambda: None)
            world = SimpleNamespace(node=node, rank=6, size=2 * ranks, shards=7, nodes=2, peers=None)
            run = gradients.AllReduce(Context(world, layout, rule, options("allreduce")))
            run._arena._totals[1, :7, 0] = squares
            value = squares[6:].copy()
            run._arena.total(value)
            totals.append(float(value[0]))
            run._arena.arrays["statistics"][1, :7, 3] = squares
            run.replica.gradient[:] = 0.0
            monkeypatch.setattr(rule, "update", lambda *arguments, own=squares[6]: own)
            tally = StepStatistics()
            run.step(0.1, 1, 1, tally, synchronize=False)
            norms.append(tally.gradient_squares)
        assert totals[0] == totals[1] and norms[0] == norms[1]

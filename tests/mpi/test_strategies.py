"""Strategies on any number of ranks against one process that sums all ranks' gradients itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import builders
from builders import OPTIMIZERS, SHAPES, changed, filled, two_nodes, watch_sends
from onotrain.config import Config
from onotrain.errors import ResourceError
from onotrain.nn import ParameterLayout
from onotrain.optim import Optimizer
from onotrain.parallel.world import World
from onotrain.strategies import StepStatistics
from onotrain.strategies.allreduce import arena

pytestmark = pytest.mark.mpi

STEPS = 6
#: Those whose ranks make every step together.
STRATEGIES: dict[str, dict[str, Any]] = {
    "allreduce": {"name": "allreduce", "share": "gradients", "bucket_mib": 0.0},
    "flat": {"name": "flat"},
}


@pytest.fixture(scope="module", params=["one node", "two uneven nodes"])
def world(request: pytest.FixtureRequest) -> World:
    """Return the job as it is, or as if its last third of ranks were another node."""
    world = World.connect()
    return world if request.param == "one node" else two_nodes(world.comm)


def config(strategy: str, optimizer: str = "adam", clip: float | None = None, dtype: str = "float32") -> Config:
    """Return a configuration of one of the strategies."""
    training = {"clip_norm": clip, "dtype": dtype}
    return builders.config(strategy=STRATEGIES[strategy], optimizer=OPTIMIZERS[optimizer], training=training)


def start(layout: ParameterLayout) -> np.ndarray:
    """Return the parameters before the first step."""
    return filled(layout, 1000, 0)


def sequential(layout: ParameterLayout, optimizer: Optimizer, ranks: int) -> np.ndarray:
    """Return the parameters that one process gets from the sum of all gradients."""
    parameters = start(layout)
    state = {name: layout.zeros() for name in optimizer.state_names}
    shard = optimizer.shard(layout.tensors, slice(0, layout.size), parameters, state.values())
    for step in range(STEPS):
        total = sum(filled(layout, rank, step) for rank in range(ranks))
        optimizer.update(shard, total[np.newaxis].copy(), 0.05, step + 1, lambda values: None)
    return parameters


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_steps_are_those_of_one_process(world: World, strategy: str, optimizer: str, clip: float | None) -> None:
    """Every rule, with and without clipping; the same bits on all ranks, and gaps that stay zero."""
    layout, made = ParameterLayout(SHAPES, "float64"), config(strategy, optimizer, clip, "float64")
    run = builders.strategy(made, world, layout)
    if world.rank == 0:
        run.replica.parameters[:] = start(layout)
    run.replica.broadcast()
    statistics = StepStatistics()
    for step in range(STEPS):
        statistics.clear()
        statistics.losses[:] = world.rank + 1, 2.0
        if world.rank == world.size - 1 and step == 3:
            statistics.ask_to_stop()
        run.replica.gradient[:] = filled(layout, world.rank, step)
        run.step(0.05, step + 1, 1, statistics, synchronize=False)
        assert statistics.loss_sum == world.size * (world.size + 1) / 2 and statistics.correct == 2 * world.size
        assert statistics.stop == (step == 3) and statistics.finite
        total = sum(filled(layout, rank, step) for rank in range(world.size))
        assert statistics.gradient_squares == pytest.approx(float(total @ total), rel=1e-9)
    expected = sequential(layout, builders.optimizer(made), world.size)
    np.testing.assert_allclose(run.replica.parameters, expected, rtol=1e-10, atol=1e-12)
    everyone = world.comm.allgather((run.replica.parameters.tobytes(), statistics.values.tobytes()))
    assert len(set(everyone)) == 1
    assert not run.replica.parameters[builders.gaps(layout)].any()
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
@pytest.mark.parametrize("optimizer", ["sgd-nesterov", "adam", "lamb"])
def test_overlap_does_not_change_a_bit(
    nodes: World, optimizer: str, clip: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 steps: layers sent as they are finished, two at a time, or all at the end; the same on all ranks."""
    layers = [(f"dense_{n}/{name}", shape) for n in range(4) for name, shape in (("weight", (40, 40)), ("bias", (40,)))]
    layout = ParameterLayout(layers, "float32")
    base, ends, sends = config("allreduce", optimizer, clip).to_mapping(), [], watch_sends(monkeypatch)
    for bucket_mib, buckets in ((0, 1), (1e-6, 4), (0.01, 2), (1.0, 1)):
        made = Config.from_mapping(changed(base, strategy={**STRATEGIES["allreduce"], "bucket_mib": bucket_mib}))
        run = builders.strategy(made, nodes, layout)
        assert (run.gradient_ready is None) == (buckets == 1)
        if nodes.rank == 0:
            run.replica.parameters[:] = start(layout)
        run.replica.broadcast()
        statistics = StepStatistics()
        for step in range(20):
            statistics.clear()
            statistics.losses[:] = nodes.rank + 1, 1.0
            own = filled(layout, nodes.rank, step)
            run.replica.gradient[:] = np.nan  # what was not finished may not be sent
            begins = [weight.offset for weight in layout.tensors[::2]]
            for begin, end in reversed(list(zip(begins, [*begins[1:], layout.size], strict=True))):
                run.replica.gradient[begin:end] = own[begin:end]
                if run.gradient_ready is not None:
                    run.gradient_ready(begin)
            run.step(0.01, step + 1, 1, statistics, synchronize=False)
            assert statistics.loss_sum == nodes.size * (nodes.size + 1) / 2 and statistics.finite
        # All but the first layer's bucket are under way when the backward pass has ended.
        all_sends = buckets + (nodes.node.rank == 0)
        assert sends == [(buckets - 1, all_sends) if nodes.peers is not None else (0, 0)] * 20
        sends.clear()
        seconds = run.telemetry.clock.take(1.0)
        assert seconds["hidden"] == 0 or bucket_mib > 0
        ends.append((run.replica.parameters.tobytes(), statistics.values.tobytes()))
        run.close()
        nodes.barrier()
    assert ends[0] == ends[1] == ends[2]
    assert len(set(nodes.comm.allgather(ends[0]))) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_bad_number_on_one_rank_is_seen_by_all(world: World, strategy: str, value: float) -> None:
    """A gradient or a loss that is not finite is everyone's at the same step."""
    layout = ParameterLayout(SHAPES, "float32")
    for where in ("gradient", "loss"):
        run = builders.strategy(config(strategy), world, layout)
        run.replica.broadcast()
        statistics = StepStatistics()
        run.replica.gradient[:] = filled(layout, world.rank, 0)
        if world.rank == world.size - 1:
            if where == "gradient":
                run.replica.gradient[3] = value
            else:
                statistics.losses[0] = value
        run.step(0.01, 1, 1, statistics, synchronize=False)
        assert not statistics.finite
        world.barrier()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_state_is_shared_or_alike(world: World, strategy: str) -> None:
    """What rank 0 puts into parameters and state is everyone's after `broadcast`, every element of it."""
    layout = ParameterLayout(SHAPES, "float32")
    run = builders.strategy(config(strategy), world, layout)
    vectors = [run.replica.parameters, *run.replica.optimizer_state.values()]
    assert len(vectors) == 3
    if world.rank == 0:
        for number, vector in enumerate(vectors):
            vector[:] = filled(layout, number)
    run.replica.broadcast()
    for number, vector in enumerate(vectors):
        np.testing.assert_array_equal(vector, filled(layout, number))
    world.barrier()


def test_a_node_without_memory_fails_on_all_nodes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others must not be in another collective of the job meanwhile, or nobody would ever know."""
    fresh = World(world.comm, world.node, world.node_index, world.node_sizes)  # its peers have not met yet

    def allocate(*arguments: Any) -> Any:
        raise ResourceError("no memory on the last node")

    if world.node_index == world.nodes - 1:
        monkeypatch.setattr(arena, "allocate", allocate)
    with pytest.raises(ResourceError, match="no memory on the last node"):
        builders.strategy(config("allreduce"), fresh, ParameterLayout(SHAPES, "float32"))
    assert world.comm.allreduce(1) == world.size

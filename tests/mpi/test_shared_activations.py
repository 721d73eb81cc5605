"""Training on shared activations, on any number of ranks; run with any."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import builders
from builders import ELEMENTWISE, OPTIMIZERS
from onotrain.nn import Model
from onotrain.parallel.world import World
from onotrain.strategies import AllReduce, BatchShape, Context, SharedActivations, StepStatistics, build

pytestmark = pytest.mark.mpi

INPUTS, SAMPLES = 21, 23
LAYERS = [
    {"dropout": 0.1},
    {"dense": {"units": 37, "activation": "tanh"}},
    {"dropout": 0.3},
    {"activation": "gelu"},
    {"dense": {"units": 18, "bias": False}},
    {"dense": 5},
]


def parts(world: World, optimizer: str, strategy: str | dict[str, Any] = "allreduce", **training: Any) -> Any:
    """Return a network and what a strategy for it is built from."""
    made = builders.config(*LAYERS, optimizer=OPTIMIZERS[optimizer], strategy=strategy, training=training)
    model = builders.model(made, INPUTS)
    return model, Context.of(made, world, model.layout, builders.optimizer(made))


def train(world: World, model: Model, strategy: Any, sizes: list[int]) -> list[tuple[float, ...]]:
    """Make a step for each size of batch; return the all_statistics."""
    share = -(-SAMPLES // world.size)
    strategy.bind(model, BatchShape(SAMPLES, share, 1))
    if world.rank == 0:
        model.initialize(strategy.replica.parameters, seed=5)
    strategy.replica.broadcast()
    statistics, all_statistics = StepStatistics(), []
    for number, samples in enumerate(sizes, start=1):
        rng = np.random.default_rng(number)
        features = rng.normal(size=(samples, INPUTS)).astype(model.dtype)
        classes = rng.integers(0, 5, samples).astype(np.int32)
        begin, end = (samples * rank // world.size for rank in (world.rank, world.rank + 1))
        x = model.rows(begin, end)
        x[:] = features[begin:end]
        statistics.clear()
        calls = model.record(x, classes[begin:end], samples, statistics.losses, seed=7, begin=begin)
        model.kernels.program(calls).run(number)
        strategy.step(0.01, number, samples, statistics, synchronize=False)
        all_statistics.append(tuple(statistics.values))
    return all_statistics


#: An epoch's last batch is short, and smaller than the number of some ranks.
SIZES = [SAMPLES, SAMPLES, 2, SAMPLES, 11] * 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", ELEMENTWISE)
def test_it_trains_as_shared_gradients_do(world: World, optimizer: str, dtype: str) -> None:
    """The same sums in another order: 15 steps, batches of several sizes; parameters, state and all_statistics."""
    ends = []
    for kind in (SharedActivations, AllReduce):
        model, job = parts(world, optimizer, dtype=dtype)
        strategy = kind(job)
        all_statistics = train(world, model, strategy, SIZES)
        ends.append(
            (
                strategy.replica.parameters.copy(),
                {k: v.copy() for k, v in strategy.replica.optimizer_state.items()},
                all_statistics,
            )
        )
        world.barrier()
    (mine, state, all_statistics), (other, other_state, other_statistics) = ends
    precision = {"float32": 2e-4, "float64": 1e-9}[dtype]
    np.testing.assert_allclose(mine, other, rtol=precision, atol=precision)
    for name, vector in state.items():
        np.testing.assert_allclose(vector, other_state[name], rtol=precision, atol=precision)
    np.testing.assert_allclose(all_statistics, other_statistics, rtol=precision)
    assert np.abs(mine).max() > 0.1


@pytest.mark.parametrize("optimizer", ELEMENTWISE)
def test_not_a_bit_depends_on_the_number_of_ranks(world: World, optimizer: str) -> None:
    """What all ranks train together, and what each trains alone."""
    model, job = parts(world, optimizer)
    strategy = SharedActivations(job)
    all_statistics = train(world, model, strategy, SIZES)
    everyone = world.comm.allgather((strategy.replica.parameters.tobytes(), all_statistics))
    assert all(theirs == everyone[0] for theirs in everyone)
    with World.connect(world.comm.Split(world.rank)) as alone:
        lonely, job = parts(alone, optimizer)
        sequential = SharedActivations(job)
        train(alone, lonely, sequential, SIZES)
    assert strategy.replica.parameters.tobytes() == sequential.replica.parameters.tobytes()
    for name, vector in strategy.replica.optimizer_state.items():
        assert vector.tobytes() == sequential.replica.optimizer_state[name].tobytes()
    world.barrier()


def test_gaps_between_tensors_stay_zero(world: World) -> None:
    """As under every strategy: they are in checkpoints' digests."""
    model, job = parts(world, "adam")
    strategy = SharedActivations(job)
    train(world, model, strategy, [SAMPLES] * 3)
    gaps = builders.gaps(model.layout)
    assert gaps.any()
    for vector in (strategy.replica.parameters, *strategy.replica.optimizer_state.values()):
        assert not vector[gaps].any()
    world.barrier()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_bad_number_on_one_rank_is_seen_by_all(world: World, value: float) -> None:
    """It comes through the factors of the gradient into the sum of squares, on all ranks at the same step."""
    model, job = parts(world, "adam")
    strategy = SharedActivations(job)
    train(world, model, strategy, [SAMPLES])
    statistics = StepStatistics()
    if world.rank == world.size - 1:
        dz = next(of.dz for tensor, of in strategy.workspace.factors(SAMPLES) if tensor == "dense_2/weight")
        dz[SAMPLES - 1, 1] = value
    strategy.step(0.01, 2, SAMPLES, statistics, synchronize=False)
    assert not statistics.finite
    world.barrier()


@pytest.mark.parametrize(
    ("optimizer", "training"), [("lamb", {}), ("sgd", {"clip_norm": 1.0}), ("sgd", {"gradient_accumulation": 2})]
)
def test_what_needs_the_whole_gradient_gets_it(world: World, optimizer: str, training: dict[str, Any]) -> None:
    """LAMB, clipping and accumulation."""
    _, job = parts(world, optimizer, **training)
    assert isinstance(build(job), AllReduce)
    world.barrier()


def test_sharing_activations_is_the_default_on_one_node(world: World) -> None:
    """And `share: gradients` turns it off."""
    _, job = parts(world, "adam")
    assert isinstance(build(job), SharedActivations if world.nodes == 1 else AllReduce)
    _, job = parts(world, "adam", {"name": "allreduce", "share": "gradients"})
    assert isinstance(build(job), AllReduce)
    world.barrier()

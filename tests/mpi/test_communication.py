"""What ranks send each other as messages of a codec: nothing is lost on the way, and nobody drifts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import builders
from builders import prepare, records, relu, two_nodes
from onotrain.config import Config
from onotrain.errors import ConfigError, UsageError
from onotrain.nn import ParameterLayout
from onotrain.parallel.world import World
from onotrain.strategies import StepStatistics
from onotrain.training import train

pytestmark = pytest.mark.mpi(min_size=2)
RANKS = (1, 2, 4)
USUAL_RANKS = (2,)

SHAPES = [("a/weight", (60, 31)), ("a/bias", (60,)), ("b/weight", (9, 60)), ("b/bias", (9,)), ("c/weight", (1, 9))]
CODECS: dict[str, dict[str, Any]] = {
    "fp16": {"name": "fp16"},
    "bf16": {"name": "bf16"},
    "int8": {"name": "int8"},
    "topk": {"name": "topk", "fraction": 0.1},
    "powersgd": {"name": "powersgd", "rank": 2},
}
#: How many times the bytes of a message are in what it stands for, at least.
SAVES = {"fp16": 1.9, "bf16": 1.95, "int8": 3.5, "topk": 4.5, "powersgd": 4.0}
STRATEGIES: dict[str, dict[str, Any]] = {
    "flat": {"name": "flat"},
    "allreduce": {"name": "allreduce", "bucket_mib": 0.001},
    "server": {"name": "parameter_server"},
    "server, asynchronous": {"name": "parameter_server", "staleness": "unbounded", "rate_scaling": "none"},
    "server, overlap": {"name": "parameter_server", "staleness": 2, "overlap": True, "rate_scaling": "none"},
    "two servers": {"name": "parameter_server", "servers": 2},
    "local": {"name": "local_sgd", "period": 4},
}
#: Strategies whose ranks all have the same parameters after every step; with the period of those of `local`.
TOGETHER = {"flat": 1, "allreduce": 1, "server": 1, "two servers": 1, "local": 4}
BATCH = 24
STEPS = 100
RATE = 0.01
#: Where each strategy runs; `flat` and `local` do not ask who shares a node.
PLACES = [("every rank a node", name) for name in STRATEGIES] + [
    ("two uneven nodes", name) for name in STRATEGIES if name not in ("flat", "local")
]


@pytest.fixture(scope="module")
def nodes(request: pytest.FixtureRequest) -> World:
    """Return the job as if it ran on several nodes."""
    if request.param == "every rank a node":
        return World.connect(ranks_per_node=1)
    return two_nodes(World.connect().comm)


def config(strategy: dict[str, Any], codec: dict[str, Any] | str, optimizer: Any = None, **training: Any) -> Config:
    """Return a configuration of the digits, every rank on a node of its own."""
    return builders.config(
        relu(32),
        10,
        data={"validation": 0.2},
        optimizer=optimizer or {"name": "sgd", "learning_rate": RATE},
        training=training,
        strategy=strategy,
        communication={"codec": codec},
        simulate={"ranks_per_node": 1},
    )


def gradient_of(layout: ParameterLayout, rank: int, step: int) -> np.ndarray:
    """Return a gradient that no other rank and step has, of values of very different sizes."""
    flat, rng = layout.zeros(), np.random.default_rng([rank, step])
    for view in layout.views(flat).values():
        view[...] = rng.normal(size=view.shape) * 10.0 ** rng.uniform(-3, 0, view.shape)
    return flat


def needs(world: World, strategy: dict[str, Any]) -> None:
    """Skip where there is no rank left to work."""
    if world.size <= strategy.get("servers", 1):
        pytest.skip("Test requires 3 MPI processes")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(("nodes", "name"), PLACES, indirect=["nodes"])
def test_what_is_applied_and_what_is_left_are_all_gradients(nodes: World, name: str, codec: str) -> None:
    """Over 100 steps of plain descent; meanwhile replicas are bit-equal, and messages are shorter."""
    needs(nodes, STRATEGIES[name])
    made = config(STRATEGIES[name], CODECS[codec])
    layout = ParameterLayout(SHAPES, np.float32)
    run = builders.strategy(made, nodes, layout)
    first = gradient_of(layout, 1000, 0)
    if nodes.rank == 0:
        run.replica.parameters[:] = first
    run.replica.broadcast()
    prepare(run, BATCH)
    run.begin_epoch(0, RATE, None)
    statistics, computes = StepStatistics(), run.batches.capacity(BATCH) > 0
    # What a gradient counts in the parameters in the end.
    weight = 1.0 / nodes.size if name == "local" else 1.0
    expected = np.zeros(layout.size)
    for step in range(1, STEPS + 1):
        statistics.clear()
        if computes:
            run.replica.gradient[:] = gradient_of(layout, nodes.rank, step)
            expected += RATE * weight * run.replica.gradient
            statistics.losses[:] = 1.0, 1.0
            statistics.samples = BATCH // nodes.size
        # As in a batch that is shorter than the ranks are many; of ways, ranks have shares by their samples.
        if step % 5 == 0 and nodes.rank == nodes.size - 1 and name != "local":
            expected -= RATE * weight * run.replica.gradient
            run.replica.gradient[:] = 0.0
            statistics.clear()
        run.step(RATE, step, BATCH, statistics, synchronize=step == STEPS)
        assert not run.replica.complete  # a checkpoint would have no residuals
        if name in TOGETHER and step % TOGETHER[name] == 0 and step < STEPS:
            seen = nodes.comm.allgather(run.replica.parameters.tobytes() if computes else b"")
            assert len(set(seen) - {b""}) == 1, step
    assert len(set(nodes.comm.allgather(run.replica.parameters.tobytes()))) == 1
    run.replica.gather()
    left = list(run.replica.strategy_state.values()) if nodes.rank == 0 else []
    rest = nodes.comm.bcast(left[0].astype(float) if left else None, root=0)
    assert rest is not None
    expected = nodes.comm.allreduce(expected) - (1.0 if name == "local" else RATE) * rest
    np.testing.assert_allclose(run.replica.parameters, first - expected, atol=2e-4)
    if codec in ("topk", "powersgd"):
        assert np.abs(rest).max() > 0.01  # a residual that was not kept would show
    bytes_of = nodes.comm.allgather(run.telemetry.traffic.take())
    raw, sent = (sum(each[kind] for each in bytes_of) for kind in ("raw", "sent"))
    assert raw > SAVES[codec] * sent > 0
    nodes.barrier()
    run.close()


@pytest.mark.parametrize("codec", ["int8", "powersgd"])
@pytest.mark.parametrize("name", ["flat", "allreduce", "server", "local"])
def test_a_run_that_is_resumed_is_the_run_that_was_not_stopped(
    world: World, place: Path, name: str, codec: str
) -> None:
    """To the bit: residuals and all are in the checkpoint.  The last step of an epoch settles both alike."""
    strategy = STRATEGIES[name] | ({"inner_state": "keep"} if name == "local" else {})
    optimizer = {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9 if name != "local" else 0.0}
    whole = config(strategy, CODECS[codec], optimizer, epochs=3, batch_size=96)
    part = config(strategy, CODECS[codec], optimizer, epochs=1, batch_size=96)
    one = train(whole, world.comm, output=place / "one").summary
    train(part, world.comm, output=place / "two")
    two = train(whole, world.comm, output=place / "two", resume=True).summary
    assert one["parameters_sha256"] == two["parameters_sha256"]


@pytest.mark.parametrize("codec", ["int8", "topk", "powersgd"])
@pytest.mark.parametrize("name", ["flat", "server", "server, asynchronous", "local"])
def test_it_still_learns(world: World, place: Path, name: str, codec: str) -> None:
    """Whole runs; and their records tell what was sent, and what would have been."""
    strategy = STRATEGIES[name] | ({"inner_state": "keep"} if name == "local" else {})
    made = config(strategy, CODECS[codec], {"name": "adam", "learning_rate": 0.003}, epochs=8)
    summary = train(made, world.comm, output=place / "run").summary
    assert summary["validation_accuracy"] > 0.85
    for record in records(place / "run"):
        assert sum(record["ranks_bytes"]["raw"]) > 1.5 * sum(record["ranks_bytes"]["sent"]) > 0


def test_a_switch_leaves_residuals_behind(world: World) -> None:
    """What is left of a part of a sum is no push."""
    strategy = {"name": "strategy_switch", "at_epoch": 1, "server": {"staleness": 0}}
    made = config(strategy, CODECS["topk"], {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9}, epochs=2)
    layout = ParameterLayout(SHAPES, np.float32)
    with World.connect(world.comm, 1) as nodes:
        run = builders.strategy(made, nodes, layout)
        run.replica.broadcast()
        prepare(run, BATCH)
        run.replica.gradient[:] = gradient_of(layout, nodes.rank, 1)
        statistics = StepStatistics()
        statistics.samples = BATCH // nodes.size
        run.step(RATE, 1, BATCH, statistics, synchronize=True)
        run.replica.gather()
        name = "gradient_residual"
        assert run.replica.strategy_state[name].any()
        velocity = run.replica.optimizer_state["velocity"].copy()
        assert run.end_epoch({"epoch": 1, "train_loss": 1.0})
        if nodes.rank == 0:
            assert not run.replica.strategy_state[name].any()
            np.testing.assert_array_equal(run.replica.optimizer_state["velocity"], velocity)
        nodes.barrier()
        run.close()


@pytest.mark.parametrize("strategy", ["allreduce", "parameter_server", "strategy_switch"])
def test_a_codec_where_nothing_is_sent_is_refused(world: World, place: Path, strategy: str) -> None:
    """On one node."""
    made = config({"name": strategy}, "int8").to_mapping() | {"simulate": None}
    with pytest.raises(UsageError, match="communication.codec int8 needs two nodes or more .*send nothing"):
        train(made, world.comm, output=place / "run")


def test_state_that_would_be_sent_whole_is_refused() -> None:
    """Adam's running means, averaged in every averaging round."""
    with pytest.raises(ConfigError, match="inner_state.*must be keep or reset with communication.codec int8"):
        config(STRATEGIES["local"], "int8", {"name": "adam"})
    assert config(STRATEGIES["local"], "int8", {"name": "sgd"}).communication.codec.name == "int8"

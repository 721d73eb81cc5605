"""Workers of a parameter server that make several steps of their own between two pushes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import builders
from builders import ELEMENTWISE, OPTIMIZERS, SHAPES, filled
from onotrain.nn import ParameterLayout
from onotrain.parallel.world import World
from onotrain.strategies import StepStatistics
from server_run import Progress, ServerRun

pytestmark = pytest.mark.mpi(min_size=2)

BATCH = 24
LAYOUT = ParameterLayout(SHAPES, "float32")
START = filled(LAYOUT, 1000, 0)
#: Staleness, and whether workers compute while a push is under way.
MODES: list[tuple[int | str, bool]] = [(0, False), (2, False), ("unbounded", False), (2, True)]
CODECS: dict[str, Any] = {
    "none": "none",
    "int8": "int8",
    "topk": {"name": "topk", "fraction": 0.1},
    "powersgd": {"name": "powersgd", "rank": 2},
}


@pytest.fixture(scope="module", params=["one node", "every rank a node"])
def nodes(request: pytest.FixtureRequest) -> World:
    """Return the job, whose pushes go through memory or through messages."""
    return World.connect(ranks_per_node=1 if request.param == "every rank a node" else None)


def serve(world: World, optimizer: str = "sgd", clip: float | None = None, codec: Any = "none", **strategy: Any) -> Any:
    """Return a parameter server whose workers make local steps.  *Collective*."""
    made = builders.config(
        optimizer=OPTIMIZERS[optimizer],
        training={"batch_size": BATCH, "clip_norm": clip},
        strategy={"name": "parameter_server", **strategy},
        communication={"codec": codec},
    )
    return ServerRun(world, made, LAYOUT, START)


def rate(number: int) -> float:
    """Return the learning rate of a step."""
    return 0.05 / number**0.5


def step(run: ServerRun, number: int, *, synchronize: bool = False, stop: bool = False) -> StepStatistics:
    """Make a step with a gradient that depends on where the worker is, and on the step."""

    def gradient() -> np.ndarray:
        difference: np.ndarray = run.replica.parameters - filled(LAYOUT, run.worker, number)
        return difference

    return run.step(number, gradient, rate(number), synchronize=synchronize, stop=stop)


@pytest.mark.parametrize(("staleness", "overlap"), MODES)
@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, "clipped"])
def test_one_worker_trains_like_one_process(nodes: World, optimizer: str, staleness: int | str, overlap: bool) -> None:
    """With any number of servers, rules with norms over everything too, for the worker has everything."""
    name, clip = ("sgd-momentum", 1.0) if optimizer == "clipped" else (optimizer, None)
    run = serve(
        nodes, name, clip, servers=nodes.size - 1, staleness=staleness, overlap=overlap, push_every=4,
        rate_scaling="auto",
    )  # fmt: skip
    state = [LAYOUT.zeros() for _ in run.rule.state_names]
    shard = run.rule.shard(LAYOUT.tensors, slice(0, LAYOUT.size), START.copy(), state)
    for number in range(1, 23):
        step(run, number, synchronize=number in (7, 22))
        gradient = shard.parameters - filled(LAYOUT, 0, number)
        run.rule.update(shard, gradient[np.newaxis], rate(number), number, lambda values: None)
        if run.works or number in (7, 22):
            np.testing.assert_allclose(run.replica.parameters, shard.parameters, rtol=2e-5, atol=2e-5)
    assert run.all_alike()
    run.replica.gather()
    if nodes.rank == 0:
        assert tuple(run.replica.optimizer_state) == run.rule.state_names
        for name, vector in zip(run.rule.state_names, shard.state, strict=True):
            np.testing.assert_allclose(run.replica.optimizer_state[name], vector, rtol=1e-4, atol=1e-5)
        # Pushes of steps 4 and 7, then of 11, 15, 19 and 22.
        assert run.telemetry.report()["staleness"]["gradients"] == 6
    run.close()


@pytest.mark.mpi(min_size=3)
@pytest.mark.parametrize("every", [2, 3, "epoch"])
@pytest.mark.parametrize("optimizer", ["sgd", "sgd-nesterov", "adam"])
def test_synchronous_pushes_are_the_rounds_of_local_sgd(nodes: World, servers: int, optimizer: str, every: Any) -> None:
    """With equal slices; up to the first synchronisation point, where workers' states become their mean."""
    run = serve(nodes, optimizer, servers=servers, push_every=every)
    group = World.connect(nodes.comm.Split(int(run.works), key=nodes.rank))
    period = 100 if every == "epoch" else every
    options = {"name": "local_sgd", "period": period, "inner_state": "keep"}
    made = builders.config(optimizer=OPTIMIZERS[optimizer], training={"batch_size": BATCH}, strategy=options)
    other = builders.strategy(made, group, LAYOUT)
    other.replica.parameters[:] = START
    other.replica.broadcast()
    last, statistics = 11, StepStatistics()
    for number in range(1, last + 1):
        found = step(run, number, synchronize=number == last)
        if not run.works:
            continue
        statistics.clear()
        statistics.losses[:], statistics.samples = (run.worker + 1, 1.0), BATCH // run.workers
        other.replica.gradient[:] = other.replica.parameters - filled(LAYOUT, run.worker, number)
        other.step(rate(number), number, BATCH, statistics, synchronize=number == last)
        np.testing.assert_allclose(run.replica.parameters, other.replica.parameters, rtol=1e-5, atol=1e-5)
    expected = nodes.comm.bcast(statistics.values, root=servers)
    np.testing.assert_allclose(found.values, expected, rtol=1e-5)
    run.replica.gather()
    if run.works:
        for name, vector in other.replica.optimizer_state.items():
            mean = sum(group.comm.allgather(vector)) / run.workers
            np.testing.assert_allclose(run.replica.optimizer_state[name], mean, rtol=1e-5, atol=1e-6)
    states = nodes.comm.bcast(dict(run.replica.optimizer_state), root=servers)
    if nodes.rank == 0:
        for name, vector in run.replica.optimizer_state.items():
            assert np.array_equal(vector, states[name])
    run.close()


@pytest.mark.parametrize(("staleness", "overlap"), MODES)
@pytest.mark.parametrize("codec", CODECS)
def test_what_is_applied_and_what_is_left_are_all_deltas(
    nodes: World, servers: int, codec: str, staleness: int | str, overlap: bool
) -> None:
    """Of plain descent whose gradients do not depend on parameters; all together are an average over the workers."""
    if codec != "none" and nodes.nodes == 1:
        pytest.skip("Test requires 2 MPI processes")
    run = serve(nodes, codec=CODECS[codec], servers=servers, staleness=staleness, overlap=overlap, push_every=3)
    expected = START.astype("float64")
    for number in range(1, 24):
        run.step(number, lambda: filled(LAYOUT, run.worker, number), rate(number), synchronize=number in (10, 23))  # noqa: B023
        for worker in range(run.workers):
            expected -= rate(number) * filled(LAYOUT, worker, number) / run.workers
    assert run.all_alike()
    run.replica.gather()
    if nodes.rank == 0:
        left = run.replica.strategy_state.get("delta_residual", 0.0)
        assert codec == "none" or np.any(left)
        np.testing.assert_allclose(run.replica.parameters - left, expected, rtol=1e-5, atol=1e-5)
    run.close()


@pytest.mark.parametrize(("scaling", "power"), [("auto", 1.0), ("linear", 1.0), ("root", 0.5), ("none", 0.0)])
def test_deltas_move_parameters_by_their_share_of_the_samples(world: World, scaling: str, power: float) -> None:
    run = serve(world, staleness="unbounded", rate_scaling=scaling, push_every=4)
    expected = START.astype("float64")
    for number in range(1, 20):
        run.step(number, lambda: filled(LAYOUT, run.worker, number), rate(number), synchronize=number == 19)  # noqa: B023
        for worker in range(run.workers):
            expected -= run.workers**-power * rate(number) * filled(LAYOUT, worker, number)
    np.testing.assert_allclose(run.replica.parameters, expected, rtol=1e-5, atol=2e-5)
    run.close()


@pytest.mark.parametrize(("staleness", "overlap"), MODES)
@pytest.mark.parametrize("every", [3, "epoch"])
def test_a_synchronization_point_leaves_nothing_under_way(
    nodes: World, servers: int, every: Any, staleness: int | str, overlap: bool
) -> None:
    """All ranks have the same; rank 0 has had every sample, none twice, and nobody else is told between pushes."""
    if overlap and every == "epoch":
        return
    run = serve(nodes, "adam", servers=servers, staleness=staleness, overlap=overlap, push_every=every)
    seen, losses = 0, 0.0
    for number in range(1, 21):
        synchronize = number in (1, 2, 9, 20)
        statistics = step(run, number, synchronize=synchronize)
        assert statistics.finite and not statistics.stop
        if nodes.rank == 0:
            seen, losses = seen + statistics.samples, losses + statistics.loss_sum
        elif not synchronize:
            assert not statistics.values.any()
        if synchronize:
            assert nodes.rank > 0 or seen == number * run.workers * (BATCH // run.workers)
            assert nodes.rank > 0 or losses == number * run.workers * (run.workers + 1) / 2
            assert run.all_alike()
            run.replica.gather()
            before = {name: vector.copy() for name, vector in run.replica.optimizer_state.items()}
            run.replica.broadcast()  # changes nothing
            assert all(np.array_equal(vector, before[name]) for name, vector in run.replica.optimizer_state.items())
            assert bool(before) == (run.works or nodes.rank == 0)
            assert run.all_alike()
    run.close()


@pytest.mark.mpi(min_size=3)
@pytest.mark.parametrize("bound", [1, 3])
def test_the_bound_is_of_pushes(world: World, bound: int) -> None:
    """A worker is as many pushes ahead of the first as it may, which goes on only when it is."""
    every, last = 3, 12
    run = serve(world, staleness=bound, push_every=every)
    progress, leads = Progress(run), []

    def gradient() -> np.ndarray:
        push = -(-number // every)
        if run.worker == 0 and number % every == 0:  # the others have begun the last push that they may
            progress.wait_for_all_others(min(last, push + bound))
        if number % every == 0:
            progress.computed(push)
            leads.append(progress.lead(push))
        return LAYOUT.zeros()

    for number in range(1, every * last + 1):
        run.step(number, gradient, rate(number), synchronize=number == every * last)
    assert max(max(found, default=0) for found in world.comm.allgather(leads)) == bound + 1
    if world.rank == 0:
        report = run.telemetry.report()
        assert report["worker_steps"] == [last] * run.workers
        assert report["staleness"]["gradients"] == last * run.workers
    run.close()


@pytest.mark.parametrize(("staleness", "overlap"), MODES)
@pytest.mark.parametrize("who", ["first", "last"])
@pytest.mark.parametrize("why", ["stop", "gradient", "loss"])
def test_all_learn_of_stops_and_bad_numbers_at_one_step(
    world: World, servers: int, staleness: int | str, overlap: bool, who: str, why: str
) -> None:
    """After a push, whoever it is that knows; what is not finite changes no server."""
    every, rank = 3, 0 if who == "first" else world.size - 1
    if why != "stop":
        rank = max(rank, servers)  # a server has no numbers of its own
    run = serve(world, servers=servers, staleness=staleness, overlap=overlap, push_every=every)
    mine, progress = world.rank == rank, Progress(run)

    def gradient() -> np.ndarray:
        progress.wait_for_all_others(number - 4)
        progress.computed(number)
        own = filled(LAYOUT, run.worker, number)
        if mine and number == 5 and why == "gradient":
            own[3] = np.inf
        return own

    for number in range(1, 61):
        bad = np.nan if mine and number == 5 and why == "loss" else None
        statistics = run.step(number, gradient, rate(number), stop=mine and number >= 5 and why == "stop", loss=bad)
        if statistics.stop or not statistics.finite:
            break
    assert number % every == 0 and 6 <= number <= (6 if staleness == 0 else 24)
    assert len(set(world.comm.allgather((number, statistics.stop, statistics.finite)))) == 1
    assert statistics.stop == (why == "stop") and statistics.finite == (why == "stop")
    assert np.isfinite(run.replica.parameters).all() and run.all_alike()
    if why == "stop":  # all can go on from here
        for later in range(number + 1, number + 6):
            assert not step(run, later, synchronize=later == number + 5).stop
        assert run.all_alike()
    run.close()


@pytest.mark.parametrize("optimizer", ELEMENTWISE)
def test_a_worker_without_samples_stays_where_it_is(world: World, optimizer: str) -> None:
    """And counts nothing in the mean of the states."""
    run = serve(world, optimizer, push_every=2)
    for number in range(1, 5):
        run.statistics.clear()
        if run.works:
            run.replica.gradient[:] = 1.0 if run.worker == 0 else np.nan
            run.statistics.samples = BATCH if run.worker == 0 else 0
        run.strategy.step(rate(number), number, BATCH, run.statistics, synchronize=number == 4)
    assert run.statistics.finite and run.all_alike()
    assert np.isfinite(run.replica.parameters).all() and not np.array_equal(run.replica.parameters, START)
    if run.works:
        assert all(np.isfinite(vector).all() for vector in run.replica.optimizer_state.values())
    run.close()

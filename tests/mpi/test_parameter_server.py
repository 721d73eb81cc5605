"""The parameter server against allreduce and one process: every step when synchronous, its promises when not."""

from __future__ import annotations

from time import perf_counter, sleep
from typing import Any

import numpy as np
import pytest

import builders
from builders import ELEMENTWISE, OPTIMIZERS, SHAPES, filled
from onotrain.nn import ParameterLayout
from onotrain.optim import Optimizer, Shard
from onotrain.parallel import collectives
from onotrain.parallel.shared_memory import allocate
from onotrain.parallel.world import World
from onotrain.strategies import StepStatistics
from onotrain.strategies.parameter_server.synchronization import SynchronizationPoints
from server_run import Progress, ServerRun

pytestmark = [pytest.mark.mpi(min_size=2)]
USUAL_RANKS = (2, 3)

BATCH = 24
LAYOUT = ParameterLayout(SHAPES, "float32")
START = filled(LAYOUT, 1000, 0)
MODES: list[int | str] = [0, 1, "unbounded"]


def serve(
    world: World, optimizer: str = "adam", clip: float | None = None, now: Any = perf_counter, **strategy: Any
) -> ServerRun:
    """Return a parameter server with these options.  *Collective*."""
    made = builders.config(
        optimizer=OPTIMIZERS[optimizer],
        training={"batch_size": BATCH, "clip_norm": clip},
        strategy={"name": "parameter_server", **strategy},
    )
    return ServerRun(world, made, LAYOUT, START, now)


def step(run: ServerRun, number: int, *, synchronize: bool = False) -> StepStatistics:
    """Make a step with a gradient that no other worker and no other step has."""
    return run.step(number, lambda: filled(LAYOUT, run.worker, number), rate(number), synchronize=synchronize)


def rate(number: int) -> float:
    """Return the learning rate of a step."""
    return 0.05 / number


def alone(rule: Optimizer) -> Shard:
    """Return what one process updates."""
    state = [LAYOUT.zeros() for _ in rule.state_names]
    return rule.shard(LAYOUT.tensors, slice(0, LAYOUT.size), START.copy(), state)


@pytest.mark.parametrize("clip", [None, 3.0])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_synchronous_steps_are_those_of_allreduce(
    world: World, servers: int, optimizer: str, clip: float | None
) -> None:
    """50 steps, every one; to the bit where no sum over the whole gradient is in them, or one server has it all."""
    run = serve(world, optimizer, clip, servers=servers)
    group = World.connect(world.comm.Split(int(run.works), key=world.rank))
    made = builders.config(
        optimizer=OPTIMIZERS[optimizer],
        training={"batch_size": BATCH, "clip_norm": clip},
        strategy={"name": "allreduce", "share": "gradients"},
    )
    other = builders.strategy(made, group, LAYOUT)
    other.replica.parameters[:] = START
    group.barrier()
    exact = run.rule.elementwise or (servers == 1 and run.workers == 1)
    statistics = StepStatistics()
    for number in range(1, 51):
        total = step(run, number, synchronize=number == 50).values.copy()
        if run.works:
            statistics.clear()
            statistics.losses[:] = run.worker + 1, 1.0
            statistics.samples = BATCH // run.workers
            other.replica.gradient[:] = filled(LAYOUT, run.worker, number)
            other.step(rate(number), number, BATCH, statistics, synchronize=False)
            if exact:
                assert np.array_equal(run.replica.parameters, other.replica.parameters), number
            else:
                np.testing.assert_allclose(run.replica.parameters, other.replica.parameters, rtol=1e-5, atol=1e-5)
        expected = world.comm.bcast(statistics.values, root=servers)
        if world.rank == 0:
            np.testing.assert_allclose(total, expected, rtol=1e-6)
        elif number < 50:
            assert not total.any()
    assert run.all_alike()
    run.replica.gather()
    states = world.comm.bcast({k: v.copy() for k, v in other.replica.optimizer_state.items()}, root=servers)
    if world.rank == 0:
        assert run.replica.optimizer_state.keys() == states.keys()
        for name, vector in run.replica.optimizer_state.items():
            np.testing.assert_allclose(vector, states[name], rtol=1e-5, atol=1e-6)
    run.close()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_one_worker_without_bound_trains_like_one_process(world: World, optimizer: str) -> None:
    """To the bit, though each push is an update by itself; many servers' ranges are put together in their order."""
    servers = world.size - 1
    if optimizer not in ELEMENTWISE:  # has one server when not synchronous
        servers, world = 1, World.connect(world.comm.Split(int(world.rank > 1)))
        if world.size != 2:
            return
    run = serve(world, optimizer, servers=servers, staleness="unbounded")
    shard = alone(run.rule)
    for number in range(1, 21):
        step(run, number, synchronize=number % 7 == 0 or number == 20)
        gradient = filled(LAYOUT, 0, number)
        run.rule.update(shard, gradient[np.newaxis], rate(number), number, lambda values: None)
        if run.works:
            assert np.array_equal(run.replica.parameters, shard.parameters), number
    assert np.array_equal(run.replica.parameters, shard.parameters)
    run.replica.gather()
    if world.rank == 0:
        found = run.replica.optimizer_state
        assert tuple(found) == run.rule.state_names
        assert all(map(np.array_equal, found.values(), shard.state))
        staleness = run.telemetry.report()["staleness"]
        assert staleness == {"gradients": 20, "mean": 0.0, "max": 0, "histogram": [20], "run_histogram": [20]}
    run.close()


@pytest.mark.parametrize("staleness", [1, "unbounded"])
@pytest.mark.parametrize(("scaling", "power"), [("auto", 1.0), ("linear", 1.0), ("root", 0.5), ("none", 0.0)])
def test_pushes_move_parameters_by_their_share_of_the_batch(
    world: World, servers: int, scaling: str, power: float, staleness: int | str
) -> None:
    """SGD by default as far as the mean of all gradients does, which is one synchronous update, where none depends on
    parameters."""
    run = serve(world, "sgd", servers=servers, staleness=staleness, rate_scaling=scaling)
    expected = START.astype("float64")
    for number in range(1, 31):
        step(run, number, synchronize=number % 10 == 0)
        for worker in range(run.workers):
            expected -= rate(number) * run.workers**-power * filled(LAYOUT, worker, number)
    np.testing.assert_allclose(run.replica.parameters, expected, rtol=1e-5, atol=1e-5)
    run.close()


@pytest.mark.mpi(min_size=3)
@pytest.mark.parametrize("bound", [1, 3, "unbounded"])
def test_no_worker_is_further_ahead_than_the_bound(world: World, servers: int, bound: int | str) -> None:
    """And all others are as far ahead of the first, which pushes only when they are, whatever the server thinks."""
    last = 12
    run = serve(world, "sgd", servers=servers, staleness=bound)
    if run.workers == 1:
        pytest.skip("Test requires 4 MPI processes")
    progress, leads = Progress(run), []

    def gradient() -> np.ndarray:
        if run.worker == 0:
            progress.wait_for_all_others(last if bound == "unbounded" else min(last, number + int(bound)))
        progress.computed(number)
        leads.append(progress.lead(number))
        return LAYOUT.zeros()

    for number in range(1, last + 1):
        run.step(number, gradient, rate(number), synchronize=number == last)
    largest = max(max(found, default=0) for found in world.comm.allgather(leads))
    # The first had finished one batch less than the others see in memory, which is the last that the server knows of.
    assert largest == (last if bound == "unbounded" else int(bound) + 1)
    if world.rank == 0:
        report = run.telemetry.report()
        assert report["staleness"]["gradients"] == sum(report["staleness"]["histogram"]) == last * run.workers
        assert report["staleness"]["run_histogram"] == report["staleness"]["histogram"]
        # The last push of who is ahead may come after the one of the first that follows it.
        assert largest - 1 <= max(report["worker_leads"]) <= largest
        assert report["worker_steps"] == [last] * run.workers
        assert run.telemetry.report()["staleness"]["gradients"] == 0
    run.close()


@pytest.mark.parametrize("staleness", MODES)
def test_a_synchronization_point_leaves_nothing_under_way(world: World, servers: int, staleness: int | str) -> None:
    """The same parameters on all ranks, the sum of all updates, and each batch's statistics on rank 0, in order."""
    run = serve(world, "sgd-nesterov", servers=servers, staleness=staleness)
    rng = np.random.default_rng(world.rank)
    for number in range(1, 31):
        if run.works:
            sleep(rng.uniform(0, 0.003))
        synchronize = number in (1, 2, 9, 30)
        statistics = step(run, number, synchronize=synchronize)
        if synchronize or world.rank == 0:
            assert statistics.loss_sum == run.workers * (run.workers + 1) / 2 and statistics.correct == run.workers
            assert statistics.samples == run.workers * (BATCH // run.workers)
            assert not statistics.stop and statistics.finite
        else:
            assert statistics.samples == 0 and statistics.finite
        if synchronize:
            run.replica.gather()
            assert run.all_alike()
            state = run.replica.optimizer_state.values() if world.rank == 0 else ()
            whole = [vector.copy() for vector in state]
            run.replica.broadcast()  # changes nothing
            assert all(map(np.array_equal, whole, state))
            assert all(vector[LAYOUT.tensors[-1].offset] for vector in whole)
            assert run.all_alike()
    run.close()


@pytest.mark.mpi(min_size=3)
def test_waiting_at_a_synchronization_point_is_waiting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a bound it is there that a fast worker waits for a slow one, by the time that the slow one makes."""
    shared = allocate(world.node, {"seconds": ((1,), np.float64), "waits": ((world.size,), np.int64)})
    seconds, waits, arrived = shared["seconds"], shared["waits"], []
    synchronize = SynchronizationPoints.synchronize

    def arrive(points: SynchronizationPoints, statistics: StepStatistics) -> None:
        arrived.append(world.rank)
        synchronize(points, statistics)

    def now() -> float:
        found = float(seconds[0])
        waits[arrived] = 1
        return found

    def slow() -> np.ndarray:
        if run.worker == 0 and number == 3:
            while waits[2:].sum() < run.workers - 1:
                sleep(0.001)
            seconds[0] += 10.0
        return LAYOUT.zeros()

    monkeypatch.setattr(SynchronizationPoints, "synchronize", arrive)
    run = serve(world, "sgd", now=now, staleness="unbounded")
    for number in range(1, 4):
        before = run.telemetry.clock.wait
        run.step(number, slow, rate(number), synchronize=number == 3)
    if run.works:
        assert run.telemetry.clock.wait - before == (0.0 if run.worker == 0 else 10.0)
    run.close()


@pytest.mark.parametrize("staleness", MODES)
@pytest.mark.parametrize("who", ["first", "second", "last"])
@pytest.mark.parametrize("why", ["stop", "gradient", "loss", "both numbers"])
def test_all_learn_of_stops_and_bad_numbers_at_one_step(
    world: World, servers: int, staleness: int | str, who: str, why: str
) -> None:
    """Whoever it is that knows, with workers at most 4 batches apart; bad gradients are not applied."""
    rank = {"first": 0, "second": 1, "last": world.size - 1}[who]
    if why != "stop":
        rank = max(rank, servers)  # a server has no numbers of its own
    run = serve(world, "sgd", servers=servers, staleness=staleness)
    rng, mine, progress = np.random.default_rng(world.rank), world.rank == rank, Progress(run)

    def gradient() -> np.ndarray:
        sleep(rng.uniform(0, 0.003))
        progress.wait_for_all_others(number - 4)
        progress.computed(number)
        own = filled(LAYOUT, run.worker, number)
        if mine and number == 6 and why in ("gradient", "both numbers"):
            own[3] = np.inf
        return own

    for number in range(1, 41):
        bad = np.nan if mine and number == 6 and why in ("loss", "both numbers") else None
        stop = mine and number >= 6 and why == "stop"
        statistics = run.step(number, gradient, rate(number), stop=stop, loss=bad)
        if statistics.stop or not statistics.finite:
            break
    # Known when the batch is complete at the latest, when the fastest may have pushed the fifth after it.
    assert 6 <= number <= (6 if staleness == 0 else 12)
    assert len(set(world.comm.allgather((number, statistics.stop, statistics.finite)))) == 1
    assert statistics.stop == (why == "stop") and statistics.finite == (why == "stop")
    assert np.isfinite(run.replica.parameters).all() and run.all_alike()
    if why == "stop":  # all can go on from here
        for later in range(number + 1, number + 5):
            assert not step(run, later, synchronize=later == number + 4).stop
        assert run.all_alike()
    run.close()


def synchronous_training(rule: Optimizer, target: np.ndarray, steps: int) -> tuple[float, np.ndarray]:
    """Return a learning rate at which one process gets rid of 40 % of |w - target|^2 or more, and its parameters."""
    for rate in 0.001 * 2.0 ** np.arange(12):
        shard = alone(rule)
        for number in range(1, steps + 1):
            rule.update(shard, (shard.parameters - target)[np.newaxis], rate, number, lambda values: None)
        if distance(shard.parameters, target) < 0.6 * distance(START, target):
            return rate, shard.parameters
    raise AssertionError("no learning rate is large enough")


def distance(parameters: np.ndarray, target: np.ndarray) -> float:
    """Return |parameters - target|^2."""
    return float(np.square(parameters - target).sum())


@pytest.mark.parametrize(
    ("optimizer", "compensation", "staleness"),
    [
        *((optimizer, "none", "unbounded") for optimizer in OPTIMIZERS),
        *(("sgd-nesterov", compensation, 2) for compensation in ("none", "learning_rate", "delay", "constant_batch")),
        ("sgd", "delay", "unbounded"),
        ("sgd", "learning_rate", 1),
        ("adam", "learning_rate", "unbounded"),
        ("adam", "constant_batch", "unbounded"),
        ("adamw", "delay", 2),
        ("rmsprop", "constant_batch", 1),
        ("adagrad", "learning_rate", 2),
    ],
)
def test_asynchronous_training_learns_as_much_as_synchronous(
    world: World, servers: int, optimizer: str, compensation: str, staleness: int | str
) -> None:
    """From as many samples, with other data on each worker: |w - data|^2 falls as far, but for a fifth.

    With three workers, whose gradients are two updates stale, a learning rate divided by that brings half.
    """
    if optimizer not in ELEMENTWISE:
        servers = 1  # it has no more when not synchronous
    run, steps = serve(world, optimizer, servers=servers, staleness=staleness, compensation=compensation), 30
    data = [START + 4.0 * filled(LAYOUT, 5, 5) + filled(LAYOUT, worker) for worker in range(run.workers)]
    target = np.mean(data, axis=0, dtype="float32")
    learning_rate, synchronous = synchronous_training(run.rule, target, steps)
    progress = Progress(run)

    def gradient() -> np.ndarray:
        progress.wait_for_all_others(number - 3)
        progress.computed(number)
        difference: np.ndarray = run.replica.parameters - data[run.worker]
        return difference

    for number in range(1, steps + 1):
        run.step(number, gradient, learning_rate, synchronize=number == steps)
    assert run.all_alike()
    least = 0.5 if compensation == "learning_rate" else 0.8
    fall = distance(START, target) - distance(run.replica.parameters, target)
    assert fall > least * (distance(START, target) - distance(synchronous, target))
    if world.rank == 0:
        updates = steps if compensation == "constant_batch" else steps * run.workers
        assert run.replica.notes()["updates"] == updates
    run.close()


def test_long_vectors_go_in_chunks(world: World, servers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the right order, the short last one too: bit-equal to vectors in one message."""
    ends = []
    for chunk_bytes in (1 << 30, 400):
        monkeypatch.setattr(collectives, "CHUNK_BYTES", chunk_bytes)
        run = serve(world, servers=servers)
        for number in range(1, 6):
            step(run, number, synchronize=number == 5)
        ends.append(run.replica.parameters.tobytes())
        run.close()
    assert ends[0] == ends[1]

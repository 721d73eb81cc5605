"""A parameter server's workers that compute while their push is under way."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
import pytest

import builders
from builders import relu
from onotrain.config import Config
from onotrain.errors import ConfigError
from onotrain.nn import ParameterLayout
from onotrain.parallel.channels import Arrivals
from onotrain.parallel.world import World
from onotrain.strategies import StepStatistics
from onotrain.training import train
from server_run import Progress, ServerRun

pytestmark = pytest.mark.mpi(min_size=2)

RATE = 0.1


@pytest.fixture(scope="module", params=["one node", "every rank a node"])
def nodes(request: pytest.FixtureRequest) -> World:
    """Return the job, whose pushes go through memory or through messages."""
    return World.connect(ranks_per_node=1 if request.param == "every rank a node" else None)


def config(codec: str = "none", **strategy: Any) -> Config:
    """Return a configuration of an asynchronous server with overlap."""
    options = {"staleness": "unbounded", "overlap": True, "rate_scaling": "none"}
    return builders.config(
        relu(32),
        10,
        data={"validation": 0.2},
        optimizer={"name": "sgd", "learning_rate": RATE},
        training={"epochs": 8},
        strategy={"name": "parameter_server", **options, **strategy},
        communication={"codec": codec},
    )


def serve(world: World, size: int = 500, codec: str = "none", now: Any = perf_counter, **strategy: Any) -> ServerRun:
    """Return a parameter server with one long tensor of zeros.  *Collective*."""
    return ServerRun(world, config(codec, **strategy), ParameterLayout([("vector", (size,))], np.float32), now=now)


def step(run: ServerRun, number: int, *, synchronize: bool = False, stop: bool = False) -> StepStatistics:
    """Push a gradient of ones times the number."""
    return run.step(number, lambda: number, RATE, synchronize=synchronize, stop=stop)


def test_a_batch_knows_all_pushes_but_the_one_under_way(nodes: World) -> None:
    """With one worker; all of its gradients but the first two after a synchronisation point are one update stale."""
    run = serve(nodes, servers=nodes.size - 1)
    applied = np.float32(0.0)
    for number in range(1, 21):
        step(run, number, synchronize=number in (7, 20))
        if run.works and number not in (7, 20):
            np.testing.assert_allclose(run.replica.parameters, applied, rtol=1e-6)
        applied -= np.float32(RATE) * np.float32(number)
        if number in (7, 20):
            np.testing.assert_allclose(run.replica.parameters, applied, rtol=1e-6)
    if nodes.rank == 0:
        assert run.telemetry.report()["staleness"]["histogram"] == [2, 18]
    run.close()


@pytest.mark.mpi(min_size=3)
@pytest.mark.parametrize("bound", [1, 2, 5])
def test_the_bound_holds_for_what_is_begun(nodes: World, bound: int) -> None:
    """And all others are as far ahead of the first, which goes on only when they are."""
    last, leads = 12, []
    run = serve(nodes, staleness=bound)
    progress = Progress(run)

    def gradient() -> int:
        if run.worker == 0:
            progress.wait_for_all_others(min(last, number + bound))
        progress.computed(number)
        leads.append(progress.lead(number))
        return number

    for number in range(1, last + 1):
        run.step(number, gradient, RATE, synchronize=number == last)
    # In memory the first is a batch behind the one that it has begun.
    assert max(max(found, default=0) for found in nodes.comm.allgather(leads)) == bound + 1
    run.close()


@pytest.mark.mpi(min_size=3)
@pytest.mark.parametrize("codec", ["none", "bf16"])
def test_nobody_waits_for_a_worker_that_computes(nodes: World, codec: str) -> None:
    """A long reply is under way until its receiver looks for it; the server makes updates meanwhile.

    The first computes until all others have done everything but the batch that all end with.
    """
    if codec != "none" and nodes.nodes == 1:
        pytest.skip("Test requires 2 MPI processes")
    run, last = serve(nodes, 100_000, codec), 12
    progress = Progress(run)

    def gradient() -> int:
        if run.worker == 0 and number == 3:
            progress.wait_for_all_others(last)
        progress.computed(number)
        return number

    for number in range(1, last + 1):
        run.step(number, gradient, RATE, synchronize=number == last)
    run.close()


class Ticking:
    """A time source that goes on by a tick whenever it is looked at."""

    def __init__(self, tick: float) -> None:
        self.seconds, self._tick = 0.0, tick

    def __call__(self) -> float:
        self.seconds += self._tick
        return self.seconds


@pytest.mark.parametrize("computing", [0.0, 1.0])
def test_what_the_server_does_while_a_worker_computes_is_no_wait(
    nodes: World, monkeypatch: pytest.MonkeyPatch, computing: float
) -> None:
    """It takes a hundred times as long as the worker does for a reply: that is waited for only by one that is idle."""
    time = Ticking(0.001 if nodes.rank else 0.1)
    run = serve(nodes, 200, now=time)
    server = Progress(run).batches
    wait = Arrivals.wait

    def arrived(arrivals: Arrivals) -> list[int]:
        workers = wait(arrivals)
        server[workers] += 1
        return workers

    monkeypatch.setattr(Arrivals, "wait", arrived)
    for number in range(1, 5):
        time.seconds += computing
        while run.works and server[run.worker] < number - 1:
            sleep(0.001)  # the push needs true time to go
        step(run, number, synchronize=number == 4)
        clock = run.telemetry.clock
        if run.works and 1 < number < 4:  # all wait for the last one at the synchronisation point
            pulls = pytest.approx((number - 1) * 0.001)
            assert (clock.wait, clock.communication) == ((0.0, pulls) if computing else (pulls, 0.0))
            assert clock.hidden == pytest.approx((number - 1) * (computing + 0.001))
    run.close()


@pytest.mark.parametrize("asks", [0, 1, -1])
@pytest.mark.parametrize("staleness", [1, 3, "unbounded"])
def test_all_stop_at_one_step(nodes: World, staleness: int | str, asks: int) -> None:
    """Whoever asks, with workers at most 4 batches apart, and with nothing left under way."""
    run = serve(nodes, staleness=staleness)
    rng, progress = np.random.default_rng(nodes.rank), Progress(run)
    asks, number, stopped = asks % nodes.size, 0, False

    def gradient() -> int:
        sleep(rng.uniform(0, 0.003))
        progress.wait_for_all_others(number - 4)
        progress.computed(number)
        return number

    while not stopped and number < 60:
        number += 1
        stop = nodes.rank == asks and number >= 10
        stopped = run.step(number, gradient, RATE, synchronize=number == 60, stop=stop).stop
    assert stopped
    assert set(nodes.comm.allgather(number)) == {number} and 10 <= number < 20
    assert run.all_alike()
    run.close()


@pytest.mark.mpi(min_size=3)
def test_whole_runs_learn_and_hide_the_exchange(world: World, place: Path) -> None:
    """And go on from a checkpoint."""
    whole = config().to_mapping() | {"optimizer": {"name": "adam", "learning_rate": 0.002}}
    train(whole | {"training": {"epochs": 4, "batch_size": 24}}, world.comm, output=place / "run")
    summary = train(whole, world.comm, output=place / "run", resume=True).summary
    assert summary["epochs"] == 8
    assert summary["validation_accuracy"] > 0.8
    assert all(seconds > 0.0 for seconds in summary["ranks_seconds"]["hidden"][1:])


def test_overlap_is_refused_where_it_would_be_wrong() -> None:
    """A synchronous batch begins with the parameters of the one before; DC-ASGD corrects for parameters it knows."""
    with pytest.raises(ConfigError, match="overlap.*needs staleness greater than 0"):
        config(staleness=0)
    with pytest.raises(ConfigError, match="overlap.*must be false with compensation delay"):
        config(compensation="delay")

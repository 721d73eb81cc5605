"""A parameter server's workers that compute while their push is under way."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter, sleep
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from onotrain import _kernels
from onotrain.config import Config
from onotrain.errors import ConfigError, PlatformError
from onotrain.nn import ParameterLayout
from onotrain.optim import Optimizer
from onotrain.parallel import mailbox
from onotrain.parallel.agreement import agreed
from onotrain.parallel.shared_memory import allocate
from onotrain.parallel.world import World
from onotrain.strategies import BatchShape, Context, StepStatistics, build
from onotrain.training import train

pytestmark = pytest.mark.mpi(min_size=2)

RATE = 0.1


@pytest.fixture(scope="module", params=["one node", "every rank a node"])
def nodes(request: pytest.FixtureRequest) -> World:
    """Return the job, whose pushes go through memory or through messages."""
    return World.connect(ranks_per_node=1 if request.param == "every rank a node" else None)


def config(**strategy: Any) -> Config:
    """Return a configuration of an asynchronous server with overlap."""
    return Config.from_mapping(
        {
            "data": {"train": "digits", "validation": 0.2},
            "model": {"layers": [{"dense": {"units": 32, "activation": "relu"}}, {"dense": 10}]},
            "loss": "cross_entropy",
            "optimizer": {"name": "sgd", "learning_rate": RATE},
            "training": {"epochs": 8, "batch_size": 24},
            "strategy": {
                "name": "parameter_server", "staleness": "unbounded", "overlap": True, "rate_scaling": "none",
                **strategy,
            },
        }
    )  # fmt: skip


class Run:
    """A parameter server on the ranks of a test, without a trainer."""

    def __init__(self, world: World, size: int = 500, codec: str = "none", **strategy: Any) -> None:
        made = Config.from_mapping(config(**strategy).to_mapping() | {"communication": {"codec": codec}})
        self.world, self.layout = world, ParameterLayout([("vector", (size,))], np.float32)
        with agreed(world.comm):
            rule = Optimizer(made.optimizer, None, _kernels.load("float32"))
            self.strategy: Any = build(Context.of(made, world, self.layout, rule))
        self.strategy.replica.broadcast()
        model: Any = SimpleNamespace(reserve=lambda rows: None, bind=lambda *arrays: None)
        self.strategy.bind(model, BatchShape(24, self.strategy.batches.capacity(24), 1))
        self.worker, self.statistics = world.rank - self.strategy.servers, StepStatistics()

    def step(self, number: int, *, synchronize: bool = False, stop: bool = False) -> StepStatistics:
        """Push a gradient of ones times the number."""
        self.statistics.clear()
        if self.worker >= 0:
            self.strategy.replica.gradient[:] = number
            self.statistics.losses[:] = 1.0, 1.0
            self.statistics.samples = 1
        if stop:
            self.statistics.ask_to_stop()
        self.strategy.step(RATE, number, self.strategy.workers, self.statistics, synchronize=synchronize)
        return self.statistics

    def close(self) -> None:
        """Give back what MPI holds, when nobody sends any more."""
        self.world.barrier()
        self.strategy.close()


def test_a_batch_knows_all_pushes_but_the_one_under_way(nodes: World) -> None:
    """With one worker; all of its gradients but the first two after a meeting are one update stale."""
    run = Run(nodes, servers=nodes.size - 1)
    applied = np.float32(0.0)
    for number in range(1, 21):
        run.step(number, synchronize=number in (7, 20))
        if run.worker >= 0 and number not in (7, 20):
            np.testing.assert_allclose(run.strategy.replica.parameters, applied, rtol=1e-6)
        applied -= np.float32(RATE) * np.float32(number)
        if number in (7, 20):
            np.testing.assert_allclose(run.strategy.replica.parameters, applied, rtol=1e-6)
    if nodes.rank == 0:
        assert run.strategy.telemetry.report()["staleness"]["histogram"] == [2, 18]
    run.close()


@pytest.mark.mpi(min_size=3)
@pytest.mark.parametrize("bound", [1, 2, 5])
def test_the_bound_holds_for_what_is_begun(nodes: World, bound: int) -> None:
    """What workers have computed is seen in shared memory, whatever the server thinks; one of them is slow."""
    run = Run(nodes, staleness=bound)
    with World.connect(nodes.comm) as machine:
        done = allocate(machine.node, {"done": ((run.strategy.workers,), np.int64)})["done"]
    rng, leads = np.random.default_rng(nodes.rank), []
    for number in range(1, 21):
        if run.worker >= 0:
            sleep(rng.uniform(0, 0.004) + 0.03 * (run.worker == 0))
            done[run.worker] = number
        run.step(number, synchronize=number == 20)
        if run.worker >= 0 and number < 20:
            leads.append(number - int(done.min()))
    assert 0 < max(nodes.comm.allgather(max(leads, default=0))) <= bound
    run.close()


@pytest.mark.mpi(min_size=3)
@pytest.mark.parametrize("codec", ["none", "bf16"])
def test_nobody_waits_for_a_worker_that_computes(nodes: World, codec: str) -> None:
    """A long reply is under way until its receiver looks for it; the server makes updates meanwhile."""
    if codec != "none" and nodes.nodes == 1:
        pytest.skip("Test requires 2 MPI processes")
    run = Run(nodes, 100_000, codec)
    with World.connect(nodes.comm) as machine:
        done = allocate(machine.node, {"done": ((run.strategy.workers,), np.int64)})["done"]
    others = 0
    for number in range(1, 13):
        if run.worker == 0 and number == 3:
            before = int(done[1])
            sleep(1.5)
            others = int(done[1]) - before
        run.step(number, synchronize=number == 12)
        if run.worker >= 0:
            done[run.worker] = number
    assert max(nodes.comm.allgather(others)) > 5
    run.close()


@pytest.mark.parametrize("sent", [True, False])
def test_what_the_server_does_while_a_worker_computes_is_no_wait(
    nodes: World, monkeypatch: pytest.MonkeyPatch, sent: bool
) -> None:
    """A long reply takes its time all the same: that is exchange.  Over TCP a long push may go after computing only."""
    run = Run(nodes, 1_000_000)
    if run.worker < 0:
        update = run.strategy._update

        def slow(*arguments: Any) -> None:
            sleep(0.01)
            update(*arguments)

        monkeypatch.setattr(run.strategy, "_update", slow)
    elif not sent:
        monkeypatch.setattr(run.strategy._outbox, "sent", lambda: False)
    for number in range(1, 5):
        if run.worker >= 0:
            sleep(0.25)
        run.step(number, synchronize=number == 4)
        if run.worker >= 0 and 1 < number < 4:  # all wait for the last one at the meeting
            assert (run.strategy.telemetry.clock.wait == 0.0) == sent
            assert run.strategy.telemetry.clock.hidden > 0.0
    run.close()


@pytest.mark.parametrize("asks", [0, 1, -1])
@pytest.mark.parametrize("staleness", [1, 3, "unbounded"])
def test_all_stop_at_one_step(nodes: World, staleness: int | str, asks: int) -> None:
    """Whoever asks, and with nothing left under way."""
    run = Run(nodes, staleness=staleness)
    rng = np.random.default_rng(nodes.rank)
    asks, number, stopped = asks % nodes.size, 0, False
    while not stopped and number < 60:
        number += 1
        if run.worker >= 0:
            sleep(rng.uniform(0, 0.003))
        stopped = run.step(number, synchronize=number == 60, stop=nodes.rank == asks and number >= 10).stop
    assert stopped
    assert set(nodes.comm.allgather(number)) == {number} and 10 <= number < 60
    assert len(set(nodes.comm.allgather(run.strategy.replica.parameters.tobytes()))) == 1
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


def test_a_server_that_waits_leaves_the_core_to_others(nodes: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sleeps for nine tenths of the time at least, and looks a hundred times in a second.

    Not the processor's time: to wake a virtual machine's core takes more of that than to look for letters does.
    """
    slept: list[float] = []

    def count(seconds: float) -> None:
        began = perf_counter()
        sleep(seconds)
        slept.append(perf_counter() - began)

    monkeypatch.setattr(mailbox, "sleep", count)
    if nodes.rank == 0:
        received = [np.zeros(4) for _ in range(nodes.size - 1)]
        inbox = mailbox.Inbox(nodes.comm, range(1, nodes.size), (1, 1), received, received, nodes.failures.check)
        for worker in range(nodes.size - 1):
            inbox.expect(worker)
        nodes.barrier()
        began, missing = perf_counter(), nodes.size - 1
        while missing:
            missing -= len(inbox.wait())
        seconds = perf_counter() - began
        assert sum(slept) > 0.9 * seconds
        # Some 50 times for each letter until pauses are at their longest, 10 ms.
        assert len(slept) < 60 * (nodes.size - 1) + 100 * seconds
        assert all((vector == worker + 1).all() for worker, vector in enumerate(received))
        inbox.close()
    else:
        outbox = mailbox.Outbox(nodes.comm, [0], (1, 1), [np.full(4, float(nodes.rank))], [np.zeros(4)])
        nodes.barrier()
        sleep(1.0)
        outbox.send()
        outbox.close()


def test_a_server_does_not_wait_for_workers_that_are_gone(nodes: World) -> None:
    def gone() -> None:
        raise PlatformError("rank 1 is gone")

    if nodes.rank == 0:
        received = [np.zeros(4)]
        inbox = mailbox.Inbox(nodes.comm, [1], (1, 1), received, received, gone)
        inbox.expect(0)
        with pytest.raises(PlatformError, match="rank 1 is gone"):
            inbox.wait()
        inbox.close()

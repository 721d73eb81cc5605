"""The parameter server against allreduce and one process: every step when synchronous, its promises when not."""

from __future__ import annotations

from collections.abc import Callable
from time import sleep
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from builders import ELEMENTWISE, OPTIMIZERS, filled
from onotrain import _kernels
from onotrain.config import Config
from onotrain.nn import ParameterLayout
from onotrain.optim import Optimizer, Shard
from onotrain.parallel import collectives
from onotrain.parallel.agreement import agreed
from onotrain.parallel.shared_memory import allocate
from onotrain.parallel.world import World
from onotrain.strategies import AllReduce, BatchShape, Context, StepStatistics, build

pytestmark = [pytest.mark.mpi(min_size=2)]

SHAPES = [("dense_0/weight", (37, 11)), ("dense_0/bias", (37,)), ("dense_1/weight", (5, 37)), ("dense_1/bias", (5,))]
BATCH = 24


def config(optimizer: str = "adam", clip: float | None = None, **strategy: Any) -> Config:
    """Return a configuration with these sections."""
    return Config.from_mapping(
        {
            "data": {"train": "digits"},
            "model": {"layers": [{"dense": 10}]},
            "loss": "cross_entropy",
            "optimizer": OPTIMIZERS[optimizer],
            "training": {"epochs": 1, "batch_size": BATCH, "clip_norm": clip},
            "strategy": {"name": "parameter_server", **strategy},
        }
    )


class Run:
    """A parameter server on the ranks of a test, without a trainer."""

    def __init__(self, world: World, configuration: Config, dtype: str = "float32") -> None:
        self.world, self.layout = world, ParameterLayout(SHAPES, dtype)
        self.rule = Optimizer(configuration.optimizer, configuration.training.clip_norm, _kernels.load(dtype))
        self.servers = configuration.strategy.servers
        self.workers, self.worker = world.size - self.servers, world.rank - self.servers
        with agreed(world.comm):
            self.strategy: Any = build(Context(world, self.layout, self.rule, configuration.strategy))
        if world.rank == 0:
            self.strategy.replica.parameters[:] = self.start
        self.strategy.replica.broadcast()
        model: Any = SimpleNamespace(reserve=lambda rows: None, bind=lambda *arrays: None)
        self.strategy.bind(model, BatchShape(BATCH, self.strategy.batches.capacity(BATCH), 1))
        self.tally = StepStatistics()

    @property
    def start(self) -> np.ndarray:
        """Return the parameters before the first step."""
        return filled(self.layout, 1000, 0)

    @property
    def works(self) -> bool:
        """Whether this rank is a worker."""
        return self.worker >= 0

    def step(
        self,
        number: int,
        gradient: Callable[[], np.ndarray] | None = None,
        *,
        synchronize: bool = False,
        stop: bool = False,
        loss: float | None = None,
    ) -> StepStatistics:
        """Make a step with a gradient and a loss, by default this worker's own of this number."""
        self.tally.clear()
        if self.works:
            own = filled(self.layout, self.worker, number) if gradient is None else gradient()
            self.strategy.replica.gradient[:] = own
            self.tally.losses[:] = self.worker + 1 if loss is None else loss, 1.0
            self.tally.samples = BATCH // self.workers
        if stop:
            self.tally.ask_to_stop()
        self.strategy.step(rate(number), number, BATCH, self.tally, synchronize=synchronize)
        if synchronize:
            self.strategy.replica.gather()
        return self.tally

    def all_alike(self) -> bool:
        """Whether all ranks have the same parameters; collective."""
        return len(set(self.world.comm.allgather(self.strategy.replica.parameters.tobytes()))) == 1

    def close(self) -> None:
        """Give back what MPI holds, when nobody sends any more."""
        self.world.barrier()
        self.strategy.close()


def rate(number: int) -> float:
    return 0.05 / number


@pytest.mark.parametrize("clip", [None, 3.0])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_synchronous_steps_are_those_of_allreduce(
    world: World, servers: int, optimizer: str, clip: float | None
) -> None:
    """50 steps, every one; to the bit where no sum over the whole gradient is in them, or one server has it all."""
    run = Run(world, config(optimizer, clip, servers=servers))
    group = World.connect(world.comm.Split(int(run.works), key=world.rank))
    options: Any = SimpleNamespace(bucket_mib=0.0, share="gradients")
    other = AllReduce(Context(group, run.layout, run.rule, options))
    other.replica.parameters[:] = run.start
    group.barrier()
    exact = run.rule.elementwise or (servers == 1 and run.workers == 1)
    tally = StepStatistics()
    for number in range(1, 51):
        total = run.step(number, synchronize=number == 50).values.copy()
        if run.works:
            tally.clear()
            tally.losses[:] = run.worker + 1, 1.0
            tally.samples = BATCH // run.workers
            other.replica.gradient[:] = filled(run.layout, run.worker, number)
            other.step(rate(number), number, BATCH, tally, synchronize=False)
            if exact:
                assert np.array_equal(run.strategy.replica.parameters, other.replica.parameters), number
            else:
                np.testing.assert_allclose(
                    run.strategy.replica.parameters, other.replica.parameters, rtol=1e-5, atol=1e-5
                )
        expected = world.comm.bcast(tally.values, root=servers)
        if world.rank == 0:
            np.testing.assert_allclose(total, expected, rtol=1e-6)
        elif number < 50:
            assert not total.any()
    assert run.all_alike()
    states = world.comm.bcast({k: v.copy() for k, v in other.replica.optimizer_state.items()}, root=servers)
    if world.rank == 0:
        assert run.strategy.replica.optimizer_state.keys() == states.keys()
        for name, vector in run.strategy.replica.optimizer_state.items():
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
    run = Run(world, config(optimizer, servers=servers, staleness="unbounded"))
    parameters, state = run.start, {name: run.layout.zeros() for name in run.rule.state_names}
    tensors = [tensor.range for tensor in run.layout]
    shard = Shard.of(tensors, slice(0, run.layout.size), parameters, state.values())
    for number in range(1, 21):
        run.step(number, synchronize=number % 7 == 0 or number == 20)
        gradient = filled(run.layout, 0, number)
        run.rule.update(shard, gradient[np.newaxis], rate(number), number, lambda values: None)
        if run.works:
            assert np.array_equal(run.strategy.replica.parameters, parameters), number
    assert np.array_equal(run.strategy.replica.parameters, parameters)
    if world.rank == 0:
        assert all(np.array_equal(vector, state[name]) for name, vector in run.strategy.replica.optimizer_state.items())
        told = run.strategy.telemetry.report()["staleness"]
        assert told == {"gradients": 20, "mean": 0.0, "max": 0, "histogram": [20], "run_histogram": [20]}
    run.close()


@pytest.mark.parametrize("staleness", [1, "unbounded"])
@pytest.mark.parametrize(("scaling", "power"), [("auto", 1.0), ("linear", 1.0), ("root", 0.5), ("none", 0.0)])
def test_pushes_move_parameters_by_their_share_of_the_batch(
    world: World, servers: int, scaling: str, power: float, staleness: int | str
) -> None:
    """SGD by default as far as the mean of all gradients does, which is one synchronous update, where none depends on
    parameters."""
    run = Run(world, config("sgd", servers=servers, staleness=staleness, rate_scaling=scaling))
    expected = run.start.astype("float64")
    for number in range(1, 31):
        run.step(number, synchronize=number % 10 == 0)
        for worker in range(run.workers):
            expected -= rate(number) * run.workers**-power * filled(run.layout, worker, number)
    np.testing.assert_allclose(run.strategy.replica.parameters, expected, rtol=1e-5, atol=1e-5)
    run.close()


@pytest.mark.mpi(min_size=3)
@pytest.mark.parametrize("bound", [1, 3, "unbounded"])
def test_no_worker_is_further_ahead_than_the_bound(world: World, servers: int, bound: int | str) -> None:
    """What workers have pushed is seen in shared memory, whatever the server thinks; one of them is slow."""
    run = Run(world, config("sgd", servers=servers, staleness=bound))
    if run.workers == 1:
        pytest.skip("Test requires 4 MPI processes")
    pushed = allocate(world.node, {"pushed": ((run.workers,), np.int64)})["pushed"]
    rng, leads = np.random.default_rng(world.rank), []

    def late() -> np.ndarray:
        sleep(rng.uniform(0, 0.004) + 0.025 * (run.worker == 0))  # much, for a busy machine makes all slow
        pushed[run.worker] = number
        return run.layout.zeros()

    for number in range(1, 41):
        run.step(number, late, synchronize=number == 40)
        if run.works and number < 40:
            leads.append(number - int(pushed.min()))
    lead = max(world.comm.allgather(max(leads, default=0)))
    if bound == "unbounded":
        assert lead > 3
    else:
        assert 0 < lead <= bound
    if world.rank == 0:
        report = run.strategy.telemetry.report()
        assert report["staleness"]["gradients"] == sum(report["staleness"]["histogram"]) == 40 * run.workers
        assert report["staleness"]["run_histogram"] == report["staleness"]["histogram"]
        # When it had pushed, and was not let go.
        assert bound == "unbounded" or max(report["worker_leads"]) <= bound + 1
        assert report["worker_steps"] == [40] * run.workers
        assert run.strategy.telemetry.report()["staleness"]["gradients"] == 0
    run.close()


MODES: list[int | str] = [0, 1, "unbounded"]


@pytest.mark.parametrize("staleness", MODES)
def test_settling_leaves_nothing_under_way(world: World, servers: int, staleness: int | str) -> None:
    """The same parameters on all ranks, the sum of all updates, and each batch's tally on rank 0, in order."""
    run = Run(world, config("sgd-nesterov", servers=servers, staleness=staleness))
    rng = np.random.default_rng(world.rank)
    for number in range(1, 31):
        if run.works:
            sleep(rng.uniform(0, 0.003))
        synchronize = number in (1, 2, 9, 30)
        tally = run.step(number, synchronize=synchronize)
        if synchronize or world.rank == 0:
            assert tally.loss_sum == run.workers * (run.workers + 1) / 2 and tally.correct == run.workers
            assert tally.samples == run.workers * (BATCH // run.workers) and not tally.stop and tally.finite
        else:
            assert tally.samples == 0 and tally.finite
        if synchronize:
            assert run.all_alike()
            whole = (
                [vector.copy() for vector in run.strategy.replica.optimizer_state.values()] if world.rank == 0 else []
            )
            run.strategy.replica.broadcast()  # changes nothing
            if world.rank == 0:
                assert all(map(np.array_equal, whole, run.strategy.replica.optimizer_state.values()))
                assert all(vector[run.layout.tensors[-1].offset] for vector in whole)
            assert run.all_alike()
    run.close()


@pytest.mark.parametrize("staleness", MODES)
@pytest.mark.parametrize("who", ["first", "second", "last"])
@pytest.mark.parametrize("why", ["stop", "gradient", "loss", "both numbers"])
def test_all_learn_of_stops_and_bad_numbers_at_one_step(
    world: World, servers: int, staleness: int | str, who: str, why: str
) -> None:
    """Whoever it is that knows, at whatever time; bad gradients are not applied."""
    rank = {"first": 0, "second": 1, "last": world.size - 1}[who]
    if why != "stop":
        rank = max(rank, servers)  # a server has no numbers of its own
    run = Run(world, config("sgd", servers=servers, staleness=staleness))
    rng, mine = np.random.default_rng(world.rank), world.rank == rank

    def gradient() -> np.ndarray:
        own = filled(run.layout, run.worker, number)
        sleep(rng.uniform(0, 0.003))
        if mine and number == 6 and why in ("gradient", "both numbers"):
            own[3] = np.inf
        return own

    for number in range(1, 41):
        bad = np.nan if mine and number == 6 and why in ("loss", "both numbers") else None
        tally = run.step(number, gradient, stop=mine and number >= 6 and why == "stop", loss=bad)
        if tally.stop or not tally.finite:
            break
    assert 6 <= number < 20
    assert len(set(world.comm.allgather((number, tally.stop, tally.finite)))) == 1
    assert tally.stop == (why == "stop") and tally.finite == (why == "stop")
    if staleness == 0:
        assert number == 6
    assert np.isfinite(run.strategy.replica.parameters).all() and run.all_alike()
    if why == "stop":  # all can go on from here
        for later in range(number + 1, number + 5):
            assert not run.step(later, synchronize=later == number + 4).stop
        assert run.all_alike()
    run.close()


@pytest.mark.parametrize("staleness", [2, "unbounded"])
@pytest.mark.parametrize("compensation", ["none", "learning_rate", "delay", "constant_batch"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_asynchronous_training_goes_downhill(
    world: World, servers: int, optimizer: str, compensation: str, staleness: int | str
) -> None:
    """Every optimiser with every compensation brings |w|^2 / 2 down, and counts its updates."""
    if optimizer not in ELEMENTWISE:
        servers = 1  # it has no more when not synchronous
    options = {"servers": servers, "staleness": staleness, "compensation": compensation}
    run = Run(world, config(optimizer, None if servers > 1 else 5.0, **options))
    before = float(np.square(run.start).sum())
    updates = 0
    for number in range(1, 31):
        tally = run.step(number, lambda: run.strategy.replica.parameters, synchronize=number == 30)
        updates += tally.gradient_squares > 0
    assert run.all_alike()
    assert float(np.square(run.strategy.replica.parameters).sum()) < before
    if world.rank == 0:
        assert updates <= 30 and run.strategy.replica.notes()["updates"] == (
            30 if compensation == "constant_batch" else 30 * run.workers
        )
    run.close()


def test_long_vectors_go_in_pieces(world: World, servers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the right order, the short last one too: bit-equal to vectors in one piece."""
    ends = []
    for piece_bytes in (1 << 30, 400):
        monkeypatch.setattr(collectives, "CHUNK_BYTES", piece_bytes)
        run = Run(world, config("adam", servers=servers))
        for number in range(1, 6):
            run.step(number, synchronize=number == 5)
        if run.works:
            requests = sum(len(letter.requests) for letter in run.strategy._outbox._back)
            assert requests == 2 * servers if piece_bytes > 400 else requests > 3 * servers
        ends.append(run.strategy.replica.parameters.tobytes())
        run.close()
    assert ends[0] == ends[1]

"""What went wrong in other systems for distributed training, one test for each mistake, by its number in the design.

Those that need no second rank (2, 6, 9 and a half of 10) are in tests/unit/test_mistakes_of_others.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest

import builders
from builders import at_start, filled, mapping, prepare, records
from onotrain._kernels.recording import Live, PythonCall
from onotrain.errors import NumericsError
from onotrain.nn import Model, ParameterLayout
from onotrain.parallel.world import World
from onotrain.runs.run_directory import RunDirectory
from onotrain.strategies import Context, StepStatistics, codecs
from onotrain.strategies.sums.coded_sum import coded_sum
from onotrain.training import train

pytestmark = [pytest.mark.mpi(min_size=2)]
RANKS = (1, 2, 4)

SAMPLES, FEATURES, CLASSES = 97, 11, 5
RATE, STEPS = 0.1, 8


def server(servers: int, staleness: int | str = 0) -> dict[str, Any]:
    """Return a strategy with a number of servers."""
    return {"name": "parameter_server", "servers": servers, "staleness": staleness}


def switch(servers: int, staleness: int | str = 0, **more: Any) -> dict[str, Any]:
    """Return one that goes over to a number of servers after two epochs."""
    return {"name": "strategy_switch", "at_epoch": 2, "server": server(servers, staleness), **more}


#: Everything that must train as one process does, step by step.  The validation data make `back` go back.
SYNCHRONOUS: dict[str, dict[str, Any]] = {
    "activations": {"name": "allreduce"},
    "gradients": {"name": "allreduce", "share": "gradients"},
    "flat": {"name": "flat"},
    "one server": server(1),
    "two servers": server(2),
    "three servers": server(3),
    "switch": switch(1),
    "switch to two servers and back": switch(2, switch_back={"patience": 1}),
}
#: The mean of whose steps is the step of the mean with SGD alone.
LOCAL: dict[str, dict[str, Any]] = {"local": {"name": "local_sgd", "period": 1}}
#: In which ranks go on without waiting for each other.
APART: dict[str, dict[str, Any]] = {
    "local for three steps": {"name": "local_sgd", "period": 3},
    "stale servers": server(1, 2),
    "asynchronous servers": server(2, "unbounded"),
    "asynchronous switch": switch(1, "unbounded"),
}


def enough_ranks(world: World, strategy: dict[str, Any]) -> None:
    """Skip a strategy whose servers would leave no worker."""
    servers = strategy.get("server", strategy).get("servers", 0)
    if world.size <= servers:
        pytest.skip(f"Test requires {servers + 1} MPI processes")


def samples() -> tuple[np.ndarray, np.ndarray]:
    """Return features and classes: every rank computes rows that no other has, and not all the same number."""
    rng = np.random.default_rng(3)
    return rng.normal(size=(SAMPLES, FEATURES)).astype(np.float32), rng.integers(0, CLASSES, SAMPLES)


def config(world: World, place: Path, **sections: Any) -> dict[str, Any]:
    """Return softmax regression in steps of all samples; its validation loss rises as it learns."""
    if world.rank == 0:
        x, y = samples()
        np.savez(place / "train.npz", x=x, y=y)
        np.savez(place / "validation.npz", x=-x, y=y)
    world.barrier()
    base = mapping(
        {"dense": {"units": CLASSES, "initializer": {"name": "constant", "value": 0.0}}},
        data={"train": str(place / "train.npz"), "validation": str(place / "validation.npz")},
        optimizer={"name": "sgd", "learning_rate": RATE},
        training={"epochs": STEPS, "batch_size": SAMPLES, "dtype": "float64"},
    )
    return base | sections


def parameters(run: Path) -> dict[str, np.ndarray]:
    """Return the tensors that a run ended with."""
    arrays = RunDirectory.open(run).checkpoint("latest").checkpoint.arrays
    return {name: values for name, values in arrays.items() if name.startswith("parameters/")}


def regression(steps: int, rule: Callable[[np.ndarray, int], np.ndarray]) -> dict[str, np.ndarray]:
    """Return what one process without onotrain gets, from the mean over all samples of the gradient."""
    x, y = samples()
    x, truth, w = np.c_[x, np.ones(SAMPLES)], np.eye(CLASSES)[y], np.zeros((CLASSES, FEATURES + 1))
    for step in range(1, steps + 1):
        p = np.exp(x @ w.T)
        p /= p.sum(axis=1, keepdims=True)
        w -= RATE * rule((p - truth).T @ x / SAMPLES, step)
    return {"parameters/dense_0/weight": w[:, :-1], "parameters/dense_0/bias": w[:, -1]}


def adam() -> Callable[[np.ndarray, int], np.ndarray]:
    """Return the rule of Kingma and Ba, algorithm 1, which remembers the gradients of all its steps."""
    m, v = np.zeros((2, CLASSES, FEATURES + 1))

    def rule(g: np.ndarray, step: int) -> np.ndarray:
        m[:], v[:] = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        return m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)

    return rule


def assert_alike(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Compare all tensors of a network."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("strategy", SYNCHRONOUS | LOCAL)
def test_1_all_reduce_averages_and_does_not_sum(world: World, place: Path, strategy: str) -> None:
    """Gradients were summed over the ranks: the effective learning rate grew with their number."""
    options = (SYNCHRONOUS | LOCAL)[strategy]
    enough_ranks(world, options)
    train(config(world, place, strategy=options), world.comm, output=place / "run")
    assert_alike(parameters(place / "run"), regression(STEPS, lambda g, step: g))


@pytest.mark.mpi(min_size=3)
@pytest.mark.parametrize(("servers", "staleness"), [(2, 0), (3, 0), (None, "unbounded")])
def test_3_servers_put_the_parameters_together_as_they_were_cut(
    world: World, place: Path, servers: int | None, staleness: int | str
) -> None:
    """Pieces came back in another order: silently wrong weights with more than one server."""
    # Asynchronous workers make the steps of one process if there is but one.
    options = server(servers or world.size - 1, staleness)
    enough_ranks(world, options)
    layers = [{"dense": {"units": 7, "activation": "tanh"}}, {"dense": {"units": 6}}, {"dense": CLASSES}]
    training = {"epochs": 3, "batch_size": 20, "dtype": "float64"}
    made = config(world, place, model={"layers": layers}, training=training, optimizer="adam")
    train({**made, "strategy": options}, world.comm, output=place / "run")
    alone = world.comm.Split(world.rank)
    train({**made, "strategy": "flat"}, alone, output=place / f"alone-{world.rank}")
    alone.Free()
    assert_alike(parameters(place / "run"), parameters(place / f"alone-{world.rank}"))


SWITCHES = [
    switch(1),
    switch(2),
    switch(3),
    switch(1, switch_back={"patience": 1}),
    switch(2, switch_back={"patience": 1}),
]


@pytest.mark.parametrize("options", SWITCHES, ids=["1", "2", "3", "1 and back", "2 and back"])
def test_4_a_switch_keeps_adams_state_and_the_count_of_epochs(
    world: World, place: Path, options: dict[str, Any]
) -> None:
    """Adam began anew with the second strategy, which then trained for as many epochs as the whole run was to have."""
    enough_ranks(world, options)
    optimizer = {"name": "adam", "learning_rate": RATE}
    made = config(world, place, optimizer=optimizer, strategy=options)
    summary = train(made, world.comm, output=place / "run").summary
    assert_alike(parameters(place / "run"), regression(STEPS, adam()))
    assert summary["epochs"] == summary["steps"] == STEPS
    found = records(place / "run")
    assert [record["epoch"] for record in found] == list(range(1, STEPS + 1))
    targets = [record["switch"]["to"] for record in found]
    assert targets[1] == "server" and ("synchronous" in targets) == ("switch_back" in options)


@pytest.mark.parametrize("name", [name for name in codecs.CODECS if name != "none"])
def test_5_owners_go_on_with_what_they_sent(world: World, name: str) -> None:
    """The owner of a sum kept it unrounded while the others got it in half precision: replicas drifted apart.

    And what rounding had cut off was lost; here all that was sent and the residuals are all gradients.
    """
    layout = ParameterLayout([("a/weight", (20, 13)), ("a/bias", (20,)), ("b/weight", (9, 20))], np.float32)
    options = {"name": name} | {"topk": {"fraction": 0.2}, "powersgd": {"rank": 2}}.get(name, {})
    made = builders.config(communication={"codec": options}, training={"seed": 7})
    context = Context.of(made, world, layout, builders.optimizer(made))
    gradient, residual, replica, exact = layout.zeros(), layout.zeros(), layout.zeros(), np.zeros(layout.size)
    sums = coded_sum(context, world.comm, slice(0, layout.size), gradient, residual, 0)
    for step in range(30):
        gradient[:] = filled(layout, world.rank, step)
        exact += gradient
        sums.start()
        sums.finish()
        replica += gradient
        assert len(set(world.comm.allgather(replica.tobytes()))) == 1
    sums.residuals.share()
    sums.close()
    np.testing.assert_allclose(replica + residual, world.comm.allreduce(exact), atol=2e-4)
    assert np.abs(residual).max() > 1e-3


@pytest.mark.parametrize("strategy", SYNCHRONOUS | LOCAL | APART)
def test_7_without_a_seed_all_ranks_begin_alike(
    world: World, place: Path, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a seed each rank drew first weights of its own, from the state that its generators happened to have."""
    options = (SYNCHRONOUS | LOCAL | APART)[strategy]
    enough_ranks(world, options)
    starts: list[bytes] = []
    at_start(monkeypatch, lambda components: starts.append(components.strategy.replica.parameters.tobytes()))
    model = {"layers": [{"dense": 6}, {"dense": CLASSES}]}
    training = {"epochs": 1, "batch_size": 30}
    made = config(world, place, model=model, training=training, strategy=options)
    generators = random.getstate(), np.random.get_state()
    for number in range(2):
        random.seed(10 * number + world.rank)
        np.random.seed(10 * number + world.rank)
        train(made, world.comm, output=place / f"run-{number}")
    random.setstate(generators[0])
    np.random.set_state(generators[1])
    assert len({start for ranks in world.comm.allgather(starts) for start in ranks}) == 1
    assert np.frombuffer(starts[0], np.float32).std() > 0.1


@pytest.mark.parametrize("what", ["features", "loss"])
@pytest.mark.parametrize("strategy", SYNCHRONOUS | LOCAL | APART)
def test_8_a_nan_of_one_worker_ends_the_run_on_all_ranks(
    world: World, place: Path, strategy: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No comparison with a NaN holds: early stopping and the switch were off from then on, and nobody was told."""
    options = (SYNCHRONOUS | LOCAL | APART)[strategy]
    enough_ranks(world, options)
    record = Model.record

    def poisoned(self: Model, x: Any, targets: Any, samples: int, loss_sums: Any, **more: Any) -> Any:
        def poison(of: str, step: int) -> None:
            if step == 9 and len(x) and what == of:
                (x if what == "features" else loss_sums).flat[0] = np.nan

        calls = record(self, x, targets, samples, loss_sums, **more)
        return [
            PythonCall(poison, "features", Live.STEP), *calls, PythonCall(poison, "loss", Live.STEP)
        ]  # fmt: skip

    if world.rank == world.size - 1:
        monkeypatch.setattr(Model, "record", poisoned)
    training = {"epochs": 9, "batch_size": 25, "early_stopping": {"metric": "train_loss", "patience": 8}}
    with pytest.raises(NumericsError, match="diverged at step") as caught:
        train(config(world, place, training=training, strategy=options), world.comm, output=place / "run")
    assert caught.value.agreed
    assert len(set(world.comm.allgather(caught.value.message))) == 1
    assert len(records(place / "run")) == 2


@pytest.mark.timeout(60)
@pytest.mark.parametrize("servers", [1, 2])
def test_10_an_asynchronous_server_with_adam_makes_whole_updates_and_ends(world: World, servers: int) -> None:
    """A server that updated without locks, with an optimiser that has a state, hung now and then.

    Each gradient has one value throughout, so parameters that saw the same updates are equal; workers come at random.
    """
    enough_ranks(world, server(servers))
    layout = ParameterLayout([("dense_0/weight", (500, 1024))], "float32")
    made = builders.config(optimizer="adam", strategy=server(servers, "unbounded"))
    run = builders.strategy(made, world, layout)
    run.replica.broadcast()
    prepare(run, 24)
    shards = [layout.shard(number, servers) for number in range(servers)]
    rng, workers, statistics = np.random.default_rng(world.rank), world.size - servers, StepStatistics()
    torn = 0
    for step in range(1, 151):
        statistics.clear()
        if world.rank >= servers:
            sleep(rng.exponential(0.001))
            run.replica.gradient[:] = rng.normal()
            statistics.samples = 24 // workers
        run.step(0.01, step, 24, statistics, synchronize=step == 150)
        if world.rank >= servers:
            torn += sum(np.ptp(run.replica.parameters[shard]) != 0.0 for shard in shards)
    assert world.comm.allreduce(torn) == 0
    assert len(set(world.comm.allgather(run.replica.parameters.tobytes()))) == 1
    run.replica.gather()
    if world.rank == 0:
        assert run.telemetry.report()["staleness"]["gradients"] == run.replica.notes()["updates"] == 150 * workers
        for vector in run.replica.optimizer_state.values():
            assert all(np.ptp(vector[shard]) == 0.0 and vector[shard].any() for shard in shards)
    world.barrier()
    run.close()

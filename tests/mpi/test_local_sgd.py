"""Local SGD on any number of ranks: against closed forms, against synchronous steps, and in whole trainings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import builders
from builders import SHAPES, changed, filled, mapping, records, relu
from onotrain.errors import NumericsError, StoppedOnRequest
from onotrain.nn import ParameterLayout
from onotrain.parallel.stop_signals import StopRequest
from onotrain.parallel.world import World
from onotrain.strategies import StepStatistics, Strategy
from onotrain.strategies.balance import LocalSlices
from onotrain.training import train
from onotrain.training.local_gradient import LocalGradient

pytestmark = pytest.mark.mpi
RANKS = (1, 2, 3)
USUAL_RANKS = (1, 3)

OUTERS: dict[str, Any] = {
    "none": "none",
    "nesterov": "nesterov",
    "adam": {"name": "adam", "learning_rate": 0.02},
}


def config(**sections: Any) -> dict[str, Any]:
    """Return a configuration of 12 steps an epoch."""
    base = mapping(relu(8), 10, data={"validation": 0.2}, optimizer={"name": "sgd", "learning_rate": 0.1})
    return changed(changed(base, training={"epochs": 2, "batch_size": 120}), **sections)


def make(
    world: World, strategy: Any, *, optimizer: Any = "sgd", clip: float | None = None, dtype: str = "float32"
) -> Strategy:
    """Return a strategy that begins with parameters that are not zero."""
    layout = ParameterLayout(SHAPES, dtype)
    made = builders.config(strategy=strategy, optimizer=optimizer, training={"clip_norm": clip, "dtype": dtype})
    run: Strategy = builders.strategy(made, world, layout)
    if world.rank == 0:
        run.replica.parameters[:] = start_of(layout)
    run.replica.broadcast()
    return run


def start_of(layout: ParameterLayout) -> np.ndarray:
    """Return the first parameters."""
    return filled(layout, 1000, 0)


def target(run: Any, world: World, step: int) -> np.ndarray:
    """Return where this rank is drawn to in a step: its gradient is what it lacks to be there."""
    return filled(ParameterLayout(SHAPES, run.replica.parameters.dtype), world.rank, step)


def advance(
    run: Any, gradient: np.ndarray, number: int, rows: int, rate: float = 0.05, synchronize: bool = False
) -> StepStatistics:
    """Make one step with a gradient of this rank's; return the statistics."""
    statistics = StepStatistics()
    statistics.losses[:] = float(rows), 0.5 * rows
    statistics.samples = rows
    run.replica.gradient[:] = gradient
    run.step(rate, number, 1, statistics, synchronize=synchronize)
    return statistics


@pytest.mark.parametrize(
    "optimizer",
    [
        {"name": "sgd"},
        {"name": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    ],
)
def test_averaging_after_every_step_is_synchronous_sgd(world: World, optimizer: dict[str, Any]) -> None:
    """50 steps whose gradients depend on the parameters; the mean of linear steps is the step of the mean."""
    local, flat = (make(world, s, optimizer=optimizer) for s in ({"name": "local_sgd", "period": 1}, "flat"))
    for step in range(50):
        for run, weight in ((local, 1.0), (flat, 1.0 / world.size)):
            advance(run, weight * (run.replica.parameters - target(run, world, step)), step + 1, rows=3)
    assert (
        np.abs(local.replica.parameters - flat.replica.parameters).max() <= 1e-6 * np.abs(flat.replica.parameters).max()
    )
    for name, state in local.replica.optimizer_state.items():
        assert np.abs(state - flat.replica.optimizer_state[name]).max() <= 1e-6 * np.abs(state).max()


def test_training_that_meets_after_every_step_is_that_of_allreduce(world: World, place: Path) -> None:
    """Batches that all ranks have equal slices of, in double precision: the same losses, and steps told alike."""
    samples = {"data": {"validation": None}, "training": {"batch_size": 1797, "dtype": "float64"}}
    if 1797 % world.size:
        pytest.skip("slices of 1797 digits are not equal; Test requires 3 MPI processes")
    losses = []
    for name in ("allreduce", {"name": "local_sgd", "period": 1}):
        made = train(config(strategy=name, **samples), world.comm, output=place / str(len(losses)))
        losses.append(made.summary["train_loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-12)


def test_the_mean_is_weighted_by_the_samples_of_each_rank(world: World) -> None:
    """Closed form over two steps and two averaging rounds; a rank that got no rows keeps still and counts nothing."""
    run = make(world, {"name": "local_sgd", "period": 2}, dtype="float64")
    layout = ParameterLayout(SHAPES, "float64")
    w = start_of(layout)
    for averaging_round in range(2):
        rows = np.array([[(rank + step + averaging_round) % 3 for step in range(2)] for rank in range(world.size)])
        rows[0] += 1
        gradients = [[filled(layout, rank, averaging_round, step) for step in range(2)] for rank in range(world.size)]
        for step in range(2):
            advance(run, gradients[world.rank][step], 2 * averaging_round + step + 1, int(rows[world.rank, step]))
        moved = [sum(g for g, n in zip(gradients[r], rows[r], strict=True) if n) for r in range(world.size)]
        w = w - 0.05 * sum(n / rows.sum() * m for n, m in zip(rows.sum(axis=1), moved, strict=True))
        np.testing.assert_allclose(run.replica.parameters, w, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("inner_state", ["average", "keep", "reset"])
@pytest.mark.parametrize("outer", OUTERS)
def test_replicas_are_equal_to_the_bit_after_every_averaging_round(world: World, outer: str, inner_state: str) -> None:
    """And only then: between two averaging rounds, or of a state that is kept, ranks have their own."""
    options = {"name": "local_sgd", "period": 3, "outer": OUTERS[outer], "inner_state": inner_state}
    run: Any = make(world, options, optimizer="adam", clip=0.5)
    for step in range(11):
        synchronize = step == 6
        advance(run, target(run, world, step), step + 1, rows=world.rank + 1, synchronize=synchronize)
        met = step in (2, 5, 6, 9)
        assert run.replica.complete == met
        parameters = world.comm.allgather(run.replica.parameters.tobytes())
        assert (len(set(parameters)) == 1) == (met or world.size == 1)
        own = {
            name: vector.tobytes()
            for state in (run.replica.optimizer_state, run.replica.strategy_state)
            for name, vector in state.items()
        }
        kept = inner_state == "keep" and world.size > 1
        for name in own if met else ():
            alike = len(set(world.comm.allgather(own[name]))) == 1
            assert alike != (kept and name in run.replica.optimizer_state)
        if met and inner_state == "reset":
            assert not any(run.replica.optimizer_state[name].any() for name in ("m", "v"))
    assert not run.replica.parameters[builders.gaps(ParameterLayout(SHAPES, "float32"))].any()
    report = run.telemetry.report()
    assert report == {"averaging_rounds": 4, "period": 3} and run.telemetry.report()["averaging_rounds"] == 0


def test_state_that_is_averaged_is_the_weighted_mean(world: World) -> None:
    """Velocities of ranks with different gradients and numbers of samples."""
    run = make(world, {"name": "local_sgd", "period": 1}, optimizer={"name": "sgd", "momentum": 0.9}, dtype="float64")
    layout = ParameterLayout(SHAPES, "float64")
    advance(run, filled(layout, world.rank), 1, rows=world.rank + 1)
    weights = np.arange(1, world.size + 1) / (world.size * (world.size + 1) / 2)
    expected = sum(p * filled(layout, rank) for rank, p in enumerate(weights))
    np.testing.assert_allclose(run.replica.optimizer_state["velocity"], expected, rtol=1e-12, atol=1e-13)


def test_diloco_at_rate_1_without_momentum_is_the_mean_to_the_bit(world: World) -> None:
    """Douillard et al., section 2: federated averaging is a special case."""
    outer = {"name": "nesterov", "learning_rate": 1.0, "momentum": 0.0}
    ends = []
    for options in ({"outer": "none"}, {"outer": outer}):
        run = make(world, {"name": "local_sgd", "period": 3, **options}, optimizer="adam")
        for step in range(9):
            advance(run, target(run, world, step), step + 1, rows=world.rank + 1)
        ends.append(run.replica.parameters.tobytes())
    assert ends[0] == ends[1]


def test_running_means_that_begin_anew_are_corrected_as_at_the_beginning(world: World) -> None:
    """Adam's steps on a gradient of ones are the learning rate; else the one after a reset would be 3.2 times it."""
    run = make(world, {"name": "local_sgd", "period": 4, "inner_state": "reset"}, optimizer="adam", dtype="float64")
    layout = ParameterLayout(SHAPES, "float64")
    for step in range(10):
        advance(run, layout.zeros() + 1.0, step + 1, rows=1, rate=0.01)
    moved = start_of(layout) - run.replica.parameters
    np.testing.assert_allclose(moved, 0.1, rtol=1e-6)


@pytest.mark.parametrize("what", ["loss", "gradient", "stop"])
def test_what_one_rank_knows_all_learn_in_the_same_averaging_round(world: World, what: str) -> None:
    """Before it nobody is told anything, and afterwards only once."""
    run = make(world, {"name": "local_sgd", "period": 4})
    for step in range(8):
        statistics = StepStatistics()
        statistics.losses[0], statistics.samples = 1.0, 2
        run.replica.gradient[:] = 0.001
        if step == 1 and world.rank == world.size - 1:
            if what == "stop":
                statistics.ask_to_stop()
            elif what == "loss":
                statistics.losses[0] = np.nan
            else:
                run.replica.gradient[3] = np.inf
        run.step(0.05, step + 1, 1, statistics, synchronize=False)
        if step == 3:
            assert statistics.samples == 8 * world.size and statistics.finite == (what == "stop")
            assert statistics.stop == (what == "stop")
            assert what != "stop" or statistics.loss_sum == 4 * world.size
            if what != "stop":
                return
        else:
            assert not statistics.stop and statistics.finite and statistics.samples == (step == 7) * 8 * world.size


def test_the_gradient_reported_is_the_mean_square_of_the_local_ones(world: World) -> None:
    """As large as one step's, however many ranks and steps it is over, so that logs of runs can be compared."""
    run = make(world, {"name": "local_sgd", "period": 3}, dtype="float64")
    gradients = [filled(ParameterLayout(SHAPES, "float64"), world.rank, step) for step in range(3)]
    for step, gradient in enumerate(gradients):
        statistics = advance(run, gradient, step + 1, rows=world.rank + 1)
    squares = world.comm.allgather(sum(float(g @ g) for g in gradients))
    weights = np.arange(1, world.size + 1)
    assert statistics.gradient_squares == pytest.approx(weights @ squares / (3 * weights.sum()), rel=1e-9)


def test_a_strong_proximal_term_keeps_ranks_at_the_start(world: World) -> None:
    """With learning rate x mu = 1 a step begins at the last round's parameters again: one step away, not eight."""
    far = []
    for mu in (0.0, 20.0):
        run = make(world, {"name": "local_sgd", "period": 9, "proximal": mu}, dtype="float64")
        layout = ParameterLayout(SHAPES, "float64")
        gradient = filled(layout, world.rank)
        for step in range(8):
            advance(run, gradient, step + 1, rows=1)
        far.append(run.replica.parameters - start_of(layout))
    np.testing.assert_allclose(far[0], -8 * 0.05 * gradient, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(far[1], -0.05 * gradient, rtol=1e-9, atol=1e-12)


def test_post_local_meets_often_first(world: World, place: Path) -> None:
    """1438 samples are 12 steps: 12 averaging rounds an epoch, later one after every 5 and at the end."""
    by_epoch = {"name": "local_sgd", "period": {"name": "post_local", "steps": 5, "from_epoch": 2}}
    by_rate = {"name": "local_sgd", "period": {"name": "post_local", "steps": 5}}
    drops = {"name": "multi_step", "milestones": [3], "factor": 0.5}
    training = {"epochs": 4}
    for name, strategy, local in (("epoch", by_epoch, 2), ("rate", by_rate, 3)):
        made = config(strategy=strategy, schedule=drops, training=training)
        train(made, world.comm, output=place / name)
        found = records(place / name)
        assert [record["steps"] for record in found] == [12, 24, 36, 48]
        assert [record["averaging_rounds"] for record in found] == [12] * local + [3] * (4 - local)
        assert [record["period"] for record in found] == [1] * local + [5] * (4 - local)


def test_adaptive_meets_more_often_as_the_loss_falls(world: World, place: Path) -> None:
    """AdaComm's rule on the losses that the run recorded; averaging rounds follow from the period."""
    training = {"epochs": 6}
    strategy = {"name": "local_sgd", "period": {"name": "adaptive", "steps": 12}}
    train(config(strategy=strategy, training=training), world.comm, output=place / "run")
    found = records(place / "run")
    period = 12
    for number, record in enumerate(found):
        if number >= 2:
            wanted = math.ceil(math.sqrt(found[number - 1]["train_loss"] / found[0]["train_loss"]) * 12)
            period = wanted if wanted < period else -(-period // 2)
        assert record["period"] == period and record["averaging_rounds"] == -(-12 // period)
    assert found[-1]["period"] < 12


@pytest.mark.parametrize("inner_state", ["average", "reset"])
@pytest.mark.parametrize("outer", OUTERS)
def test_resuming_is_as_if_there_had_been_no_stop(world: World, place: Path, outer: str, inner_state: str) -> None:
    """In an epoch, at its end, and where the period has changed: parameters, state and rules go on to the bit."""
    strategy = {"name": "local_sgd", "outer": OUTERS[outer], "inner_state": inner_state}
    strategy |= {"period": {"name": "post_local", "steps": 3, "from_epoch": 1}}
    training = {"epochs": 3, "clip_norm": 1.0}
    whole = config(strategy=strategy, optimizer="adam", training=training)
    expected = train(whole, world.comm, output=place / "whole").summary
    keys = ("averaging_rounds", "period", "train_loss")
    for stop in (6, 12, 18):
        part, run = changed(whole, training={"max_steps": stop}), place / str(stop)
        assert train(part, world.comm, output=run).summary["steps"] == stop
        again = train(whole, world.comm, output=run, resume=True).summary
        assert again["parameters_sha256"] == expected["parameters_sha256"], stop
        kept = [[{key: record[key] for key in keys} for record in records(of)] for of in (place / "whole", run)]
        assert kept[0] == kept[1]


def test_strategies_take_over_from_each_other(world: World, place: Path) -> None:
    """The velocity of the outer step begins at zero, and is no one else's."""
    diloco = {"name": "local_sgd", "period": 4, "outer": "nesterov"}
    for epochs, strategy in ((1, "allreduce"), (2, diloco), (3, "flat"), (4, {**diloco, "outer": "adam"})):
        made = config(strategy=strategy, optimizer="adam", training={"epochs": epochs})
        result = train(made, world.comm, output=place / "run", resume=epochs > 1)
        assert result.summary["epochs"] == epochs and result.summary["finished"]
        assert result.summary["strategy"] == made["strategy"] or strategy["name"] == result.summary["strategy"]
    losses = [record["train_loss"] for record in records(place / "run")]
    assert losses[1] < losses[0]


def test_a_wish_of_one_rank_stops_all_in_the_next_averaging_round(
    world: World, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run stops after step 5 of period 5, though it was asked to in step 2, and goes on as if it had not."""
    strategy = {"name": "local_sgd", "period": 5}
    expected = train(config(strategy=strategy), world.comm, output=place / "whole").summary
    gradient = LocalGradient.__call__
    calls = []

    def signal_in_step_2(self: LocalGradient, *arguments: Any) -> None:
        calls.append(1)
        gradient(self, *arguments)

    asked = property(lambda self: "SIGTERM" if world.rank == world.size - 1 and len(calls) >= 1 else None, _ignore)
    with monkeypatch.context() as patch:
        patch.setattr(LocalGradient, "__call__", signal_in_step_2)
        patch.setattr(StopRequest, "signal", asked, raising=False)
        with pytest.raises(StoppedOnRequest, match="after step 5;"):
            train(config(strategy=strategy), world.comm, output=place / "run")
    again = train(config(strategy=strategy), world.comm, output=place / "run", resume=True).summary
    assert again["parameters_sha256"] == expected["parameters_sha256"]


def _ignore(self: Any, value: Any) -> None:
    """Let the constructor set the attribute that a test computes."""


def test_divergence_of_one_rank_ends_the_run_on_all(world: World, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the same averaging round, with the same words; what was saved before is kept."""
    if world.rank == world.size - 1:
        monkeypatch.setattr(LocalSlices, "averaged", lambda self, samples: math.nan)  # so are loss and gradient
    with pytest.raises(NumericsError, match="diverged at step 5 ") as caught:
        train(config(strategy={"name": "local_sgd", "period": 5}), world.comm, output=place / "run")
    assert len(set(world.comm.allgather(caught.value.message))) == 1
    assert not list((place / "run" / "checkpoints").glob("*.h5"))


def test_batches_shorter_than_the_ranks_are_many(world: World, place: Path) -> None:
    """The last batch of the 97 samples has one row, and most ranks none: no step for them, and a mean without them."""
    rng = np.random.default_rng(0)
    if world.rank == 0:
        np.savez(place / "data.npz", x=rng.normal(size=(97, 4)).astype(np.float32), y=rng.integers(0, 3, 97))
    world.barrier()
    made = config(
        data={"train": str(place / "data.npz"), "validation": None},
        model={"layers": [{"dense": 3}]},
        training={"epochs": 3, "batch_size": 24},
        strategy={"name": "local_sgd", "period": 4, "outer": "nesterov"},
        optimizer="adam",
    )
    summary = train(made, world.comm, output=place / "run").summary
    assert summary["finished"] and [record["averaging_rounds"] for record in records(place / "run")] == [2, 2, 2]
    assert math.isfinite(summary["train_loss"])


def test_checkpoints_by_the_clock_are_made_at_synchronisation_points(
    world: World, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two averaging rounds rank 0's parameters are nobody else's."""
    checkpoint = {"every_seconds": 1e-9, "every_epochs": None, "keep": 100}
    strategy = {"name": "local_sgd", "period": 5}
    train(config(strategy=strategy, checkpoint=checkpoint), world.comm, output=place / "run")
    if world.rank == 0:
        steps = sorted(int(path.stem.rpartition("-")[2]) for path in (place / "run" / "checkpoints").glob("step*.h5"))
        assert steps == [5, 10, 12, 17, 22, 24]

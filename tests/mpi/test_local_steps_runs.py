"""Whole trainings whose workers make several steps of their own between two pushes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from builders import at_start, changed, mapping, records, refused, relu, write_digits
from onotrain.data import stream_feed
from onotrain.errors import NumericsError, StoppedOnRequest
from onotrain.parallel.world import World
from onotrain.training import train
from onotrain.training.components import Components

pytestmark = pytest.mark.mpi(min_size=2)
USUAL_RANKS = (2, 4)

#: 24 steps an epoch: 1438 samples, of which the last batch has 58.
CONFIG = mapping(
    relu(32),
    {"dropout": 0.1},
    10,
    data={"validation": 0.2},
    optimizer={"name": "adam", "learning_rate": 3e-3},
    training={"epochs": 3, "batch_size": 60},
)
MODES: list[dict[str, Any]] = [
    {"push_every": 4},
    {"push_every": "epoch"},
    {"push_every": 4, "staleness": 2},
    {"push_every": 4, "staleness": "unbounded", "compensation": "learning_rate"},
    {"push_every": 4, "staleness": "unbounded", "overlap": True},
    {"push_every": "epoch", "staleness": "unbounded"},
]


def trained(world: World, output: Path, *, resume: bool = False, **sections: Any) -> dict[str, Any]:
    """Train; return the summary."""
    sections["strategy"] = {"name": "parameter_server", **sections.pop("strategy", {})}
    world.barrier()
    return dict(train(changed(CONFIG, **sections), world.comm, output=output, resume=resume).summary)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_the_digits_are_learnt(world: World, place: Path, servers: int, mode: dict[str, Any]) -> None:
    """And every sample counts once an epoch, with slices that follow throughput too."""
    for balance in ("none", "throughput"):
        training = {"epochs": 8, "load_balance": balance}
        summary = trained(world, place / balance, training=training, strategy={"servers": servers, **mode})
        assert summary["finished"] and summary["steps"] == 8 * 24
        assert summary["validation_accuracy"] > 0.8
        assert summary["train_loss"] < 1.0


@pytest.mark.mpi(min_size=3)
def test_synchronous_training_is_that_of_local_sgd(world: World, place: Path) -> None:
    """The same losses, with statistics over batches too, where the slices are equal and the rule has no state."""
    if 60 % (world.size - 1) or 58 % (world.size - 1):
        pytest.skip("slices of 60 and 58 samples are not equal; Test requires 3 MPI processes")
    workers = World.connect(world.comm.Split(int(world.rank > 0), key=world.rank))
    layers = [relu(16), "batch_norm", {"dense": {"units": 10}}]
    sections: dict[str, Any] = {"optimizer": {"name": "sgd", "learning_rate": 0.1}, "training": {"dtype": "float64"}}
    sections["model"] = {"layers": layers}
    summary = trained(world, place / "server", strategy={"push_every": 5}, **sections)
    if world.rank > 0:
        made = changed(CONFIG, strategy={"name": "local_sgd", "period": 5}, **sections)
        expected = train(made, workers.comm, output=place / "local").summary
        for key in ("train_loss", "validation_loss", "validation_accuracy"):
            assert summary[key] == pytest.approx(expected[key], rel=1e-9)


@pytest.mark.parametrize(("every", "pushes"), [(6, 4), (5, 5), ("epoch", 1)])
def test_messages_become_as_few(world: World, place: Path, every: Any, pushes: int) -> None:
    """A worker sends and gets its share of the bytes, and the servers count the pushes; the last has no reply."""
    found = {}
    for name, period in (("all", 1), ("few", every)):
        strategy = {"push_every": period, "staleness": 3}
        trained(
            world, place / name, strategy=strategy, optimizer={"name": "sgd"}, training={"epochs": 1},
            simulate={"ranks_per_node": 1},
        )  # fmt: skip
        (found[name],) = records(place / name)
    assert found["all"]["staleness"]["gradients"] == 24 * (world.size - 1)
    assert found["few"]["staleness"]["gradients"] == pushes * (world.size - 1)
    assert found["few"]["worker_steps"] == [pushes] * (world.size - 1)
    of_all, of_few = (found[name]["ranks_bytes"]["sent"] for name in ("all", "few"))
    assert of_few[0] * 23 == of_all[0] * (pushes - 1)
    assert all(few * 24 == every_one * pushes for few, every_one in zip(of_few[1:], of_all[1:], strict=True))


@pytest.mark.parametrize("every", [4, "epoch"])
@pytest.mark.parametrize("codec", ["none", "int8"])
def test_a_run_goes_on_from_its_checkpoint(world: World, place: Path, servers: int, codec: str, every: Any) -> None:
    """In the middle of an epoch; synchronous training has the same bits as without a break."""
    sections: dict[str, Any] = {"strategy": {"servers": servers, "push_every": every}, "checkpoint": {"every_steps": 7}}
    sections |= {"communication": {"codec": codec}, "simulate": {"ranks_per_node": 1}}
    stopped = trained(world, place / "run", **sections, training={"max_steps": 35})
    assert stopped["steps"] == 35 and not stopped["finished"]
    gone_on = trained(world, place / "run", resume=True, **sections)
    whole = trained(world, place / "whole", **sections)
    assert gone_on["steps"] == whole["steps"] == 72 and gone_on["finished"]
    assert gone_on["parameters_sha256"] == whole["parameters_sha256"]
    assert [record["train_loss"] for record in records(place / "run")] == [
        record["train_loss"] for record in records(place / "whole")
    ]


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("who", ["first", "last"])
def test_a_request_to_stop_saves_and_goes_on(
    world: World, place: Path, who: str, mode: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a push, which may be that of the epoch's end."""
    rank = 0 if who == "first" else world.size - 1

    def ask(components: Components) -> None:
        if world.rank == rank:
            components.stop.signal = "SIGUSR1"

    with monkeypatch.context() as patch:
        at_start(patch, ask)
        with pytest.raises(StoppedOnRequest) as caught:
            trained(world, place / "run", strategy=mode)
        assert len(set(world.comm.allgather(caught.value.message))) == 1
    summary = trained(world, place / "run", resume=True, strategy=mode)
    assert summary["finished"] and summary["steps"] == 72


def test_a_stop_of_a_rule_without_state_changes_no_bit(
    world: World, place: Path, servers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes after a push that was due, and the next period begins there in any case."""
    sections: dict[str, Any] = {"strategy": {"push_every": 5, "servers": servers}, "optimizer": {"name": "sgd"}}
    with monkeypatch.context() as patch:
        at_start(patch, lambda components: setattr(components.stop, "signal", "SIGUSR1"))
        with pytest.raises(StoppedOnRequest, match="after step 5;"):
            trained(world, place / "run", **sections)
    summary = trained(world, place / "run", resume=True, **sections)
    whole = trained(world, place / "whole", **sections)
    assert summary["parameters_sha256"] == whole["parameters_sha256"]


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_divergence_is_everyones(world: World, place: Path, mode: dict[str, Any]) -> None:
    """At a step that ends with a push."""
    made = changed(
        CONFIG,
        data={"validation": None, "normalize": {"mean": 0.0, "std": 1e-6}},
        strategy={"name": "parameter_server", **mode},
        optimizer={"name": "sgd", "learning_rate": 1e30},
    )
    refused(world, NumericsError, "diverged at step", made, world.comm, output=place / "run")


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_batches_may_be_shorter_than_the_workers_are_many(world: World, place: Path, mode: dict[str, Any]) -> None:
    """Of 3 samples, and 1 at the end; each counts in the loss that is reported."""
    write_digits(world, place / "digits.h5", samples=301)
    data = {"train": str(place / "digits.h5"), "validation": None}
    summary = trained(world, place / "run", data=data, training={"batch_size": 3, "epochs": 2}, strategy=mode)
    first, second = records(place / "run")
    assert summary["steps"] == 202 and second["train_loss"] < first["train_loss"]


def test_a_stream_may_be_read_together(
    world: World, place: Path, servers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Synchronous workers wait for each other where the next samples are read, here after 128, not for a push."""
    monkeypatch.setattr(stream_feed, "_MIB", 128 * 64 * 4)
    write_digits(world, place / "digits.h5")
    data = {"train": str(place / "digits.h5"), "validation": None, "stream": True, "window_mib": 1}
    summary = trained(world, place / "run", data=data, strategy={"servers": servers, "push_every": "epoch"})
    assert summary["finished"]


@pytest.mark.parametrize("server", [{"push_every": 4, "staleness": 0}, {"push_every": 4}, {"push_every": "epoch"}])
def test_a_switch_takes_the_optimisers_state_along(
    world: World, place: Path, server: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the workers, and back from them; a run that ends in the second phase goes on in it."""
    states: list[dict[str, Any]] = []

    def see(components: Components) -> None:
        strategy = components.strategy
        change = strategy._change

        def changes() -> None:
            change()
            found = strategy.replica.optimizer_state
            states.append({name: vector.copy() for name, vector in found.items()})

        strategy._change = changes

    strategy = {"name": "strategy_switch", "at_epoch": 1, "server": server, "switch_back": {"max_staleness": 1e-9}}
    at_start(monkeypatch, see)
    for epochs in (2, 4):
        summary = trained(world, place / "run", resume=epochs > 2, training={"epochs": epochs}, strategy=strategy)
    assert summary["finished"] and summary["validation_accuracy"] > 0.7
    phases = [record["phase"] for record in records(place / "run")]
    assert phases[:2] == ["synchronous", "server"]
    first = world.comm.bcast(states[0], root=0)
    assert set(first) == {"m", "v"} and all(vector.any() for vector in first.values())
    if world.rank > 0:
        assert all((vector == first[name]).all() for name, vector in states[0].items())

"""Links between simulated nodes: an exchange takes at least its latency and the time of its bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import builders
from builders import records, relu
from onotrain.parallel.world import World
from onotrain.strategies import injection
from onotrain.training import train

pytestmark = pytest.mark.mpi(min_size=2)
RANKS = (2, 3, 4)
USUAL_RANKS = (2, 4)

LATENCY_S = 2e-3
#: A byte takes a microsecond.
LINK = {"delay_ms": 1e3 * LATENCY_S, "bandwidth_mbit": 8.0}
BYTE_S = 8e-6 / LINK["bandwidth_mbit"]
#: Of 1797 samples, 300 in a batch, the last one of which is shorter.
STEPS = 6
STRATEGIES: dict[str, dict[str, Any]] = {
    "allreduce": {"name": "allreduce"},
    "overlap": {"name": "allreduce", "bucket_mib": 0.002},
    "flat": {"name": "flat"},
    "local": {"name": "local_sgd", "period": 2, "inner_state": "average"},
    "local, keep": {"name": "local_sgd", "period": 2, "inner_state": "keep"},
    "server": {"name": "parameter_server"},
}


def run(world: World, folder: Path, strategy: str | dict[str, Any], **sections: Any) -> tuple[dict[str, Any], str]:
    """Train an epoch of some steps; return its record, and the digest of the parameters."""
    made = builders.config(
        relu(32),
        10,
        optimizer={"name": "sgd", "learning_rate": 0.05, "momentum": 0.9},
        training={"epochs": 1, "batch_size": 300},
        strategy=STRATEGIES[strategy] if isinstance(strategy, str) else strategy,
        **sections,
    )
    summary = train(made, world.comm, output=folder).summary
    (record,) = world.comm.bcast(records(folder) if world.rank == 0 else None, root=0)
    assert record["steps"] == STEPS
    return record, summary["parameters_sha256"]


def modelled_seconds(world: World, record: dict[str, Any], strategy: str) -> float:
    """Return how long the exchanges of an epoch take at least, by the bytes that the telemetry has counted."""
    sent = record["ranks_bytes"]["sent"]
    if strategy != "server":
        exchanges = STEPS // 2 if strategy.startswith("local") else STEPS
        return exchanges * LATENCY_S + max(sent) * BYTE_S
    # All pushes come over the link of the server; the next one goes when the last reply has come.
    workers = world.size - 1
    return (STEPS - 1) * LATENCY_S + sum(sent[1:]) * BYTE_S + sent[0] / workers * BYTE_S


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_exchanges_take_their_time_and_change_nothing(world: World, place: Path, strategy: str) -> None:
    """Every rank a node; and without a bandwidth the same bits."""
    plain, expected = run(world, place / "plain", strategy, simulate={"ranks_per_node": 1})
    record, seen = run(world, place / "slow", strategy, simulate={"ranks_per_node": 1, **LINK})
    assert seen == expected and record["ranks_bytes"] == plain["ranks_bytes"]
    assert max(record["ranks_bytes"]["sent"]) > 0
    assert record["train_seconds"] >= modelled_seconds(world, record, strategy)


@pytest.mark.parametrize("options", [{}, {"overlap": True}, {"servers": 2}], ids=str)
def test_pushes_wait_for_the_link_of_a_server_that_waits_for_nobody(
    world: World, place: Path, options: dict[str, Any]
) -> None:
    """Asynchronous workers: each server has its range of all their pushes."""
    servers = options.get("servers", 1)
    if world.size <= servers:
        pytest.skip("Test requires 3 MPI processes")
    strategy = {"name": "parameter_server", "staleness": "unbounded", "rate_scaling": "none", **options}
    record, _ = run(world, place / "run", strategy, simulate={"ranks_per_node": 1, **LINK})
    pushed = sum(record["ranks_bytes"]["sent"][servers:])
    assert record["train_seconds"] >= pushed / servers * BYTE_S > 0.0


@pytest.mark.parametrize("strategy", ["allreduce", "flat", "local, keep", "server"])
def test_a_codec_saves_the_time_of_its_bytes(
    world: World, place: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    """Messages of int8 are less than a third as long, and so is what ranks sleep, however busy the machine is."""
    slept: list[float] = []
    real = injection.sleep

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        real(seconds)

    monkeypatch.setattr(injection, "sleep", sleep)
    slow = {"ranks_per_node": 1, "bandwidth_mbit": 8e-6 / BYTE_S}
    plain, _ = run(world, place / "plain", strategy, simulate=slow)
    slept.clear()
    coded, _ = run(world, place / "coded", strategy, simulate=slow, communication={"codec": "int8"})
    sent, raw = (coded["ranks_bytes"][kind] for kind in ("sent", "raw"))
    assert raw == plain["ranks_bytes"]["raw"] and sum(raw) > 3 * sum(sent)
    assert plain["train_seconds"] >= max(raw) * BYTE_S
    # A worker waits for its own push and for the replies to all.
    longest = sum(sent) if strategy == "server" else max(sent)
    assert 0.0 < max(world.comm.allgather(sum(slept))) <= longest * BYTE_S


def test_ranks_of_a_node_share_its_link(world: World, place: Path) -> None:
    """The whole job as one node: with `flat` its link carries what all of its ranks send."""
    record, _ = run(world, place / "run", "flat", simulate=LINK)
    sent = record["ranks_bytes"]["sent"]
    assert record["train_seconds"] >= STEPS * LATENCY_S + world.size * max(sent) * BYTE_S


@pytest.mark.parametrize("bucket_mib", [0, 0.002])
def test_owners_of_shards_share_the_link_of_their_node(world: World, place: Path, bucket_mib: float) -> None:
    """All-reduce between two nodes: a node sends one gradient, each rank its shard at the same time."""
    if world.size < 4:
        pytest.skip("Test requires 4 MPI processes")
    strategy = {"name": "allreduce", "bucket_mib": bucket_mib}
    record, _ = run(world, place / "run", strategy, simulate={"ranks_per_node": 2, **LINK})
    sent = record["ranks_bytes"]["sent"]
    gradient = 4 * (64 * 32 + 32 + 32 * 10 + 10)
    assert STEPS * gradient <= sent[0] + sent[1] < 1.1 * STEPS * gradient and min(sent) > STEPS * gradient / 3
    assert record["train_seconds"] >= STEPS * LATENCY_S + (sent[0] + sent[1]) * BYTE_S


def test_ranks_that_share_memory_use_no_link(world: World, place: Path) -> None:
    """All-reduce on one node."""
    record, _ = run(world, place / "run", "allreduce", simulate={"bandwidth_mbit": 1e-6})
    assert sum(record["ranks_bytes"]["sent"]) == 0

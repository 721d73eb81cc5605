"""Simulated runs: who waits for whom, by hand, and what failures cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import builders
from onotrain.config.cluster import Cluster
from onotrain.errors import UsageError
from onotrain.parallel.world import World
from onotrain.planning.course import Course, machine_of, simulate
from onotrain.planning.plan import Prediction, enough, faster, noise_scale, one_rank, predictions, recommended
from onotrain.planning.simulated import decided
from onotrain.planning.workload import Workload
from onotrain.simulation.costs import Costs
from onotrain.simulation.machine import HEADERS, TWO_WAY

SAMPLES, BATCH, STEPS = 1797, 600, 3
#: A row takes a millisecond.
COSTS = Costs(np.array([1.0, 1000.0]), np.array([1e-3, 1.0]), 0.01)
SERVER = {"name": "parameter_server"}


@pytest.fixture(scope="module")
def world() -> World:
    return World.connect()


def workload(world: World, strategy: Any = "allreduce", **sections: Any) -> Workload:
    training = {"epochs": 2, "batch_size": BATCH, **sections.pop("training", {})}
    return Workload.of(builders.config(10, strategy=strategy, training=training, **sections), world)


def course(world: World, ranks: int, strategy: Any = "allreduce", cluster: Any = None, **sections: Any) -> Course:
    load = workload(world, strategy, **sections)
    return simulate(load, machine_of(load, Cluster.model_validate(cluster or {}), ranks, COSTS))


class TestEpochs:
    def test_all_ranks_wait_for_the_slowest(self, world: World) -> None:
        record = course(world, 3, cluster={"slow_ranks": [{"rank": 2, "factor": 2.0}]}).records[0]
        # Each computes a third of each batch, updates, and adds up what the others send, which takes little.
        assert record["train_seconds"] == pytest.approx(2 * SAMPLES / 3 * 1e-3 + STEPS * 0.01, rel=0.01)
        compute = record["ranks_seconds"]["compute"]
        assert compute[2] > 1.9 * compute[0] and compute[0] == compute[1]
        for kinds in zip(*record["ranks_seconds"].values(), strict=True):
            assert sum(kinds) == pytest.approx(record["train_seconds"])

    def test_slices_by_throughput(self, world: World) -> None:
        cluster = {"slow_ranks": [{"rank": 2, "factor": 2.0}]}
        record = course(world, 3, cluster=cluster, training={"load_balance": "throughput"}).records[0]
        assert record["train_seconds"] == pytest.approx(SAMPLES * 0.4e-3 + STEPS * 0.01, rel=0.02)

    def test_the_exchange_of_all_reduce(self, world: World) -> None:
        alone, linked = (
            course(world, 4, cluster=cluster).records[0]["train_seconds"]
            for cluster in ({}, {"bandwidth_mbit": 8.0, "latency_us": 100.0})
        )
        vector = 4 * 656  # 64 x 10 weights and 10 biases, to the next cache line
        expected = 2 * (TWO_WAY * HEADERS * vector * 3 / 4 * 1e-6 + 1e-4)
        assert linked - alone == pytest.approx(STEPS * expected, rel=1e-6)

    def test_a_server_sends_everything_twice(self, world: World) -> None:
        link = {"bandwidth_mbit": 0.08}  # a vector takes 0.27 s
        vector = 4 * 656 * HEADERS * 1e-4
        record = course(world, 3, SERVER, link).records[0]
        computing = SAMPLES / 2 * 1e-3
        pushes_and_replies = (3 + 2) * 2 * vector + 2 * vector  # of two workers; the last ones get a broadcast
        assert record["train_seconds"] == pytest.approx(computing + pushes_and_replies, rel=0.05)
        assert record["staleness"]["max"] == 0

    def test_asynchronous_workers_do_not_wait(self, world: World) -> None:
        slow = {"slow_ranks": [{"rank": 2, "factor": 10.0}]}
        together, bounded, apart = (
            course(world, 4, {**SERVER, "staleness": staleness}, slow, training={"batch_size": 60}).records[0]
            for staleness in (0, 2, "unbounded")
        )
        waits = [record["ranks_seconds"]["wait"][1] for record in (together, bounded, apart)]
        assert waits[0] > waits[1] > waits[2] == 0.0
        assert apart["staleness"]["mean"] > together["staleness"]["mean"] == 0.0

    def test_local_sgd_meets_less_often(self, world: World) -> None:
        link = {"bandwidth_mbit": 1.0}
        records = [
            course(world, 2, {"name": "local_sgd", "period": period}, link, training={"batch_size": 60}).records[0]
            for period in (1, 10)
        ]
        assert [record["averaging_rounds"] for record in records] == [30, 3]
        assert records[0]["train_seconds"] > 2 * records[1]["train_seconds"]

    def test_a_switch(self, world: World) -> None:
        records = course(world, 3, {"name": "strategy_switch", "at_epoch": 1}).records
        assert [(each["phase"], each["servers"]) for each in records] == [("synchronous", 0), ("server", 1)]

    def test_a_switch_of_a_real_training(self) -> None:
        made = builders.config(10, strategy={"name": "strategy_switch"})
        phases = ["synchronous", "synchronous", "server"]
        assert decided(made, [{"phase": phase} for phase in phases]).strategy.at_epoch == 2
        for undecided in ([], [{"phase": "synchronous"}] * 3):
            assert decided(made, undecided) == made

    def test_it_says_that_nothing_has_taken_place(self, world: World) -> None:
        made = course(world, 2, cluster={"bandwidth_mbit": 100.0})
        assert made.summary["method"] == "allreduce; SIMULATED: the whole run, bandwidth_mbit 100"

    @pytest.mark.parametrize(
        ("strategy", "match"),
        [({"name": "strategy_switch"}, "at_epoch"), ({**SERVER, "servers": 2}, "needs 3 ranks")],
    )
    def test_what_cannot_be_simulated(self, world: World, strategy: Any, match: str) -> None:
        with pytest.raises(UsageError) as caught:
            course(world, 2, strategy)
        assert match in f"{caught.value.message} {caught.value.hint}"

    def test_groups_without_bandwidth(self, world: World) -> None:
        groups = {"nodes": 2, "bandwidth_mbit": [[None, 1.0], [1.0, None]]}
        course(world, 4, cluster={"groups": groups})
        with pytest.raises(UsageError, match=r"rows for 4 nodes \(got 5\)"):
            course(world, 5, cluster={"groups": groups})

    def test_a_slow_rank_that_is_not_there(self, world: World) -> None:
        with pytest.raises(UsageError, match="no rank 5"):
            course(world, 2, cluster={"slow_ranks": [{"rank": 5, "factor": 2.0}]})


class TestFailures:
    EPOCHS = 40

    def run(self, world: World, seed: int = 0, **cluster: Any) -> Course:
        training = {"epochs": self.EPOCHS, "seed": seed}
        return course(world, 2, cluster={"restart_seconds": 5.0, **cluster}, training=training)

    def test_they_cost_restarts_and_lost_work(self, world: World) -> None:
        calm, failing = self.run(world), self.run(world, mtbf_hours=20 / 3600)
        epoch = calm.records[0]["train_seconds"]
        failures = failing.summary["failures"]
        assert failures > 0 and calm.summary["failures"] == 0
        lost = failing.summary["train_seconds"] - calm.summary["train_seconds"]
        # Checkpoints are made after each epoch: a failure costs a part of one, half of it in the mean.
        assert 0 < lost < failures * epoch
        assert failing.summary["wall_seconds"] == pytest.approx(failing.summary["train_seconds"] + 5.0 * failures)
        assert sum(record.get("failures", 0) for record in failing.records) == failures

    def test_they_are_as_many_as_the_mean_time_says(self, world: World) -> None:
        mean = 20.0  # of each of two nodes [s]
        found = [self.run(world, seed, mtbf_hours=mean / 3600) for seed in range(40)]
        failures, lasted = (sum(each.summary[key] for each in found) for key in ("failures", "train_seconds"))
        assert failures == pytest.approx(lasted / (mean / 2), rel=0.15)

    def test_who_seldom_saves_loses_more(self, world: World) -> None:
        often, seldom = (
            sum(
                course(
                    world, 2, cluster={"mtbf_hours": 30 / 3600, "restart_seconds": 0.0},
                    training={"epochs": self.EPOCHS, "seed": seed}, checkpoint={"every_epochs": every},
                ).summary["train_seconds"]
                for seed in range(5)
            )
            for every in (1, 10)
        )  # fmt: skip
        assert seldom > 1.2 * often

    def test_a_training_that_never_ends(self, world: World) -> None:
        with pytest.raises(UsageError, match="does not come to its end"):
            self.run(world, mtbf_hours=1e-6)


class TestPlan:
    def found(self, world: World, ranks: int = 4, **cluster: Any) -> list[Prediction]:
        load = workload(world, training={"batch_size": 60})
        every = predictions(load, Cluster.model_validate(cluster), ranks, COSTS)
        return [each for each in every if isinstance(each, Prediction)]

    def test_the_configured_method_comes_first_and_none_twice(self, world: World) -> None:
        found = self.found(world)
        assert [each.configured for each in found] == [True, *[False] * (len(found) - 1)]
        names = [each.method for each in found]
        assert names[0] == "allreduce" and len(set(names)) == len(names) >= 7

    def test_a_slow_network_asks_for_fewer_bytes(self, world: World) -> None:
        found = self.found(world, bandwidth_mbit=0.1)
        best, why = recommended(found)
        assert best.exact and "exchange" in why and best.exchange > 0.5
        names = [each.method for each, times in faster(found, best) if times > 1.5]
        assert any("int8" in name for name in names) and any(name.startswith("local_sgd") for name in names)

    def test_a_fast_one_is_no_matter(self, world: World) -> None:
        best, why = recommended(self.found(world, ranks_per_node=4))
        assert "computing" in why and best.exchange == 0.0 and best.efficiency > 0.9
        assert faster(self.found(world, ranks_per_node=4), best) == []

    def test_when_more_ranks_do_not_help(self, world: World) -> None:
        load = workload(world)
        few, _, known = enough(load, Cluster(bandwidth_mbit=0.2), 64, COSTS)
        many, _, _ = enough(load, Cluster(ranks_per_node=1024), 64, COSTS)
        assert known and few < many <= BATCH

    def test_the_noise_scale_is_that_of_all_measurements(self) -> None:
        records = [
            {"noise_variance": 6.0, "noise_square": 1.0, "noise_batches": 1},
            {"noise_variance": 2.0, "noise_square": 3.0, "noise_batches": 3},
            {"noise_variance": None, "noise_square": None, "noise_batches": 0}, {},
        ]  # fmt: skip
        assert noise_scale(records) == pytest.approx((6.0 + 3 * 2.0) / (1.0 + 3 * 3.0))
        assert noise_scale(records[2:]) is None

    def test_what_is_recorded_does_not_matter(self, world: World) -> None:
        load = workload(world, metrics={"noise_scale": True})
        every = list(predictions(load, Cluster(), 4, COSTS))
        assert not [each for each in every if isinstance(each, str)]

    def test_one_rank(self, world: World) -> None:
        assert one_rank(workload(world), COSTS) == pytest.approx(STEPS * (BATCH * 1e-3 + 0.01), rel=1e-3)

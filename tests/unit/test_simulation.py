"""A cluster that need not exist: speeds, links, and what follows from them, against numbers by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onotrain.config.cluster import Cluster
from onotrain.simulation.costs import Costs
from onotrain.simulation.machine import HEADERS, TWO_WAY, Machine

COSTS = Costs(np.array([10.0, 20.0, 40.0]), np.array([1.0, 1.5, 3.5]), 0.25)
#: A byte takes a microsecond, with headers.
BYTE_S = 1e-6
MBIT = 8.0 * HEADERS


def machine(ranks: int, seed: int = 0, **cluster: Any) -> Machine:
    return Machine(Cluster.model_validate(cluster), ranks, COSTS, seed)


class TestCosts:
    @pytest.mark.parametrize(
        ("rows", "seconds"), [(10, 1.0), (15, 1.25), (30, 2.5), (40, 3.5), (50, 4.5), (4, 0.7), (1, 0.55), (0, 0.0)]
    )
    def test_between_and_beyond(self, rows: int, seconds: float) -> None:
        assert COSTS.of_rows(np.array([rows]))[0] == pytest.approx(seconds)

    def test_one_measurement(self) -> None:
        costs = Costs(np.array([8.0]), np.array([2.0]), 0.0)
        assert costs.of_rows(np.array([0, 4, 8, 16])) == pytest.approx([0.0, 2.0, 2.0, 4.0])

    def test_never_below_zero(self) -> None:
        assert Costs(np.array([8.0, 9.0]), np.array([1.0, 9.0]), 0.0).of_rows(np.array([1]))[0] == 0.0


class TestSpeeds:
    def test_shares_of_slower_nodes(self) -> None:
        made = machine(40, ranks_per_node=2, slower=[{"share": 0.25, "factor": 2.0}, {"share": 0.1, "factor": 5.0}])
        values, counts = np.unique(made.factors, return_counts=True)
        assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == {1.0: 26, 2.0: 10, 5.0: 4}
        assert (made.factors[::2] == made.factors[1::2]).all()  # ranks of a node are alike

    def test_other_seeds_slow_other_nodes(self) -> None:
        slower = [{"share": 0.5, "factor": 2.0}]
        assert (machine(64, slower=slower).factors == machine(64, slower=slower).factors).all()
        assert (machine(64, slower=slower).factors != machine(64, 1, slower=slower).factors).any()

    def test_slow_ranks(self) -> None:
        assert machine(3, slow_ranks=[{"rank": 1, "factor": 4.0}]).factors.tolist() == [1.0, 4.0, 1.0]

    def test_jitter_and_stragglers_have_their_means(self) -> None:
        rows = np.full(50, 10)
        jitter = machine(50, jitter=0.5).computing(0, rows, 2000, 0)
        assert jitter.min() >= 1.0 and jitter.mean() == pytest.approx(1.5, rel=0.02)
        slow = machine(50, stragglers={"probability": 0.1, "factor": 3.0}).computing(0, rows, 2000, 0)
        assert set(np.unique(slow)) == {1.0, 3.0} and slow.mean() == pytest.approx(1.2, rel=0.02)

    def test_each_epoch_has_other_delays_and_each_run_the_same(self) -> None:
        rows = np.full(4, 10)
        one, other = (machine(4, jitter=1.0).computing(0, rows, 5, epoch) for epoch in (0, 1))
        assert (one != other).all() and (one == machine(4, jitter=1.0).computing(0, rows, 5, 0)).all()

    def test_cores_that_are_shared(self) -> None:
        assert [machine(8, cores=2).crowding(ranks) for ranks in (1, 2, 3, 8)] == [1.0, 1.0, 2.0, 4.0]
        assert machine(8).crowding(8) == 1.0


class TestLinks:
    def test_nodes_are_filled_one_after_the_other(self) -> None:
        made = machine(7, ranks_per_node=3)
        assert (made.nodes, made.node_of.tolist()) == (3, [0, 0, 0, 1, 1, 1, 2])

    def test_a_star(self) -> None:
        made = machine(4, bandwidth_mbit=MBIT, latency_us=5.0)
        assert made.link(1000.0) == pytest.approx(1e-3)
        assert made.all_to_all(1000.0) == pytest.approx(TWO_WAY * 3e-3 + 5e-6)
        assert made.pairwise(1000.0) == pytest.approx(TWO_WAY * 1e-3 + 5e-6)
        assert machine(4).all_to_all(1e9) == 0.0

    def test_one_node_has_no_link(self) -> None:
        made = machine(4, ranks_per_node=4, bandwidth_mbit=1.0, latency_us=1e6)
        assert (made.all_to_all(1e6), made.pairwise(1e6)) == (0.0, 0.0)

    def test_between_groups(self) -> None:
        groups = {"nodes": 2, "bandwidth_mbit": [[None, MBIT / 4], [MBIT / 2, None]]}
        made = machine(4, groups=groups)
        # Four pairs of nodes in each direction; the slower one is what it takes.
        assert made.all_to_all(1000.0) == pytest.approx(4 * 1000 * 4 * BYTE_S)
        assert made.between(1, 0, 1000.0) == pytest.approx(2e-3)
        assert made.pairwise(1000.0) == pytest.approx(2 * 4e-3)

    def test_one_number_for_any_two_groups(self) -> None:
        made = machine(6, groups={"nodes": 2, "bandwidth_mbit": MBIT})
        assert made.between(1, 2, 1000.0) == made.between(2, 0, 1000.0) == pytest.approx(1e-3)
        assert made.between(1, 1, 1000.0) == 0.0
        assert made.all_to_all(1000.0) == pytest.approx(4e-3)

    def test_within_a_group(self) -> None:
        made = machine(3, groups={"nodes": 3, "bandwidth_mbit": [[MBIT]]})
        assert made.all_to_all(1000.0) == pytest.approx(6e-3)

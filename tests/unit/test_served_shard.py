"""A server's range: its updates are those of the rule on that range, counted, and only when nobody reads it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import builders
from builders import SHAPES, filled
from onotrain.nn import ParameterLayout
from onotrain.strategies import Context, StepStatistics
from onotrain.strategies.parameter_server.delta_shard import DeltaShard
from onotrain.strategies.parameter_server.message_pump import Push
from onotrain.strategies.parameter_server.pending import PendingBatches
from onotrain.strategies.parameter_server.push_pull import waiting_part
from onotrain.strategies.parameter_server.roles import RoleCommunicator, Roles
from onotrain.strategies.parameter_server.shard import ServedShard
from onotrain.strategies.telemetry import Clock

LAYOUT = ParameterLayout(SHAPES, "float32")
BATCH, RATE = 12, 0.05


class Served:
    """A shard of one of two servers of two workers, and the same range updated by the rule itself."""

    def __init__(
        self, rank: int = 0, kind: type[ServedShard] = ServedShard, layout: ParameterLayout = LAYOUT, **strategy: Any
    ) -> None:
        options = {"name": "parameter_server", "servers": 2, "staleness": "unbounded", **strategy}
        made = builders.config(strategy=options, optimizer="adam", training={"batch_size": BATCH})
        world: Any = None  # nothing here sends
        ranges = tuple(layout.shard(server, 2) for server in range(2))
        servers = RoleCommunicator(world, range(1), Clock())
        self.roles = Roles(rank, 2, 2, made.strategy.bulk_synchronous, ranges, (0,) * 4, servers, servers)
        self.rule = builders.optimizer(made)
        #: The parameters of the range, each time that the shard has waited for its readers.
        self.waits: list[np.ndarray] = []
        self.parameters, own = filled(layout, 1), filled(layout, 1)
        context = Context.of(made, world, layout, self.rule)
        self.shard = kind(context, self.roles, self.parameters, self._wait)
        self.shard.bind(BATCH)
        part = self.roles.range
        state = [layout.zeros()[part] for _ in self.rule.state_names]
        self.expected = self.rule.shard(layout.tensors, part, own[part], state)

    def _wait(self) -> None:
        self.waits.append(self.parameters[self.roles.range].copy())

    def push(self, seed: int, samples: int = 6) -> Push:
        """Return a push of worker 0."""
        statistics = StepStatistics()
        statistics.samples = samples
        return Push(0, 1, RATE, statistics, filled(LAYOUT, 2, seed)[self.roles.range])

    def update(self, gradients: np.ndarray, number: int) -> float:
        """Update what is expected."""
        return self.rule.update(self.expected, gradients.copy(), RATE, number, lambda values: None)

    def assert_equal(self) -> None:
        """Compare to the bit."""
        np.testing.assert_array_equal(self.parameters[self.roles.range], self.expected.parameters)
        own = self.roles.range if self.roles.rank == 0 else slice(None)
        for vector, expected in zip(self.shard.optimizer_state.values(), self.expected.state, strict=True):
            np.testing.assert_array_equal(vector[own], expected)


@pytest.mark.parametrize("rank", [0, 1])
def test_every_push_is_an_update_of_the_range(rank: int) -> None:
    """Numbered over all workers; rank 0 has whole vectors of the state, for checkpoints, the other its range."""
    served = Served(rank)
    served.shard.begin(1)
    before = served.parameters.copy()
    for number in (1, 2, 3):
        squares = served.update(served.push(number).gradient[np.newaxis], number)
        assert served.shard.apply(served.push(number), 0) == squares > 0.0
        assert served.shard.version == number
    served.assert_equal()
    others = np.ones(LAYOUT.size, bool)
    others[served.roles.range] = False
    np.testing.assert_array_equal(served.parameters[others], before[others])
    size = LAYOUT.size if rank == 0 else len(served.shard.parameters)
    assert {len(vector) for vector in served.shard.optimizer_state.values()} == {size}


def test_a_batch_is_one_update_with_the_sum_of_its_pushes() -> None:
    served = Served(staleness=0)
    served.shard.begin(5)
    gradients = np.stack([served.push(worker).gradient for worker in range(2)])
    squares = served.update(gradients, 5)
    assert served.shard.update(gradients, RATE, 5) == squares
    assert served.shard.version == 5
    served.assert_equal()


def test_parameters_change_only_when_nobody_is_sent_them() -> None:
    """The wait comes before the change, and only if there is one: a push of no rows changes nothing."""
    served = Served()
    served.shard.begin(1)
    before = served.shard.parameters.copy()
    assert served.shard.apply(served.push(1, samples=0), 0) == 0.0
    assert served.waits == [] and served.shard.version == 0
    np.testing.assert_array_equal(served.shard.parameters, before)
    served.shard.apply(served.push(1), 0)
    assert len(served.waits) == 1
    np.testing.assert_array_equal(served.waits[0], before)


def test_updates_are_counted_on_from_what_was_before() -> None:
    """The batches of another strategy, or the updates that a checkpoint knows of."""
    served = Served()
    assert served.shard.notes() == {}
    served.shard.begin(8)
    assert served.shard.version == 7
    served.shard.begin(30)  # after a synchronisation point
    assert served.shard.notes() == {"updates": 7}
    resumed = Served()
    resumed.shard.restore({"updates": 21})
    resumed.shard.begin(8)
    resumed.shard.apply(resumed.push(1), 0)
    assert resumed.shard.notes() == {"updates": 22}


def test_what_a_compensation_holds_back_is_applied_at_a_synchronization_point() -> None:
    """Half a batch; and one that is too stale is reported."""
    served = Served(compensation={"name": "constant_batch", "limit": 1})
    served.shard.begin(1)
    assert served.shard.report() == {}
    assert served.shard.apply(served.push(1), 0) == 0.0 and served.waits == []
    squares = served.update(served.push(1).gradient[np.newaxis], 1)
    assert served.shard.flush() == pytest.approx(squares) and served.shard.version == 1
    np.testing.assert_allclose(served.shard.parameters, served.expected.parameters, atol=1e-6)
    assert served.shard.flush() == 0.0
    served.shard.apply(served.push(2), 2)
    assert served.shard.report() == {"dropped_samples": 6}


def test_what_a_compensation_remembers_is_in_the_state() -> None:
    served = Served(compensation={"name": "delay", "adaptive": True})
    served.shard.begin(1)
    served.shard.apply(served.push(1), 1)
    mean = served.shard.compensation_state["mean_square"]
    assert len(mean) == LAYOUT.size and mean[served.roles.range].any() and not mean[served.roles.ranges[1]].any()


@pytest.mark.parametrize("rank", [0, 1])
def test_deltas_are_subtracted(rank: int) -> None:
    """As they are in a batch, at a rate of a compensation alone; rank 0 has state for checkpoints, and none changes."""
    layout = ParameterLayout(SHAPES, "float32", rates={SHAPES[3][0]: 0.5})
    served = Served(rank, DeltaShard, layout, push_every=4, compensation="learning_rate")
    assert set(served.shard.optimizer_state) == (set() if rank else {"m", "v"})
    served.shard.begin(7)
    part = served.roles.range
    deltas = np.stack([filled(layout, 3, worker)[part] for worker in range(2)])
    expected = served.parameters[part] - deltas.sum(axis=0)
    assert served.shard.update_with_batch(deltas.copy(), RATE, 7) == 0.0 and served.shard.version == 7
    np.testing.assert_allclose(served.shard.parameters, expected, rtol=0, atol=2e-6)
    statistics = StepStatistics()
    statistics.samples = 6
    assert served.shard.apply(Push(0, 8, 1.0, statistics, deltas[0].copy()), 4) == 0.0 and served.shard.version == 8
    averaged = layout.averaged_within(part)
    assert bool(averaged) == bool(rank)
    rates = np.where(np.arange(len(expected)) < len(expected) - averaged, 0.25, 1.0)
    np.testing.assert_allclose(served.shard.parameters, expected - rates * deltas[0], rtol=0, atol=2e-6)
    assert len(served.waits) == 2 and not any(vector.any() for vector in served.shard.optimizer_state.values())
    deltas[1, 3] = np.inf
    assert np.isnan(served.shard.update_with_batch(deltas, RATE, 9))
    assert served.shard.notes() == {}


def test_statistics_of_a_batch_are_summed_when_it_is_complete() -> None:
    """Whatever comes first, in the order of the workers; with the squares of its updates, and no request to stop."""
    pending = PendingBatches(3)
    for batch, worker, loss in ((2, 2, 1e16), (1, 1, 5.0), (2, 0, 1.0), (2, 1, -1e16)):
        statistics = StepStatistics()
        statistics.losses[0], statistics.samples = loss, 4
        statistics.ask_to_stop()
        pending.add(batch, worker, statistics)
        pending.add_squares(batch, 2.0)
    total = StepStatistics()
    pending.take(2, total)
    assert (total.loss_sum, total.samples, total.gradient_squares) == ((1.0 - 1e16) + 1e16, 12, 6.0)
    assert not total.stop
    pending.take(1, total)
    assert (total.loss_sum, total.samples) == (5.0, 4)
    pending.take(1, total)
    assert not total.values.any()


@pytest.mark.parametrize(
    ("seconds", "parked", "computed", "waited"),
    [
        (5.0, 3.0, 0.0, 3.0),  # the server kept it, the rest was the way
        (5.0, 3.0, 2.0, 1.0),  # it kept it while the worker computed
        (5.0, 3.0, 4.0, 0.0),
        (5.0, 9.0, 0.0, 5.0),  # clocks of two ranks may differ
    ],
)
def test_a_worker_waits_for_what_the_server_takes_beyond_its_computing(
    seconds: float, parked: float, computed: float, waited: float
) -> None:
    assert waiting_part(seconds, parked, computed) == waited

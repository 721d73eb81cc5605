"""A parameter server on the ranks of a test, without a trainer, and events that its ranks wait for instead of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter, sleep
from typing import Any

import numpy as np

import builders
from onotrain.config import Config
from onotrain.nn import ParameterLayout
from onotrain.parallel.agreement import agreed
from onotrain.parallel.shared_memory import allocate
from onotrain.parallel.world import World
from onotrain.strategies import Context, StepStatistics, build


class ServerRun:
    """Servers and workers that make steps with the gradients of a test.

    Parameters
    ----------
    world
        *Collective*.
    made
        Configuration of a parameter server.
    layout
        Of the parameters.
    start
        First parameters; zeros if None.
    now
        Time source of this rank's telemetry [s].
    """

    def __init__(
        self,
        world: World,
        made: Config,
        layout: ParameterLayout,
        start: np.ndarray | None = None,
        now: Callable[[], float] = perf_counter,
    ) -> None:
        self.world, self.layout, self.batch = world, layout, made.training.batch_size
        self.servers = made.strategy.servers
        self.workers, self.worker = world.size - self.servers, world.rank - self.servers
        self.rule = builders.optimizer(made)
        with agreed(world.comm):
            self.strategy: Any = build(replace(Context.of(made, world, layout, self.rule), now=now))
        self.replica, self.telemetry = self.strategy.replica, self.strategy.telemetry
        if start is not None and world.rank == 0:
            self.replica.parameters[:] = start
        self.replica.broadcast()
        builders.prepare(self.strategy, self.batch)
        self.statistics = StepStatistics()

    @property
    def works(self) -> bool:
        """Whether this rank is a worker."""
        return self.worker >= 0

    def step(
        self,
        number: int,
        gradient: Callable[[], Any],
        rate: float,
        *,
        synchronize: bool = False,
        stop: bool = False,
        loss: float | None = None,
    ) -> StepStatistics:
        """Make a step with a gradient, which workers compute, and a loss, by default this worker's number and 1."""
        self.statistics.clear()
        if self.works:
            self.replica.gradient[:] = gradient()
            self.statistics.losses[:] = self.worker + 1 if loss is None else loss, 1.0
            self.statistics.samples = self.batch // self.workers
        if stop:
            self.statistics.ask_to_stop()
        self.strategy.step(rate, number, self.batch, self.statistics, synchronize=synchronize)
        return self.statistics

    def all_alike(self) -> bool:
        """Whether all ranks have the same parameters.  *Collective*."""
        return len(set(self.world.comm.allgather(self.replica.parameters.tobytes()))) == 1

    def close(self) -> None:
        """Give back what MPI holds, when nobody sends any more."""
        self.world.barrier()
        self.strategy.close()


class Progress:
    """The batch that each worker has computed last, in memory that all ranks of the machine share.

    A test lets a worker wait for others, so that who is ahead, and by how much, is no matter of time.

    Parameters
    ----------
    run
        *Collective*.
    """

    def __init__(self, run: ServerRun) -> None:
        with World.connect(run.world.comm) as machine:
            self.batches = allocate(machine.node, {"batches": ((run.workers,), np.int64)})["batches"]
        self._worker = run.worker

    def wait_until(self, others: Callable[[np.ndarray], Any]) -> None:
        """Wait until it is so; the test's timeout ends what never comes."""
        while not others(self.batches):
            sleep(0.001)

    def wait_for_all_others(self, batch: int) -> None:
        """Wait until all other workers have computed `batch`."""
        self.wait_until(lambda batches: (np.delete(batches, self._worker) >= batch).all())

    def computed(self, batch: int) -> None:
        """Note that this worker has."""
        self.batches[self._worker] = batch

    def lead(self, batch: int) -> int:
        """Return how far this worker, which has computed `batch`, is ahead of the slowest [batches]."""
        return batch - int(self.batches.min())

"""The trainer's own loop on random samples in memory, with stopwatches around it.

Kernels are timed where the loop calls them, waiting and exchange by the strategy itself; what is left of a step's time
is Python's.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import numpy as np

from onotrain.bench.measure import spread
from onotrain.bench.subject import Subject
from onotrain.data.batches import Batch
from onotrain.data.feed import ArrayFeed
from onotrain.nn import operations
from onotrain.optim import Optimizer
from onotrain.parallel.agreement import agreed
from onotrain.parallel.shared_memory import share
from onotrain.parallel.stop_signals import StopRequest
from onotrain.parallel.world import World
from onotrain.strategies import Context, Strategy, build
from onotrain.strategies.recorded_step import RecordedStep
from onotrain.training.components import Components
from onotrain.training.observers import Observers
from onotrain.training.run_position import Progress
from onotrain.training.trainer import Trainer

#: Part of a step -> the kernels that make it up.  Any other kernel counts as `other kernels`.
PARTS: dict[str, tuple[str, ...]] = {
    "gather": ("batch_order", "gather", "take"),
    "forward": ("dense_forward", "elementwise_forward"),
    "loss": (
        "softmax_cross_entropy", "binary_cross_entropy", "squared_error", "absolute_error", "huber", "log_cosh",
        "pinball", "poisson", "gaussian_nll",
    ),
    "backward": ("dense_backward", "elementwise_backward"),
    "conv forward": ("conv_forward",),
    "conv backward": ("conv_backward",),
    "reduce + update": ("sum_gradients", "update", "update_rows", "add_scaled", "sum_of_squares"),
    "other kernels": (),
}  # fmt: skip
#: Bytes of the samples that the loop draws from.
_SAMPLE_BYTES = 16 << 20
_FEWEST_STEPS = 5


@dataclass
class _Stopwatch:
    """Seconds by part of a step, while it is on."""

    on: bool = False
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))

    def observe(self, name: str, seconds: float) -> None:
        """Count the seconds of a kernel."""
        part = next((part for part, names in PARTS.items() if name in names), "other kernels")
        self.seconds[part] += seconds


class _Together(Strategy):
    """A strategy to whose steps, while it is on, all ranks come at the same time: they do not pay for waiting."""

    def __init__(self, strategy: Strategy, world: World) -> None:
        self._strategy, self._world = strategy, world
        self.batches, self.replica, self.telemetry = strategy.batches, strategy.replica, strategy.telemetry
        self.gradient_ready = strategy.gradient_ready
        self.bind, self.begin_epoch, self.close = strategy.bind, strategy.begin_epoch, strategy.close  # type: ignore[method-assign]
        self.on = False
        self.seconds: list[float] = []

    def record(self, *arguments: Any) -> RecordedStep | None:
        """Return how recorded steps end; while it is on, steps are made one by one."""
        return None if self.on else self._strategy.record(*arguments)

    def step(self, *arguments: Any, **options: Any) -> None:
        """Make the step; or wait for all ranks, make it, and take its time.  *Collective*."""
        if not self.on:
            self._strategy.step(*arguments, **options)
            return
        self._world.barrier()
        start = perf_counter()
        self._strategy.step(*arguments, **options)
        self.seconds.append(perf_counter() - start)


class Loop:
    """A trainer on random samples, with its own model and strategy; *collective*, as are its methods."""

    def __init__(self, world: World, subject: Subject, rows: int) -> None:
        self._world, self._rows, batch = world, rows, rows * world.size
        self._watch = _Stopwatch()
        kernels = subject.kernels.timed(lambda: self._watch.observe if self._watch.on else None)
        self._config = subject.endless(training={"batch_size": batch})
        model, training = subject.model(kernels), self._config.training
        fitting = _SAMPLE_BYTES // max(8, batch * subject.inputs * subject.storage.itemsize)
        #: So many steps of one run leave something of the epoch: its end would be measured too.
        self._most_steps = max(_FEWEST_STEPS, fitting - 1)
        samples = batch * (self._most_steps + 1)
        with agreed(world.comm):
            arrays, _ = share(
                world.node,
                lambda: ({"features": subject.features(samples), "targets": subject.targets(samples)}, None),
            )
        optimizer = Optimizer(self._config.optimizer, training.clip_norm, kernels)
        with agreed(world.comm):
            strategy = build(Context.of(self._config, world, model.layout, optimizer))
        if world.rank == 0:
            model.initialize(strategy.replica.parameters, training.seed)
        strategy.replica.broadcast()
        self._strategy = _Together(strategy, world)
        feed = ArrayFeed(
            arrays["features"], arrays["targets"], None, subject.metadata.normalization, training.seed, kernels
        )
        self._components = Components(
            config=self._config, world=world, model=model, strategy=self._strategy, feed=feed, evaluator=None,
            progress=Progress(), observer=Observers(), save=lambda best: None, wait_saved=lambda: None,
            record=lambda record: record, stop=StopRequest(),
        )  # fmt: skip
        self._steps = _FEWEST_STEPS
        self._seconds: list[float] = []
        self._parts_seconds: list[dict[str, float]] = []
        self._updates: list[float] = []

    def prepare(self, seconds: float) -> None:
        """Warm up, and choose how many steps to make at a time: about `seconds` seconds of them."""
        self._run()
        once = max(self._world.comm.allgather(self._run())) / self._steps
        self._steps = min(self._most_steps, max(_FEWEST_STEPS, round(seconds / once)))

    def read(self) -> None:
        """Run thrice: as training does, with a stopwatch on the kernels, and coming to each update together."""
        self._seconds.append(max(self._world.comm.allgather(self._run())) / self._steps)
        self._watch.on = True
        self._parts_seconds.append(self._read_parts())
        self._watch.on, self._strategy.on = False, True
        self._run()
        self._strategy.on = False
        taken, self._strategy.seconds = self._strategy.seconds, []
        self._updates += list(np.max(self._world.comm.allgather(taken), axis=0))

    def result(self) -> dict[str, Any]:
        """Return what was read."""
        mine = {
            name: float(np.median([parts[name] for parts in self._parts_seconds])) for name in self._parts_seconds[0]
        }
        batch, strategy = self._rows * self._world.size, self._strategy
        counted = operations.of_parts(
            self._components.model, len(strategy.batches.local(Batch(0, batch))),
            all_gradients=strategy.replica.gradient is not None,
        )  # fmt: skip
        everyone = self._world.comm.allgather((mine, counted))
        return {
            "rows": self._rows, "ranks": self._world.size, "nodes": self._world.nodes, "batch_size": batch,
            "seconds": spread(self._seconds), "samples_per_s": spread(batch / np.array(self._seconds)),
            "update_seconds": spread(self._updates),
            "parts_seconds": {name: [seconds[name] for seconds, _ in everyone] for name in mine},
            "parts_operations": {name: [rank[name] for _, rank in everyone] for name in counted},
        }  # fmt: skip

    def close(self) -> None:
        """Give back what the strategy holds."""
        self._strategy.close()

    def _run(self) -> float:
        """Make some steps; return this rank's time in them [s]."""
        training = self._config.training.model_copy(update={"max_steps": self._steps})
        progress = Progress()
        config = self._config.model_copy(update={"training": training})
        Trainer(replace(self._components, config=config, progress=progress)).run()
        return progress.train_seconds

    def _read_parts(self) -> dict[str, float]:
        """Make some steps; return this rank's seconds of one step by part."""
        seconds = self._watch.seconds
        seconds.update(dict.fromkeys(seconds, 0.0))
        self._strategy.telemetry.clock.take(0.0)
        total = self._run()
        clock = self._strategy.telemetry.clock.take(total)
        found = {**seconds, "wait": clock["wait"], "exchange": clock["communication"]}
        found |= {"rest": total - sum(found.values()), "hidden exchange": clock["hidden"], "step": total}
        return {name: value / self._steps for name, value in found.items()}

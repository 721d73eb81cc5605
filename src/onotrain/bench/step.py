"""Where the time of a training step goes, and how the throughput grows with the ranks.

It is the trainer's own loop that runs, on random samples in memory.  Kernels are timed where the loop calls them,
waiting and exchange by the strategy itself; what is left of a step's time is Python's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import numpy as np

from onotrain.bench.measure import Say, others_asleep, spread
from onotrain.bench.subject import Subject, check_positive
from onotrain.data.feed import ArrayFeed
from onotrain.optim import Optimizer
from onotrain.parallel.agreement import agreed
from onotrain.parallel.shared_memory import share
from onotrain.parallel.world import World
from onotrain.strategies import Job, Strategy, build
from onotrain.training.observers import Observer
from onotrain.training.progress import Progress
from onotrain.training.stop_signals import StopRequest
from onotrain.training.trainer import Parts, Trainer

#: Part of a step -> the kernels that make it up.  Any other kernel counts as `other kernels`.
PARTS: dict[str, tuple[str, ...]] = {
    "gather": ("gather", "shuffle_positions"),
    "forward": ("dense_forward", "elementwise_forward"),
    "loss": ("softmax_cross_entropy", "binary_cross_entropy", "squared_error", "absolute_error", "huber"),
    "backward": ("dense_backward", "elementwise_backward"),
    "reduce + update": (
        "sum_gradients", "sgd", "adam", "rmsprop", "adagrad", "lamb_direction", "add_scaled", "sum_of_squares"
    ),
    "other kernels": (),
}  # fmt: skip
#: Runs of the loop that a measurement is made of.
REPEATS = 5
#: Bytes of the samples that the loop draws from.
_SAMPLE_BYTES = 32 << 20
_FEWEST_STEPS = 5


def run(world: World, subject: Subject, rows: Sequence[int], budget_s: float, say: Say) -> dict[str, Any]:
    """Measure steps with 1, 2, 4, ... and all ranks, the others being asleep; *collective*.

    Parameters
    ----------
    rows
        Rows of a rank's batches.
    budget_s
        Time for each number of rows and ranks [s].

    Returns
    -------
    dict
        Complete on rank 0 alone.
    """
    check_positive("rows", rows)
    results: list[dict[str, Any]] = []
    for ranks in numbers_of_ranks(world.size):
        with _some(world, ranks) as group:
            if group is not None:
                for count in rows:
                    say(f"{count} rows on each of {ranks} rank{'s' * (ranks > 1)}")
                    results.append(_measure(group, subject, count, budget_s))
    for result in results if world.rank == 0 else ():  # the others have slept through some of it
        alone = next(r for r in results if r["ranks"] == 1 and r["rows"] == result["rows"])
        speed_up = result["samples_per_s"]["median"] / alone["samples_per_s"]["median"]
        result["speed_up"], result["efficiency"] = speed_up, speed_up / result["ranks"]
    results.sort(key=lambda result: (result["rows"], result["ranks"]))
    config = subject.config
    facts = {"build": subject.kernels.path, "strategy": config.strategy.name, "optimizer": config.optimizer.name}
    return {**subject.describe(), **facts, "steps": results}


def numbers_of_ranks(size: int) -> list[int]:
    """Return 1, 2, 4, ... and `size` itself."""
    return sorted({*(1 << power for power in range(size.bit_length())), size})


@contextmanager
def _some(world: World, ranks: int) -> Iterator[World | None]:
    """Give the first `ranks` ranks a world of their own, and the others None; *collective*."""
    with World.connect(world.comm.Split(int(world.rank >= ranks), world.rank)) as group, others_asleep(world.comm):
        yield group if world.rank < ranks else None


def _measure(world: World, subject: Subject, rows: int, budget_s: float) -> dict[str, Any]:
    """Measure one number of rows on all ranks of `world`; *collective*."""
    plain = _Loop(world, subject, rows)
    plain.run(_FEWEST_STEPS)
    once = max(world.comm.allgather(plain.run(_FEWEST_STEPS))) / _FEWEST_STEPS
    steps = max(_FEWEST_STEPS, round(budget_s / (3 * REPEATS) / once))
    timed, together = _Loop(world, subject, rows, timed=True), _Loop(world, subject, rows, together=True)
    for loop in (timed, together):
        loop.run(_FEWEST_STEPS)
    seconds, parts, updates = [], [], []
    for _ in range(REPEATS):
        seconds.append(max(world.comm.allgather(plain.run(steps))) / steps)
        parts.append(timed.parts(steps))
        together.run(steps)
        updates += list(np.max(world.comm.allgather(together.updates()), axis=0))
    mine = {name: float(np.median([part[name] for part in parts])) for name in parts[0]}
    everyone = world.comm.allgather(mine)
    return {
        "rows": rows, "ranks": world.size, "nodes": world.nodes, "batch_size": rows * world.size,
        "seconds": spread(seconds), "samples_per_s": spread(rows * world.size / np.array(seconds)),
        "update_seconds": spread(updates),
        "parts_seconds": {name: [rank[name] for rank in everyone] for name in mine},
    }  # fmt: skip


@dataclass
class _Stopwatch:
    """Seconds by part of a step."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))

    def around(self, kernels: Any) -> Any:
        """Return kernels that are timed wherever they are called."""
        part_of = {kernel: part for part, names in PARTS.items() for kernel in names}
        names = [name for name in kernels.__slots__ if callable(getattr(kernels, name))]
        timed = {name: self._timed(part_of.get(name, "other kernels"), getattr(kernels, name)) for name in names}
        return replace(kernels, **timed)

    def _timed(self, part: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        seconds = self.seconds

        def call(*arguments: Any) -> Any:
            start = perf_counter()
            result = kernel(*arguments)
            seconds[part] += perf_counter() - start
            return result

        return call


class _Together:
    """A strategy to whose steps all ranks come at the same time, so that they do not pay for waiting."""

    def __init__(self, strategy: Strategy, world: World) -> None:
        self._strategy, self._world = strategy, world
        self.seconds: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._strategy, name)

    def step(self, *arguments: Any) -> None:
        """Wait for all ranks; make the step, and take its time.  *Collective*."""
        self._world.barrier()
        start = perf_counter()
        self._strategy.step(*arguments)
        self.seconds.append(perf_counter() - start)


class _Loop:
    """A trainer on random samples, with its own model and strategy; *collective*."""

    def __init__(
        self, world: World, subject: Subject, rows: int, *, timed: bool = False, together: bool = False
    ) -> None:
        self._watch = _Stopwatch()
        kernels = self._watch.around(subject.kernels) if timed else subject.kernels
        batch = rows * world.size
        self._config = subject.endless(training={"batch_size": batch})
        model, training = subject.model(kernels), self._config.training
        samples = batch * max(1, _SAMPLE_BYTES // (batch * max(8, subject.inputs * subject.storage.itemsize)))
        with agreed(world.comm):
            arrays, _ = share(
                world.node,
                lambda: ({"features": subject.features(samples), "targets": subject.targets(samples)}, None),
            )
        optimizer = Optimizer(self._config.optimizer, training.clip_norm, kernels)
        with agreed(world.comm):
            strategy = build(Job(world, model.layout, optimizer, self._config.strategy))
        if world.rank == 0:
            model.initialize(strategy.parameters, training.seed)
        strategy.synchronize()
        self._strategy: Any = _Together(strategy, world) if together else strategy
        feed = ArrayFeed(
            arrays["features"], arrays["targets"], None, subject.card.normalization, training.seed, kernels
        )
        self._parts = Parts(
            config=self._config, world=world, model=model, strategy=self._strategy, feed=feed, evaluator=None,
            progress=Progress(), observer=Observer(), save=lambda best: None, settle=lambda: None,
            record=lambda record: None, stop=StopRequest(),
        )  # fmt: skip

    def run(self, steps: int) -> float:
        """Make so many steps; return this rank's time in them [s]."""
        config = self._config.model_copy(
            update={"training": self._config.training.model_copy(update={"max_steps": steps})}
        )
        progress = Progress()
        self._strategy.clock.take()
        Trainer(replace(self._parts, config=config, progress=progress)).run()
        return progress.train_seconds

    def parts(self, steps: int) -> dict[str, float]:
        """Make so many steps; return this rank's seconds of one step by part."""
        seconds = self._watch.seconds
        seconds.update(dict.fromkeys(seconds, 0.0))
        total = self.run(steps)
        clock = self._strategy.clock.take()
        found = {**seconds, "wait": clock.pop("wait"), "exchange": clock.pop("communication")}
        return {
            **{name: value / steps for name, value in found.items()},
            "rest": (total - sum(found.values())) / steps,
            "step": total / steps,
        }

    def updates(self) -> list[float]:
        """Return the times of the strategy's steps since the last call, all ranks having come together [s]."""
        taken, self._strategy.seconds = self._strategy.seconds, []
        return taken

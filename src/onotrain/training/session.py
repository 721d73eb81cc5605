"""A run from its first step to its summary: builds what the trainer works with, and keeps what it makes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from time import monotonic, perf_counter
from typing import Any

import numpy as np

from onotrain._kernels.recording import Events
from onotrain.config import Config
from onotrain.config.method import method_of
from onotrain.data.feed import Feed
from onotrain.errors import DataError, NumericsError, UsageError
from onotrain.nn import Model
from onotrain.optim import Optimizer
from onotrain.parallel import kernels as kernel_choice
from onotrain.parallel import threads
from onotrain.parallel.agreement import agreed
from onotrain.parallel.clocks import Clocks
from onotrain.parallel.pulse import Phase
from onotrain.parallel.stop_signals import StopRequest
from onotrain.parallel.world import World
from onotrain.runs.checkpoint_format import Checkpoint, Pause
from onotrain.runs.metadata import (
    ModelMetadata,
    Vectors,
    arrays_of,
    digest_of,
    parameters_only,
    parameters_sha256,
    read_arrays,
)  # fmt: skip
from onotrain.runs.run_files import TRACE_NAME
from onotrain.strategies import Context, Strategy
from onotrain.strategies import build as build_strategy
from onotrain.strategies.injection import Injection
from onotrain.strategies.replica import Replica
from onotrain.training.components import Commits, Components
from onotrain.training.legacy import Legacy, Offer
from onotrain.training.noise_scale import NoiseScale
from onotrain.training.observers import Reading, RunStart, Trace
from onotrain.training.profiling.collect import Subject, collect
from onotrain.training.profiling.profiler import Profiler, Recording, make_events
from onotrain.training.run_data import RunData
from onotrain.training.run_position import Progress
from onotrain.training.run_writer import RunWriter
from onotrain.training.step_records import StepRecords
from onotrain.training.summary import files_summary, summary_of
from onotrain.training.trainer import Trainer
from onotrain.training.warm_start import begin, freeze_notes


class Session:
    """One run: data, model and strategy, from the first step to the summary."""

    def __init__(
        self, world: World, config: Config, writer: RunWriter, stop: StopRequest, stack: ExitStack,
        held: Mapping[str, Any] | None = None, legacy: Legacy | None = None,
    ) -> None:  # fmt: skip
        began = monotonic()
        self._legacy = legacy
        self.world, self.config, self.writer, self._stop, self._stack = world, config, writer, stop, stack
        training = config.training
        self.kernels = kernel_choice.agree(world.comm, training.dtype, training.precision)
        #: What this rank does in the steps that are traced; None if none are.
        self._events: Events | None = None
        if config.metrics.profiled_steps is not None:
            with agreed(world.comm):
                self._events = make_events()
            self.kernels = self.kernels.recording(self._events)
        self._warm = None
        if legacy is None:
            self._warm, inherited = begin(world, config, writer.found)
            world.pulse.enter(Phase.DATA)
            self.data = RunData(world, config, self.kernels, stack, inherited, held, self._read_some)
        else:
            self.data = legacy.data
            self.data.hand_over(world, stack)
        world.pulse.enter(Phase.START)
        self.metadata = ModelMetadata(config=config, **vars(self.data.description))
        with agreed(world.comm):  # a loss of another package may refuse
            self.model: Model = self.metadata.model(self.kernels)
        optimizer = Optimizer(config.optimizer, training.clip_norm, self.kernels)
        with agreed(world.comm):
            now = perf_counter if self._events is None else self._events.now
            self._injection = Injection.of(config, world, now)
        self.progress = self._find_progress()
        #: When the run would have begun, had nothing interrupted it.
        self._began = began - self.progress.wall_seconds
        notes = self.progress.strategy.get(config.strategy.name)
        with agreed(world.comm):
            self.strategy: Strategy = build_strategy(
                Context.of(config, world, self.model.layout, optimizer, self._injection, notes, self._events)
            )
        stack.push(self._close_strategy)
        #: What is to be said of parameters that another run's began with (rank 0).
        self._notes: tuple[str, ...] = ()
        self._start()
        self.commits = Commits()
        self._views: tuple[np.ndarray, dict[str, np.ndarray]] | None = None

    def _read_some(self, done: int, files: int) -> None:
        self.writer.observer.reading(Reading(done, files))

    def _close_strategy(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        """Give back what the strategy holds.  *Collective*, hence not done for an error that one rank has alone."""
        if error is None or getattr(error, "agreed", False):
            self.strategy.close()

    def _find_progress(self) -> Progress:
        """Return how far the run has come.  *Collective*."""
        progress, found = Progress(), self.writer.found
        if self._legacy is not None:
            return self._legacy.progress
        with agreed(self.world.comm):
            if found is not None:
                self.metadata.check_data(found.checkpoint.metadata)
                progress = replace(Progress.of(found.checkpoint.metadata, str(found.path)), stopped_by=None)
                progress.finished = progress.stopped_early or progress.epoch >= self.config.training.epochs
        return self.world.comm.bcast(progress, root=0)

    def _start(self) -> None:
        """Set the first values of parameters and state, or those of the checkpoint.  *Collective*."""
        replica, found = self.strategy.replica, self.writer.found
        with agreed(self.world.comm):
            if found is not None:
                read_arrays(found.checkpoint, self.model.layout, _vectors(replica), str(found.path))
            elif self.world.rank == 0 and self._legacy is None:
                self.model.initialize(replica.parameters, self.config.training.seed)
                if self._warm is not None:
                    self.progress.origin, self._notes = self._warm.copy(
                        self.config, self.data.description, self.model.layout, replica.parameters
                    )
            self.writer.begin(self.progress, self.data.split)
        if self._legacy is not None:
            self._legacy.move(self.world.comm, replica)
            self._legacy = None  # and with it the memory of the attempt before
        replica.broadcast()

    def offer(self) -> Offer | None:
        """Return what this rank can give if others have died; None if it has not come to make steps."""
        if not self.commits.begun:
            return None
        return Offer(self.commits.progress, self.strategy.replica.committed(), self.data, self.config.strategy.name)

    def run(self) -> Mapping[str, Any]:
        """Train, write the summary, and return it.  *Collective*."""
        profiler = self._profiler()
        with agreed(self.world.comm):
            components = self._components(profiler)
            self._check_order(components.feed)
            trainer = Trainer(components)
            self.writer.prepare(self._checkpoint)
        self._announce(trainer)
        trainer.run()
        self.world.pulse.enter(Phase.END)
        tested = self._test()
        return self.writer.end(lambda: self._summary(trainer.components.feed.samples) | tested)

    def _test(self) -> dict[str, float]:
        """Return the metrics of the test data, of the parameters that the run leaves behind.  *Collective*."""
        with agreed(self.world.comm):
            evaluator = self.data.evaluator(self.model, "test")
        if evaluator is None:
            return {}
        replica = self.strategy.replica
        with agreed(self.world.comm):
            if self._restores_best and self.world.rank == 0:
                found = self.writer.directory.checkpoint("best")
                vectors = Vectors(replica.parameters)
                read_arrays(parameters_only(found.checkpoint), self.model.layout, vectors, str(found.path))
        replica.broadcast()
        return {f"test_{name}": value for name, value in evaluator(self.world.comm).items()}

    @property
    def _restores_best(self) -> bool:
        """Whether the parameters of the best epoch are those that count."""
        stopping = self.config.training.early_stopping
        return stopping is not None and stopping.restore_best and self.progress.best is not None

    def _check_order(self, feed: Feed) -> None:
        """Refuse to go on in an order of samples in which some would be seen twice in an epoch, or never."""
        progress, source = self.progress, self.config.data.name
        if progress.samples not in (0, feed.samples):
            raise DataError(
                f"{source}: the data have changed: the run began with {progress.samples} samples to train on, "
                f"these are {feed.samples}",
                hint="train into a new --output",
            )
        if progress.position and progress.windows not in (0, feed.windows):
            raise UsageError(
                f"{source}: epoch {progress.epoch + 1} began with its samples in {progress.windows} windows, "
                f"which are {feed.windows} now",
                hint="set data.stream and data.window_mib so that they are as many as before; "
                "a checkpoint between two epochs would not mind",
            )
        if progress.position and progress.pools != list(feed.pools):
            raise UsageError(
                f"{source}: epoch {progress.epoch + 1} began with its samples partitioned among "
                f"{len(progress.pools)} ranks, which are {len(feed.pools)} now",
                hint="let as many ranks compute as before; a checkpoint between two epochs would not mind",
            )
        progress.samples, progress.windows, progress.pools = feed.samples, feed.windows, list(feed.pools)

    def _profiler(self) -> Profiler:
        """Return what traces the steps that are asked for.  *Collective*."""
        wanted, made = self.config.metrics.profiled_steps, self.progress.steps
        if wanted is None or self._events is None:
            return Profiler()
        steps, note = wanted.after(made), self.writer.observer.noted
        if steps.stop - 1 <= made:
            note(f"there is no trace: step {steps.stop - 1} of metrics.profile has been made already")
            return Profiler()
        left = range(max(steps.start, made + 1), steps.stop)
        return Recording(self.world, self._events, left, self._trace, note, self.writer.saves)

    def _trace(self, clocks: Clocks, steps: tuple[int, int]) -> None:
        """Write the trace of some steps, and show it.  *Collective*."""
        assert self._events is not None  # noqa: S101 - for the type checker: see `_profiler`
        subject = Subject.of(
            self.model, self.strategy, self.world, self.progress.samples, self.config,
            {"steps": steps, **self._place},
        )  # fmt: skip
        found = collect(self.world, self._events, clocks, subject, self.writer.output / TRACE_NAME)
        if isinstance(found, Trace):
            self.writer.observer.traced(found)
        elif found:
            self.writer.observer.noted(found)

    def _components(self, profiler: Profiler) -> Components:
        every = self.config.metrics.every_steps
        if every is not None and self.world.rank == 0:
            self.writer.observer.add(StepRecords(every, self._seconds, self._keep_steps, after=self.progress.steps))
        feed, noise = self.data.feed(self.strategy), None
        if self.config.metrics.noise_scale is not None:
            noise = NoiseScale(self.config, self.world, self.metadata.model(self.kernels), self.strategy, feed)
        return Components(
            config=self.config,
            world=self.world,
            model=self.model,
            strategy=self.strategy,
            feed=feed,
            evaluator=self.data.evaluator(self.model),
            progress=self.progress,
            observer=self.writer.observer,
            save=lambda best: self.writer.save(self._checkpoint, self.progress.steps, best),
            wait_saved=self.writer.wait_saved,
            advice=self.writer.advice,
            stop=self._stop,
            noise=noise,
            injection=self._injection,
            profiler=profiler,
            commits=self.commits,
            record=self._keep_epoch,
        )

    def _keep_epoch(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the record of an epoch with what is the same for all strategies; rank 0 also keeps it."""
        whole = {**record, "wall_seconds": self._wall(), **self._place}
        self.writer.record(whole)
        return whole

    def _keep_steps(self, record: Mapping[str, Any]) -> None:
        """Keep a record within an epoch, and show it (rank 0)."""
        self.writer.record_steps(record)
        self.writer.observer.interval_ended(record)

    @cached_property
    def _place(self) -> dict[str, Any]:
        """What is the same in all records."""
        return {
            "ranks": self.world.size,
            "nodes": self.world.nodes,
            "strategy": self.config.strategy.name,
            "method": method_of(self.config),
        }

    def _options(self) -> dict[str, Any]:
        """Return the sections that `method_of` puts in words."""
        chosen = {"strategy": self.config.strategy, "codec": self.config.communication.codec}
        options = {f"{name}_options": section.model_dump(mode="json") for name, section in chosen.items()}
        simulated = self.config.simulate
        return options | ({} if simulated is None else {"simulate": simulated.model_dump(mode="json")})

    def _seconds(self) -> dict[str, float]:
        """Return how long the run has trained, and how long it has taken [s]."""
        return {"train_seconds": self.progress.train_seconds, "wall_seconds": self._wall()}

    def _wall(self) -> float:
        """Return how long the run has taken so far, and note it [s]."""
        self.progress.wall_seconds = monotonic() - self._began
        return self.progress.wall_seconds

    def _announce(self, trainer: Trainer) -> None:
        observer, progress = self.writer.observer, self.progress
        problem = threads.warning(self.world.node.size)
        if problem is not None:
            observer.noted(problem)
        evaluator, stopping = trainer.components.evaluator, self.config.training.early_stopping
        observer.started(
            RunStart(
                output=str(self.writer.output),
                epochs=self.config.training.epochs,
                samples=trainer.components.feed.samples,
                validation_samples=0 if evaluator is None else evaluator.samples,
                batch_size=self.config.training.batch_size,
                steps_per_epoch=trainer.steps_per_epoch,
                parameters=self.model.layout.parameter_count,
                network=self.model.widths,
                first_epoch=progress.epoch,
                first_step=progress.steps,
                notes=(*self._notes, *freeze_notes(self.model.layout), *self.data.notes),
                files_read=self.data.files_read,
                watched=None if stopping is None else stopping.metric,
                test_samples=self.data.test_samples,
                **self._place,
            )
        )

    def _checkpoint(self) -> Checkpoint:
        """Return the run's state, its arrays as views (rank 0, between steps).

        Raises
        ------
        NumericsError
            The last step ruined the parameters, which its gradient does not show and the next one's would.
        """
        # In one pass, and without the array that `isfinite` would make: the ranks wait.
        if not math.isfinite(self.kernels.sum_of_squares(self.strategy.replica.parameters)):
            raise NumericsError(
                f"training diverged: not all parameters are finite after step {self.progress.steps}",
                hint=self.writer.advice(),
            )
        self._wall()
        self.progress.strategy = {self.config.strategy.name: self.strategy.replica.notes()}
        metadata = {**self._constant_metadata, "progress": self.progress.to_dict()}

        def late(copies: Mapping[str, np.ndarray], pause: Pause) -> dict[str, str]:
            return {"parameters_sha256": digest_of(self.model.layout, copies, pause)}

        return Checkpoint(self._arrays(), metadata, late)

    def _arrays(self) -> dict[str, np.ndarray]:
        """Return views of what a checkpoint holds; the same ones until the strategy has other memory."""
        replica = self.strategy.replica
        if self._views is None or self._views[0] is not replica.parameters:
            self._views = replica.parameters, arrays_of(self.model.layout, _vectors(replica))
        return self._views[1]

    @cached_property
    def _constant_metadata(self) -> dict[str, Any]:
        """The metadata that no step changes."""
        return {**self.metadata.to_dict(), "layout_digest": self.model.layout.digest}

    def _summary(self, samples: int) -> dict[str, Any]:
        """Return the run's summary (rank 0)."""
        directory, progress, restored = self.writer.directory, self.progress, self._restores_best
        if restored:
            sha256 = directory.checkpoint("best").checkpoint.metadata["parameters_sha256"]
        else:
            sha256 = parameters_sha256(self.model.layout, self.strategy.replica.parameters)
        return {
            **summary_of(progress, directory.records(), samples, restored=restored),
            "wall_seconds": self._wall(),
            "data_digest": self.metadata.digest,
            **self._place,
            **self._options(),
            **files_summary(self.data.files_read),
            **({} if self.data.pool is None else {"partition": self.data.pool.summary()}),
            **({} if progress.origin is None else {"origin": progress.origin}),
            "parameters": self.model.layout.parameter_count,
            "parameters_sha256": sha256,
            "restored_best": restored,
        }


def _vectors(replica: Replica) -> Vectors:
    """Return what a checkpoint holds of a replica."""
    return Vectors(replica.parameters, replica.optimizer_state, replica.strategy_state)

"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from onotrain.data.batches import Batch
from onotrain.errors import NumericsError, OnotrainError, StoppedOnRequest, on_all_ranks
from onotrain.optim import Improvement, Schedule
from onotrain.parallel import supervised
from onotrain.parallel.agreement import agreed, broadcast
from onotrain.parallel.pulse import Phase
from onotrain.runs.json_objects import restore
from onotrain.strategies import StepStatistics, StepSums
from onotrain.strategies.copies import check_copies
from onotrain.training.components import Components
from onotrain.training.epoch_record import epoch_record
from onotrain.training.local_gradient import LocalGradient
from onotrain.training.observers import StepEnd
from onotrain.training.replay import SECONDS, Replay


class Trainer:
    """Runs epochs of steps, validation, schedules, early stopping and checkpoints.

    *Collective*: all ranks run the same trainer; every decision is a function of numbers that are bit-equal on all.
    """

    def __init__(self, components: Components) -> None:
        self.components = components
        config, feed = components.config, components.feed
        training, schedule = config.training, config.schedule
        self.progress = components.progress
        self.steps_per_epoch = -(-feed.samples // training.batch_size)
        self._schedule = Schedule(
            schedule, config.optimizer.learning_rate, training.batch_size, training.epochs, self.steps_per_epoch,
            schedule.mode,
        )  # fmt: skip
        stopping = training.early_stopping
        self._early_stopping: Improvement | None = None
        if stopping is not None:
            self._early_stopping = Improvement(stopping.mode, stopping.min_delta)
        if self.progress.schedule:
            restore(self._schedule.restore, self._schedule.state(), self.progress.schedule)
        if self._early_stopping is not None and self.progress.early_stopping:
            restore(self._early_stopping.restore, self._early_stopping.state(), self.progress.early_stopping)
        self._statistics = StepStatistics()
        self._pulse, self._profiler = components.world.pulse, components.profiler
        #: Whether a step has been made since the launch.
        self._trains = False
        self._max_steps = training.max_steps
        self._every_steps, self._every_seconds = config.checkpoint.every_steps, config.checkpoint.every_seconds
        self._record_steps = config.metrics.every_steps
        self._verify_steps = config.fault_tolerance.verify_steps
        self._noise_steps = config.metrics.noise_scale
        self._watched = components.observer.watches_steps
        self._regression = components.model.loss.task == "regression"
        self._gradient = LocalGradient(
            config,
            components.world,
            components.model,
            components.strategy,
            feed,
            components.injection,
            self._statistics,
        )
        self._replay = Replay(components.world, components.model, components.strategy, self._gradient, self._statistics)
        self._allocate()
        self._saved_at = self._now()
        self._saved_state = self._state()
        self._outlives_ranks = config.fault_tolerance.outlives_ranks
        self._commit(whole=True)
        components.commits.begun = True

    def _allocate(self) -> None:
        """Give the model its memory, at the beginning and when that of the strategy is another.  *Collective*."""
        self._gradient.allocate()
        self._replay.clear()

    def _now(self) -> float:
        """Return the time of the clock by which the strategy measures, too [s]."""
        return self.components.strategy.telemetry.clock.now()

    def run(self) -> None:
        """Train until all epochs are done, training stops early, or somebody asks to stop.  *Collective*.

        Raises
        ------
        NumericsError
            Loss, gradient or parameters became infinite or NaN; nothing was saved since.
        StoppedOnRequest
            A signal asked for it; the state is saved.
        ObserverError
            An observer failed.
        """
        while not (self.progress.finished or self._ends_here()):
            self._train_epoch()
            if self._ends_here() and self.progress.position < self.components.feed.samples:
                break
            self._end_epoch()
        self._save_for_good()

    def _ends_here(self) -> bool:
        return self.progress.stopped_by is not None or self._at_step_limit(self.progress.steps)

    def _at_step_limit(self, steps: int) -> bool:
        return self._max_steps is not None and steps >= self._max_steps

    def _due_by_steps(self, steps: int) -> bool:
        return self._every_steps is not None and steps % self._every_steps == 0

    def _train_epoch(self) -> None:
        """Make the epoch's remaining steps."""
        progress, feed = self.progress, self.components.feed
        if progress.position == 0:
            rate = self._schedule.rate(progress.epoch, progress.steps)
            self.components.strategy.begin_epoch(progress.epoch, rate, progress.train_loss)
        self._pulse.enter(Phase.TRAINING)
        feed.begin_epoch(progress.epoch)
        for batch in self._batches():
            if self._ends_here():
                return
            self._measure_noise(batch)
            self._statistics.clear()
            if self.components.stop.signal is not None or self.components.observer.asks_to_stop:
                self._statistics.ask_to_stop()
            self._profiler.before(self.progress.steps)
            steps = self._steps_ahead(len(batch))
            if steps:
                self._several(batch, steps)
            else:
                self._one(batch)
            self._checkpoint_within_epoch()

    def _step_of_epoch(self) -> int:
        """Return how many steps of the epoch have been made."""
        return self.progress.position // self.components.config.training.batch_size

    def _measure_noise(self, batch: Batch) -> None:
        """Measure the noise of the gradient that the next step begins with, if that is due.  *Collective*."""
        measure, progress = self.components.noise, self.progress
        if measure is None or self._noise_steps is None or self._step_of_epoch() % self._noise_steps:
            return
        start = self._now()
        noise = measure(batch, progress.steps)
        if noise is not None:
            progress.noise_variance += noise.variance
            progress.noise_square += noise.square
            progress.noise_batches += 1
        seconds = self._now() - start
        progress.epoch_seconds += seconds
        progress.train_seconds += seconds

    def _batches(self) -> Iterator[Batch]:
        """Yield the batch at which the epoch stands, until it is over."""
        samples, size = self.components.feed.samples, self.components.config.training.batch_size
        while self.progress.position < samples:
            yield Batch(self.progress.position, min(self.progress.position + size, samples))

    def _steps_ahead(self, samples: int) -> int:
        """Return how many steps to make at a time, of which only the last is one after which there is more to do.

        0 if the strategy makes steps one by one.  The same on all ranks.
        """
        most = self._replay.most_steps(samples)
        if not most:
            return 0
        steps, left = self.progress.steps, [(self.components.feed.samples - self.progress.position) // samples]
        if self._max_steps is not None:
            left.append(self._max_steps - steps)
        intervals = (self._every_steps, self._verify_steps, self._record_steps)
        left += [every - steps % every for every in intervals if every is not None]
        profiled = self._profiler.steps_left(steps)
        if profiled is not None:
            left.append(profiled)
        if self._noise_steps is not None:
            left.append(self._noise_steps - self._step_of_epoch() % self._noise_steps)
        return min(most, *left)

    def _one(self, batch: Batch) -> None:
        """Make a step.  *Collective*."""
        progress, feed, strategy = self.progress, self.components.feed, self.components.strategy
        now = strategy.telemetry.clock.now
        start = now()
        rate, number = self._schedule.rate(progress.epoch, progress.steps), progress.steps + 1
        self._gradient(batch, progress.steps)
        synchronize = batch.end == feed.samples or self._at_step_limit(number) or self._due_by_steps(number)
        strategy.step(rate, number, len(batch), self._statistics, synchronize=synchronize)
        self._profiler.step(start, number)
        self._account(len(batch), [rate], [self._statistics.values.tolist()], now() - start)

    def _several(self, batch: Batch, steps: int) -> None:
        """Make some steps, of which `batch` is that of the first.  *Collective*."""
        progress, start = self.progress, self._now()
        rates = [self._schedule.rate(progress.epoch, progress.steps + index) for index in range(steps)]
        # The first rank has observers, and ends the run of all.
        seconds = 0.0 if self.components.observer.watches_each_step else SECONDS
        made = self._replay.run(progress.steps, batch.begin, len(batch), rates, seconds)
        self._account(len(batch), rates, made.tolist(), self._now() - start)

    def _account(self, samples: int, rates: Sequence[float], rows: list[list[float]], seconds: float) -> None:
        """Take finished steps of `samples` into the run's progress; leave if training diverged or shall stop.

        `rows` are the statistics of these steps.
        """
        progress = self.progress
        last, rate = StepSums._make(rows[-1]), rates[len(rows) - 1]
        good = len(rows) if last.finite else len(rows) - 1
        for loss_sum, right, *_ in rows[:good]:
            progress.loss_sum += loss_sum
            progress.right += right
        progress.steps += good
        self._pulse.made(progress.steps)
        if not self._trains and self.components.world.rank == 0:
            supervised.tell(supervised.TRAINING)
        self._trains = True
        progress.position = min(progress.position + good * samples, self.components.feed.samples)
        progress.epoch_seconds += seconds
        progress.train_seconds += seconds
        if not last.finite:
            raise self._divergence(
                f"at step {progress.steps + 1} (epoch {progress.epoch + 1}): "
                f"loss {last.loss_sum / max(1, last.samples):g}, "
                f"squared gradient norm {last.gradient_squares:g}, learning rate {rate:g}"
            )
        self._commit()
        if self._watched and last.samples:
            self.components.observer.stepped(self._step_end(StepSums(*map(sum, zip(*rows, strict=True))), last, rate))
        if last.stop_requests:
            self._stop()

    def _stop(self) -> None:
        """Find out who asked to stop, and do it.  *Collective*."""
        comm, observer, progress = self.components.world.comm, self.components.observer, self.progress
        with agreed(comm):
            observer.check()
        signals = comm.allgather(self.components.stop.signal)
        if any(signals):
            self._save_for_good()
            raise on_all_ranks(
                StoppedOnRequest(
                    f"stopped on request after step {progress.steps}; the state is saved", hint="go on with --resume"
                )
            )
        progress.stopped_by = comm.bcast(observer.stop_reason, root=0)
        self._commit()

    def _step_end(self, sums: StepSums, last: StepSums, rate: float) -> StepEnd:
        """Return what observers learn of some steps: of their sums, and of the last one."""
        samples = int(sums.samples)
        return StepEnd(
            epoch=self.progress.epoch,
            step=self.progress.steps,
            samples=samples,
            loss=sums.loss_sum / samples,
            accuracy=None if self._regression else sums.correct / samples,
            learning_rate=rate,
            gradient_norm=math.sqrt(last.gradient_squares),
        )

    def _divergence(self, how: str) -> OnotrainError:
        """Return the error that all ranks raise.  *Collective*."""
        hint = broadcast(self.components.world.comm, self.components.advice)
        return on_all_ranks(NumericsError(f"training diverged {how}", hint=hint or None))

    def _end_epoch(self) -> None:
        """Validate, record, and decide how to go on."""
        progress, components = self.progress, self.components
        # Where ranks do not wait for each other in every step, rank 0 alone has summed all of them.
        progress.loss_sum, progress.right, late = components.world.comm.bcast(
            (progress.loss_sum, progress.right, self._late()), root=0
        )
        rate = self._schedule.rate(progress.epoch, progress.steps - 1)
        self._verify()
        self._pulse.enter(Phase.EVALUATION)
        record = epoch_record(components, progress, rate)
        if not math.isfinite(record.get("validation_loss", 0.0)):
            raise self._divergence(f"in epoch {record['epoch']}: validation loss {record['validation_loss']:g}")
        monitored = {name: value for name, value in record.items() if isinstance(value, float)}
        if self._schedule.metric is not None:
            self._schedule.observe(monitored[self._schedule.metric])
        best = self._observe_for_early_stopping(monitored)
        if progress.best is not None:
            record["best"] = progress.best["epoch"] == record["epoch"]
        progress.train_loss = record["train_loss"]
        progress.begin_epoch()
        progress.finished = progress.stopped_early or progress.epoch >= components.config.training.epochs
        progress.schedule = self._schedule.state()
        every = components.config.checkpoint.every_epochs
        due = best or late or progress.finished or (every is not None and progress.epoch % every == 0)
        if components.strategy.end_epoch(record):
            self._allocate()
        if due or self._outlives_ranks:
            components.strategy.replica.gather()
        with agreed(components.world.comm):
            components.observer.epoch_ended(components.record(record))
            components.observer.check()
            if due:
                self._save(best=best)
            if best and self._outlives_ranks:  # or the best parameters would die with rank 0
                components.wait_saved()
        reason = components.world.comm.bcast(components.observer.stop_reason, root=0)
        if not progress.finished:
            progress.stopped_by = reason
        self._commit(whole=True)
        self._profiler.epoch_ended(progress.steps)

    def _observe_for_early_stopping(self, monitored: Mapping[str, float]) -> bool:
        """Return whether this epoch is the best so far."""
        stopping, progress = self.components.config.training.early_stopping, self.progress
        if stopping is None or self._early_stopping is None:
            return False
        value = monitored[stopping.metric]
        best = self._early_stopping.update(value)
        if best:
            progress.best = {"metric": stopping.metric, "value": value, "epoch": progress.epoch + 1}
        progress.stopped_early = self._early_stopping.stale_epochs >= stopping.patience
        progress.early_stopping = self._early_stopping.state()
        return best and stopping.restore_best

    def _verify(self) -> None:
        """Compare all copies of the parameters.  *Collective*: where they must be the same."""
        if self._verify_steps is not None:
            check_copies(self.components.world, self.components.strategy.replica, self.progress.steps)

    def _checkpoint_within_epoch(self) -> None:
        verify, replica = self._verify_steps, self.components.strategy.replica
        if verify is not None and replica.always_alike and self.progress.steps % verify == 0:
            self._verify()
        if self._due_by_steps(self.progress.steps):
            self._verify()
            self.components.strategy.replica.gather()
            self._commit(whole=True)
            self._save()
            self._pulse.enter(Phase.TRAINING)
        # Rank 0 alone writes, from its node's memory, so its clock needs no agreement.
        elif self._late() and self.components.strategy.replica.complete:
            self._commit(whole=True)  # no checkpoint is ahead of what survivors would go on from
            self._save()
            self._pulse.enter(Phase.TRAINING)

    def _commit(self, *, whole: bool = False) -> None:
        """Let this state outlive ranks that die from now on.  *Collective*; `whole` as of `Replica.commit`."""
        if self._outlives_ranks and self.components.strategy.replica.commit(self.progress.steps, whole=whole):
            self.components.commits.progress = replace(self.progress)

    def _late(self) -> bool:
        """Whether the state should be saved: somebody has asked for it, or so much time has passed."""
        if self.components.stop.save:
            return True
        return self._every_seconds is not None and self._now() - self._saved_at >= self._every_seconds

    def _save(self, *, best: bool = False) -> None:
        """Save unless this very state is saved already."""
        self.components.stop.save = False
        if self._state() == self._saved_state and not best:
            return
        self._pulse.enter(Phase.CHECKPOINT)
        with self._profiler.span("checkpoint"):
            self.components.save(best)
        self._saved_state, self._saved_at = self._state(), self._now()

    def _save_for_good(self) -> None:
        """Save, and go on when it is on the disk.  *Collective*: what goes wrong is everyone's."""
        self._verify()
        self.components.strategy.replica.gather()
        with agreed(self.components.world.comm):
            self._save()
            self.components.wait_saved()
        self._profiler.run_ended(self.progress.steps)

    def _state(self) -> tuple[int, int]:
        """Return what tells two states of a run apart."""
        return self.progress.epoch, self.progress.steps

"""A run from its configuration to its summary: builds what the trainer works with, and keeps what it makes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from onotrain import __version__
from onotrain.config import Config, load_config
from onotrain.data.dataset import DataSpec
from onotrain.data.feed import ArrayFeed, Feed
from onotrain.data.hdf5_stream import Hdf5Stream
from onotrain.data.pool import Pool
from onotrain.data.prepare import DataDescription, prepare, samples_of
from onotrain.data.selection import spec_of
from onotrain.data.stream_feed import StreamFeed
from onotrain.errors import DataError, NumericsError, PlatformError, UsageError, on_all_ranks
from onotrain.evaluation import metrics
from onotrain.evaluation.evaluator import Evaluator
from onotrain.memory import available_bytes
from onotrain.nn import Model
from onotrain.optim import Optimizer
from onotrain.parallel import kernels as kernel_choice
from onotrain.parallel import threads
from onotrain.parallel.agreement import agreed, broadcast
from onotrain.parallel.shared_memory import allocate, share
from onotrain.parallel.world import Comm, World
from onotrain.runs.checkpoint import Checkpoint, Pause
from onotrain.runs.metadata import ModelMetadata, Vectors, arrays_of, digest_of, parameters_sha256, read_arrays
from onotrain.strategies import Context, Strategy
from onotrain.strategies import build as build_strategy
from onotrain.strategies.injection import Injection
from onotrain.strategies.replica import Replica
from onotrain.training.observers import Observer, Observers, RunStart
from onotrain.training.pools import make_pool
from onotrain.training.progress import Progress
from onotrain.training.run_writer import RunWriter
from onotrain.training.stop_signals import StopRequest
from onotrain.training.trainer import Components, Trainer


@dataclass(frozen=True)
class Result:
    """What a finished run gives back, the same on all ranks."""

    output: Path
    #: The content of ``summary.json``.
    summary: Mapping[str, Any]


def train(
    config: Config | Mapping[str, Any] | str | os.PathLike[str],
    comm: Comm | None = None,
    *,
    output: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overrides: Sequence[str] = (),
    observers: Sequence[Observer] = (),
) -> Result:
    """Train a network.

    *Collective* over `comm`: every rank calls it; the arguments of rank 0 count.

    Parameters
    ----------
    config
        A `Config`, a mapping of the same shape, or the path of a YAML file.
    comm
        Communicator of the ranks to train on; default: all of the job, or this process alone without ``mpirun``.
    output
        Run directory to make; default ``runs/<name>-<number>``.
    resume
        Go on from the newest sound checkpoint in `output`; start anew if there is none.
    overrides
        ``key.path=value`` changes of a configuration that is a file.
    observers
        Told of the run's progress, on rank 0.

    Returns
    -------
    Result
        Run directory and summary.

    Raises
    ------
    OnotrainError
        See `onotrain.errors`; the same on all ranks unless only one failed.  The end of a program on a rank that failed
        alone aborts the job, because the others wait for it.
    """
    with World.connect(comm) as world, StopRequest.listening() as stop, ExitStack() as stack:
        resolved = _agree_on_config(world, config, overrides)
        if resolved.simulate is not None and resolved.simulate.ranks_per_node is not None:
            world = stack.enter_context(World.connect(world.comm, resolved.simulate.ranks_per_node))  # noqa: PLW2901
        writer = RunWriter(world, resolved, _output(world, config, output), resume, Observers(observers), stack)
        return _Session(world, resolved, writer, stop, stack).run()


def _agree_on_config(world: World, config: Any, overrides: Sequence[str]) -> Config:
    """Read the configuration on rank 0; every rank builds its own from the same bytes."""

    def read() -> str:
        if isinstance(config, str | os.PathLike):
            return load_config(config, overrides).canonical_json()
        return (config if isinstance(config, Config) else Config.from_mapping(config)).canonical_json()

    text = broadcast(world.comm, read)
    with agreed(world.comm):  # a strategy or a loss may be of a package that another node lacks
        resolved = Config.from_mapping(json.loads(text))
    versions = world.comm.allgather(__version__)
    if len(set(versions)) > 1:
        raise on_all_ranks(
            PlatformError(
                f"ranks have different versions of onotrain: {', '.join(sorted(set(versions)))}",
                hint="install the same one on all nodes",
            )
        )
    return resolved


def _output(world: World, config: Any, output: str | os.PathLike[str] | None) -> Path:
    """Return the run directory: the one asked for, or the first free ``runs/<name>-<number>``."""

    def choose() -> Path:
        if output is not None:
            return Path(output)
        name = Path(config).stem if isinstance(config, str | os.PathLike) else "run"
        number = 1
        while (candidate := Path("runs") / f"{name}-{number}").exists():
            number += 1
        return candidate

    return broadcast(world.comm, choose)


class _Session:
    """One run: data, model and strategy, from the first step to the summary."""

    def __init__(self, world: World, config: Config, writer: RunWriter, stop: StopRequest, stack: ExitStack) -> None:
        self.world, self.config, self.writer, self._stop, self._stack = world, config, writer, stop, stack
        training = config.training
        self.kernels = kernel_choice.agree(world.comm, training.dtype)
        task, outputs = config.task, config.model.outputs
        memory = min(world.comm.allgather(available_bytes()))
        with agreed(world.comm):
            self.arrays, read = share(
                world.node, lambda: prepare(config.data, task, outputs, training.dtype, training.seed, memory)
            )
        self._check_same_data(read)
        # One for all: a node with another processor may have rounded the means otherwise.
        description: DataDescription = world.comm.bcast(read, root=0)
        self.metadata = ModelMetadata(config=config, **vars(description))
        self.model: Model = self.metadata.model(self.kernels)
        optimizer = Optimizer(config.optimizer, training.clip_norm, self.kernels)
        with agreed(world.comm):
            self._injection = Injection.of(config, world)
        self.progress = self._find_progress()
        notes = self.progress.strategy.get(config.strategy.name)
        with agreed(world.comm):
            self.strategy: Strategy = build_strategy(
                Context.of(config, world, self.model.layout, optimizer, self._injection, notes)
            )
        stack.push(self._close_strategy)
        self._start()
        self._views: tuple[np.ndarray, dict[str, np.ndarray]] | None = None
        self._pool: Pool | None = None

    def _close_strategy(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        """Give back what the strategy holds.  *Collective*, hence not done for an error that one rank has alone."""
        if error is None or getattr(error, "agreed", False):
            self.strategy.close()

    def _check_same_data(self, read: DataDescription) -> None:
        """Refuse nodes that have read different data, for they would make different steps.  *Collective*."""
        shapes = {name: (array.shape, array.dtype.str) for name, array in self.arrays.items()}
        seen = self.world.comm.allgather((shapes, read.identity()))
        if any(other != seen[0] for other in seen):
            where = self.config.data.train
            raise on_all_ranks(
                DataError(f"{where}: the nodes do not read the same data", hint="put the same files on all nodes")
            )

    def _find_progress(self) -> Progress:
        """Return how far the run has come.  *Collective*."""
        progress, found = Progress(), self.writer.found
        with agreed(self.world.comm):
            if found is not None:
                self.metadata.check_data(found.checkpoint.metadata)
                progress = Progress(**found.checkpoint.metadata["progress"])
                progress.finished = progress.stopped_early or progress.epoch >= self.config.training.epochs
        return self.world.comm.bcast(progress, root=0)

    def _start(self) -> None:
        """Set the first values of parameters and state, or those of the checkpoint.  *Collective*."""
        replica, found = self.strategy.replica, self.writer.found
        with agreed(self.world.comm):
            if found is not None:
                read_arrays(found.checkpoint, self.model.layout, _vectors(replica), str(found.path))
            elif self.world.rank == 0:
                self.model.initialize(replica.parameters, self.config.training.seed)
            self.writer.begin(self.progress)
        replica.broadcast()

    def run(self) -> Result:
        """Train, and write the summary.  *Collective*."""
        with agreed(self.world.comm):
            components = self._components()
            self._check_order(components.feed)
            trainer = Trainer(components)
            self.writer.prepare(self._checkpoint)
        self._announce(trainer)
        trainer.run()
        return Result(self.writer.output, self.writer.end(lambda: self._summary(trainer.components.feed.samples)))

    def _check_order(self, feed: Feed) -> None:
        """Refuse to go on in an order of samples in which some would be seen twice in an epoch, or never."""
        progress, source = self.progress, self.config.data.train
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

    def _components(self) -> Components:
        return Components(
            config=self.config,
            world=self.world,
            model=self.model,
            strategy=self.strategy,
            feed=self._feed(),
            evaluator=self._evaluator(),
            progress=self.progress,
            observer=self.writer.observer,
            save=lambda best: self.writer.save(self._checkpoint, self.progress.steps, best),
            wait_saved=self.writer.wait_saved,
            stop=self._stop,
            injection=self._injection,
            record=lambda record: self.writer.record({**record, **self._place()}),
        )

    def _stream(self, path: str) -> Hdf5Stream:
        """Open a file that is streamed."""
        return self._stack.enter_context(Hdf5Stream(spec_of(self.config.data, DataSpec(path, self.config.data.format))))

    def _feed(self) -> Feed:
        """Return what the training samples come from.  *Collective*."""
        arrays, data, training = self.arrays, self.config.data, self.config.training
        targets, index, normalization = arrays["targets"], arrays.get("train_index"), self.metadata.normalization
        if "features" in arrays:
            self._pool = make_pool(self.world, self.config, arrays, self.strategy.batches.local, self.kernels)
            return ArrayFeed(arrays["features"], targets, index, normalization, training.seed, self.kernels, self._pool)
        if data.partition.name != "none":
            raise UsageError(
                f"{data.train}: is streamed, for it does not fit in every node's memory; partition "
                f"{data.partition.name} needs samples in memory",
                hint="set data.stream: false, if a node has the memory, or use data.partition: none",
            )
        if not self.strategy.batches.bulk_synchronous:
            raise UsageError(
                f"{data.train}: streamed samples need ranks that make every step together, which those of strategy "
                f"{self.config.strategy.name} do not with these options",
                hint="set data.stream: false, if a node has the memory, or use a synchronous strategy",
            )
        with agreed(self.world.comm):
            feed = StreamFeed(
                self.world.node, partial(allocate, self.world.node), self._stream(data.train), targets, index,
                data.window_mib, training.batch_size, normalization, training.seed, self.kernels,
            )  # fmt: skip
        self._stack.callback(feed.close)
        return feed

    def _evaluator(self) -> Evaluator | None:
        """Return what judges the model after every epoch, if there are validation data."""
        arrays, data = self.arrays, self.config.data
        held_out = "" if "validation_index" in arrays else "validation_"
        targets = arrays["targets"] if not held_out else arrays.get("validation_targets")
        if targets is None:
            return None
        features = arrays.get(f"{held_out}features")
        path = str(data.validation) if held_out else data.train
        stream = None if features is not None else self._stream(path)
        samples = samples_of(features, targets, arrays.get("validation_index"), stream)
        origin = np.atleast_1d(samples.targets(0, 1)[0])
        wanted = metrics.make_metrics(self.config.training.metrics, self.model.loss, origin)
        return Evaluator(self.model, samples, self.metadata.normalization, wanted, self.kernels)

    def _place(self) -> dict[str, Any]:
        return {"ranks": self.world.size, "nodes": self.world.nodes, "strategy": self.config.strategy.name}

    def _announce(self, trainer: Trainer) -> None:
        observer, progress = self.writer.observer, self.progress
        problem = threads.warning(self.world.node.size)
        if problem is not None:
            observer.noted(problem)
        evaluator = trainer.components.evaluator
        observer.started(
            RunStart(
                output=str(self.writer.output),
                epochs=self.config.training.epochs,
                samples=trainer.components.feed.samples,
                validation_samples=0 if evaluator is None else evaluator.samples,
                batch_size=self.config.training.batch_size,
                steps_per_epoch=trainer.steps_per_epoch,
                parameters=self.model.layout.parameter_count,
                network="-".join(str(width) for width in (self.model.inputs, *self.model.widths)),
                first_epoch=progress.epoch,
                first_step=progress.steps,
                **self._place(),
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
                hint="lower optimizer.learning_rate, or set training.clip_norm; checkpoints from before are kept",
            )
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
        """Return the run's summary (rank 0): the figures of its last epoch, or of its best if that is kept."""
        progress, stopping = self.progress, self.config.training.early_stopping
        records = self.writer.directory.metrics()
        restore = stopping is not None and stopping.restore_best and progress.best is not None
        best = self.writer.directory.checkpoint("best").checkpoint if restore else None
        shown = [r for r in records if best is None or progress.best is None or r["epoch"] == progress.best["epoch"]]
        last = dict(shown[-1]) if shown else {}
        trained = progress.epoch * samples + progress.position
        return {
            **{key: last[key] for key in last if key.startswith(("train_", "validation_", "learning_rate"))},
            **self._place(),
            "epochs": progress.epoch,
            "steps": progress.steps,
            "finished": progress.finished,
            "stopped_early": progress.stopped_early,
            "best": progress.best,
            "train_seconds": progress.train_seconds,
            "samples_per_second": trained / progress.train_seconds if progress.train_seconds else None,
            **{key: _total(records, key) for key in ("ranks_seconds", "ranks_bytes")},
            **({} if self._pool is None else {"partition": self._pool.summary()}),
            "parameters": self.model.layout.parameter_count,
            "parameters_sha256": parameters_sha256(self.model.layout, self.strategy.replica.parameters)
            if best is None
            else best.metadata["parameters_sha256"],
            "restored_best": best is not None,
        }


def _vectors(replica: Replica) -> Vectors:
    """Return what a checkpoint holds of a replica."""
    return Vectors(replica.parameters, replica.optimizer_state, replica.strategy_state)


def _total(records: Sequence[Mapping[str, Any]], key: str) -> dict[str, list[float]] | None:
    """Return each rank's seconds or bytes over the epochs that were run with as many ranks as the last one."""
    if not records or key not in records[-1]:
        return None
    last = records[-1][key]
    alike = [r[key] for r in records if r["ranks"] == records[-1]["ranks"] and key in r]
    none = [0] * records[-1]["ranks"]  # of a kind that an earlier version did not measure
    return {kind: [sum(column) for column in zip(*(r.get(kind, none) for r in alike), strict=True)] for kind in last}

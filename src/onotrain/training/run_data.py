"""The data of a run: read once on each node, and what training and validation take from them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np

from onotrain._kernels import Kernels
from onotrain.config import Config
from onotrain.data import parts
from onotrain.data.description import DataDescription
from onotrain.data.feed import ArrayFeed, Feed
from onotrain.data.inherited import Inherited
from onotrain.data.prepare import prepare
from onotrain.data.reading import Progress, no_progress
from onotrain.data.sample_pool import Pool
from onotrain.data.samples import samples_of
from onotrain.data.stream_feed import StreamFeed
from onotrain.data.streams import Stream
from onotrain.data.weights import output_weights
from onotrain.errors import DataError, UsageError, on_all_ranks
from onotrain.evaluation import metrics
from onotrain.evaluation.evaluator import Evaluator, origin_of
from onotrain.memory import available_bytes
from onotrain.nn import Model
from onotrain.parallel.agreement import agreed
from onotrain.parallel.reading import NodeReader, share_read
from onotrain.parallel.shared_memory import allocate
from onotrain.parallel.world import World
from onotrain.strategies import Strategy
from onotrain.training.sample_pools import make_pool


class RunData:
    """Samples in memory that the ranks of a node share, or files to stream.

    Parameters
    ----------
    world, config
        Of the run.  *Collective*: the same on all ranks.
    kernels
        Kernels of the dtype to compute in.
    stack
        Closes what is open at the end of the run.
    inherited
        How the run prepared its data whose parameters this one begins with.
    held
        Samples in memory, which are taken in place of files: see `onotrain.data.prepare.prepare`.
    progress
        Learns, on rank 0, how many files have been read.

    Raises
    ------
    DataError
        A file cannot be used, or nodes have read different ones.
    """

    def __init__(
        self, world: World, config: Config, kernels: Kernels, stack: ExitStack, inherited: Inherited | None = None,
        held: Mapping[str, Any] | None = None, progress: Progress = no_progress,
    ) -> None:  # fmt: skip
        self._world, self._config, self._kernels, self._stack = world, config, kernels, stack
        data, training, outputs = config.data, config.training, config.targets
        memory = min(world.comm.allgather(available_bytes()))

        def read_data() -> tuple[dict[str, np.ndarray], tuple[DataDescription, tuple[str, ...], Mapping[str, Stream]]]:
            task, dtype = config.task, training.dtype
            prepared = prepare(data, task, outputs, dtype, memory, config.loss, inherited, held, reader, config.model)
            return prepared.arrays, (prepared.description, prepared.notes, prepared.streams)

        with agreed(world.comm):
            reader = NodeReader(world.node, progress)
            self._arrays, (read, notes, self._streams) = share_read(reader, world.node, read_data)
        self._check_same(read)
        #: What it took to read the files.
        self.files_read = reader.report(world)
        #: What was decided for the user, in words.
        self.notes: tuple[str, ...] = notes
        #: One for all: a node with another processor may have rounded the means otherwise.
        self.description: DataDescription = world.comm.bcast(read, root=0)
        #: This rank's own samples, if they are partitioned.
        self.pool: Pool | None = None

    def hand_over(self, world: World, stack: ExitStack) -> None:
        """Go on with fewer ranks: what is read stays in memory.  *Collective* over them.

        Parameters
        ----------
        world
            The survivors.
        stack
            As of the constructor.
        """
        self._world, self._stack, self.pool = world, stack, None

    def _check_same(self, read: DataDescription) -> None:
        """Refuse nodes that have read different data, for they would make different steps.  *Collective*."""
        shapes = {name: (array.shape, array.dtype.str) for name, array in self._arrays.items()}
        seen = self._world.comm.allgather((shapes, read.identity()))
        if any(other != seen[0] for other in seen):
            where = self._config.data.name
            raise on_all_ranks(
                DataError(f"{where}: the nodes do not read the same data", hint="put the same files on all nodes")
            )

    def feed(self, strategy: Strategy) -> Feed:
        """Return what the training samples come from.  *Collective*.

        Raises
        ------
        UsageError
            The data are streamed, and the strategy needs them in memory.
        """
        arrays, data, training = self._arrays, self._config.data, self._config.training
        targets, index, normalization = arrays["targets"], arrays.get("train_index"), self.description.normalization
        weights, by_output = arrays.get("weights"), arrays.get("output_weights")
        if "features" in arrays:
            self.pool = make_pool(self._world, self._config, arrays, strategy.batches.local, self._kernels)
            features = arrays["features"]
            return ArrayFeed(
                features, targets, index, normalization, training.seed, self._kernels, self.pool, weights,
                by_output,
            )  # fmt: skip
        if not strategy.batches.bulk_synchronous:
            raise UsageError(
                f"{data.name}: streamed samples need ranks that make every step together, which those of strategy "
                f"{self._config.strategy.name} do not with these options",
                hint="set data.stream: false, if a node has the memory, or use a synchronous strategy",
            )
        with agreed(self._world.comm):
            feed = StreamFeed(
                self._world.node, partial(allocate, self._world.node), self._streams["train"].again(), targets, index,
                data.window_mib, training.batch_size, normalization, training.seed, self._kernels, weights,
                by_output,
            )  # fmt: skip
        self._stack.callback(feed.close)
        return feed

    @property
    def split(self) -> dict[str, np.ndarray]:
        """Rows of the training file of each part that was cut from it."""
        return parts.in_file(self._arrays)

    @property
    def test_samples(self) -> int:
        """How many samples wait for the end of the run."""
        held_out = self._arrays.get("test_index", self._arrays.get("test_targets"))
        return 0 if held_out is None else len(held_out)

    def evaluator(self, model: Model, part: str = "validation") -> Evaluator | None:
        """Return what judges the model on a part, ``validation`` or ``test``; None without samples for it."""
        arrays = self._arrays
        held_out = "" if f"{part}_index" in arrays else f"{part}_"
        targets = arrays["targets"] if not held_out else arrays.get(f"{part}_targets")
        if targets is None:
            return None
        features = arrays.get(f"{held_out}features")
        stream = None
        if features is None:
            stream = self._streams[part if held_out else "train"].again()
            self._stack.callback(stream.close)
        weights, codec = arrays.get(f"{part}_weights"), self.description.codec
        samples = samples_of(features, targets, arrays.get(f"{part}_index"), stream, weights)
        names = codec.shown_names(self.description.target_names)
        own = output_weights(getattr(self._config.loss, "output_weights", None), names, self._config.data.name)
        origin = origin_of(samples, codec.in_units)
        wanted = metrics.make_metrics(
            self._config.training.metrics, model.loss, origin, of=names, weighted=weights is not None
        )
        return Evaluator(
            model, samples, self.description.normalization, wanted, self._kernels, names=names, scaling=codec.scaling,
            output_weights=own,
        )  # fmt: skip

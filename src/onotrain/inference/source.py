"""The samples to predict or evaluate: which columns or arrays of a file, read once per node and shared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from onotrain.data import DataSpec, check_finite
from onotrain.data.by_position import by_position
from onotrain.data.column_order import in_order
from onotrain.data.dataset import Dataset, check_codes, listed
from onotrain.data.for_network import check_features, encode, labelled_table, table_for
from onotrain.data.missing_targets import check_streamed, labelled_samples
from onotrain.data.reading import FileReader, Progress, ReadFiles, no_progress
from onotrain.data.samples import ArraySamples, Samples, StreamSamples
from onotrain.data.selection import like_training, spec_of
from onotrain.data.sources import expanded, is_table, load_dataset
from onotrain.data.streaming import open_stream, table_stream
from onotrain.data.streams import Stream
from onotrain.data.tables.preparation import Preparation
from onotrain.data.tables.table import Table
from onotrain.data.units import check_units
from onotrain.data.weights import sample_weights
from onotrain.evaluation.forward_pass import PASS_ROWS
from onotrain.inference.loading import together
from onotrain.memory import available_bytes
from onotrain.parallel.agreement import broadcast
from onotrain.parallel.reading import NodeReader, share_read
from onotrain.parallel.world import World
from onotrain.runs.metadata import ModelMetadata

#: Passes of one chunk at most.
_MOST_PASSES = 64
_NONE = np.empty(0)

Wanted = Literal["auto"] | bool


@dataclass(frozen=True)
class Source:
    """Samples of a file, of which every rank can read any."""

    #: For messages.
    name: str
    samples: Samples
    #: How many are best read at once; a multiple of `PASS_ROWS`, the same on all ranks.
    chunk: int = PASS_ROWS
    #: Columns that name the samples, as text; on rank 0 alone.
    ids: Mapping[str, np.ndarray] = field(default_factory=dict)
    #: Samples that lack a value without which nothing can be predicted, and the place of the first; on rank 0 alone.
    incomplete: int = 0
    first_incomplete: str = ""
    #: What a person must know of how they were read, in words.
    notes: tuple[str, ...] = ()


def open_source(
    stack: ExitStack, world: World | None, metadata: ModelMetadata, spec: DataSpec, stream: Wanted, *, labelled: bool,
    progress: Progress = no_progress,
) -> Source:  # fmt: skip
    """Open the samples of a file, and read their targets if they are wanted; *collective*.

    Parameters
    ----------
    stack
        Closes the file in the end.
    world
        The ranks; None for this process alone.
    metadata
        Of the network.
    spec
        What to read; what it leaves open is as in the training file (`onotrain.data.selection`).
    stream
        Leave HDF5 or Parquet files on the disk and let each rank read what it needs; ``auto``: if they are large.
    labelled
        Whether targets are wanted.
    progress
        Learns, on rank 0, how many files have been read.

    Returns
    -------
    Source
        Its targets are encoded for the loss; there are none if they are not wanted.

    Raises
    ------
    DataError
        Missing, damaged, not finite, other features than the network's, no targets, or a label outside the classes.
    ResourceError
        Larger than the node's memory.
    """
    # Of any node, so that all leave the same files on the disk.
    memory = None if world is None else min(world.comm.allgather(available_bytes()))
    if metadata.preparation is not None:
        return _prepared(stack, world, metadata, spec, stream, memory, labelled, progress)

    def choose() -> tuple[DataSpec, Stream | None]:
        names = (metadata.feature_names, metadata.target_names, metadata.inputs)
        chosen = like_training(metadata.config.data, replace(expanded(spec), labelled=labelled), *names)
        chosen = replace(
            chosen,
            pixels=metadata.feature_dtype == "uint8" or spec.pixels,
            weights=chosen.weights if labelled else None,
        )
        return chosen, open_stream(chosen, stream, memory)

    chosen, file = choose() if world is None else broadcast(world.comm, choose)
    if file is None:
        return _in_memory(world, metadata, chosen, labelled, progress)
    return _streamed(stack, world, metadata, file, labelled)


def _in_memory(
    world: World | None, metadata: ModelMetadata, spec: DataSpec, labelled: bool, progress: Progress
) -> Source:
    """Read everything once on each node."""

    def make(reader: ReadFiles) -> tuple[dict[str, np.ndarray], str]:
        policy = metadata.config.data.missing_targets if labelled else "error"
        dataset, _ = labelled_samples(load_dataset(spec, reader), policy)
        check_features(dataset.source, dataset.features.shape[1], metadata.inputs, metadata.feature_names)
        dataset = in_order(dataset, metadata.feature_names, metadata.target_names)
        check_finite(dataset)
        check_codes(dataset, metadata.codes)
        return {"features": dataset.features, **(_labels(metadata, dataset) if labelled else {})}, dataset.source

    arrays, name = _once_per_node(world, make, progress)
    return Source(name, ArraySamples(arrays["features"], arrays.get("targets", _NONE), weights=arrays.get("weights")))


def _labels(metadata: ModelMetadata, dataset: Dataset) -> dict[str, np.ndarray]:
    """Return encoded targets, and the samples' weights if they have any."""
    dtype = metadata.config.training.dtype
    weights = sample_weights(dataset)
    if metadata.config.data.units is None:  # else they are what a person calls them
        check_units(dataset, metadata.target_units)
    found = {"targets": encode(metadata.codec, dataset, dtype)}
    return found if weights is None else {**found, "weights": weights.astype(dtype)}


def _prepared(
    stack: ExitStack, world: World | None, metadata: ModelMetadata, spec: DataSpec, stream: Wanted, memory: int | None,
    labelled: bool, progress: Progress,
) -> Source:  # fmt: skip
    """Read a table once on each node, or leave it on the disk, for a network that was trained on one."""
    data, preparation, dtype = metadata.config.data, metadata.preparation, metadata.config.training.dtype
    assert preparation is not None

    found: dict[str, Any] = {}  # stays with the rank that reads: rank 0 is one of them

    def make(reader: ReadFiles) -> tuple[dict[str, np.ndarray], tuple[str, Stream | None, tuple[str, ...]]]:
        wanted = (listed(spec.targets) or metadata.target_names or ()) if labelled else ()
        like = expanded(spec_of(data, replace(spec, features=None, targets=None)))
        # Columns have the same names in tables of all formats; what is predicted needs no weights.
        of_training = data.weights if is_table(like) else None
        like = replace(like, weights=(spec.weights or of_training) if labelled else None)
        places = by_position(like, preparation, wanted, metadata.target_names or ())
        table = table_for(like, preparation, wanted, stream, memory, reader, data.columns, places)
        table, dataset = labelled_table(table, preparation, wanted, like.weights, data.columns, data.missing_targets)
        found["ids"] = {name: table[name].texts() for name in preparation.ids if name in table.names}
        found.update(_incomplete(table, preparation))
        labels = _labels(metadata, dataset) if labelled else {}
        notes = (*([] if places is None else [places.note]), *preparation.unseen(table))
        if table.on_disk:
            return labels, (dataset.source, table_stream(table, preparation, dtype, lenient=not labelled), notes)
        features = preparation.transform(table, dtype, lenient=not labelled)
        return {"features": features, **labels}, (dataset.source, None, notes)

    arrays, (name, file, notes) = _once_per_node(world, make, progress)
    if file is not None:
        return _of_stream(stack, name, file, arrays, notes=notes, **found)
    samples = ArraySamples(arrays["features"], arrays.get("targets", _NONE), weights=arrays.get("weights"))
    return Source(name, samples, notes=notes, **found)


def _incomplete(table: Table, preparation: Preparation) -> dict[str, Any]:
    """Return how many samples lack a value that must be there, and where the first one lies."""
    lost, columns = np.zeros(len(table), bool), []
    for name in preparation.complete:
        missing = table[name].missing
        if missing.any():
            columns.append((int(np.argmax(missing)), name))
            lost |= missing
    if not columns:
        return {}
    row, name = min(columns, key=lambda each: each[0])
    return {"incomplete": int(lost.sum()), "first_incomplete": table.where(row, table[name])}


def _streamed(stack: ExitStack, world: World | None, metadata: ModelMetadata, file: Any, labelled: bool) -> Source:
    """Read the targets once on each node."""
    with together(world):
        check_features(file.source, file.features, metadata.inputs, metadata.feature_names)
        file.order_features(metadata.feature_names)
        file.codes = metadata.codes

    def make(_: ReadFiles) -> tuple[dict[str, np.ndarray], str]:
        dataset = in_order(file.targets_only(), None, metadata.target_names)
        check_streamed(dataset, metadata.config.data.missing_targets)
        return _labels(metadata, dataset), ""

    labels = _once_per_node(world, make)[0] if labelled else {}
    return _of_stream(stack, file.source, file, labels)


def _of_stream(stack: ExitStack, name: str, file: Stream, labels: Mapping[str, np.ndarray], **found: Any) -> Source:
    """Return samples that each rank reads from the disk."""
    stack.callback(file.close)
    passes = min(-(-file.block_rows // PASS_ROWS), _MOST_PASSES)
    samples = StreamSamples(file, labels.get("targets", _NONE), weights=labels.get("weights"))
    return Source(name, samples, passes * PASS_ROWS, **found)


_Made = tuple[dict[str, np.ndarray], Any]


def _once_per_node(world: World | None, make: Callable[[ReadFiles], _Made], progress: Progress = no_progress) -> _Made:
    """Return what `make` makes of files, which all ranks of a node read; *collective*."""
    if world is None:
        return make(FileReader(progress))
    result: _Made = ({}, None)
    with together(world):
        reader = NodeReader(world.node, progress)
        result = share_read(reader, world.node, lambda: make(reader))
    return result

"""From the configuration's ``data`` section to arrays that training can take: read, checked, encoded, split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from onotrain.data import parts
from onotrain.data.arrangement import arranged
from onotrain.data.dataset import Dataset
from onotrain.data.inherited import Inherited
from onotrain.data.prepare_arrays import prepare_arrays
from onotrain.data.prepare_table import prepare_table
from onotrain.data.prepared import Prepared
from onotrain.data.reading import ReadFiles, in_turn
from onotrain.data.selection import spec_of
from onotrain.data.sources import expanded, is_table
from onotrain.data.tables.table import Table, shown
from onotrain.data.wanted import Wanted
from onotrain.errors import DataError, UsageError

__all__ = ["Prepared", "prepare"]


def prepare(
    section: Any, task: str, outputs: int, dtype: str, memory: int, loss: Any = None,
    inherited: Inherited | None = None, held: Mapping[str, Dataset | Table] | None = None,
    reader: ReadFiles = in_turn, model: Any = None,
) -> Prepared:  # fmt: skip
    """Read training, validation and test data.

    Parameters
    ----------
    section
        The ``data`` section of the configuration.
    task, outputs
        What the loss makes of the targets, and how many targets, or classes, the network learns.
    dtype
        Compute dtype.
    memory
        What any node has left, by which ``stream: auto`` is decided alike on all of them [bytes].
    loss
        The ``loss`` section, for its weights of classes and outputs, and what targets it takes; None: any, and there
        are no weights.
    inherited
        How the run prepared its data whose parameters are the first ones of this one; None: they are drawn.
    held
        Samples in memory for some parts, ``train`` and others, which are taken in place of files.
    reader
        Reads the files.
    model
        The ``model`` section, for what its layers want of columns of categories; None: any.

    Raises
    ------
    DataError
        Anything about the files.
    UsageError
        The data are streamed, and data.partition needs them in memory.
    """
    held = held or {}
    spec = expanded(replace(spec_of(section), held=held.get("train")))
    reading = prepare_table if is_table(spec) else prepare_arrays
    prepared = reading(section, spec, Wanted(task, outputs, dtype, memory, loss, inherited, held, reader, model))
    _check_counts(prepared.arrays, spec.path)
    if "train" in prepared.streams and section.partition.name != "none":
        raise UsageError(
            f"{section.name}: is streamed, for it does not fit in every node's memory; partition "
            f"{section.partition.name} needs samples in memory",
            hint="set data.stream: false, if a node has the memory, or use data.partition: none",
        )
    description = replace(prepared.description, feature_shape=arranged(section, prepared.description.feature_shape))
    notes = (*prepared.notes, *_trained_on(prepared.arrays), *_unseen_classes(prepared))
    return replace(prepared, description=description, notes=notes)


def _trained_on(arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yield a note on each part in memory that has the samples of the training file."""
    for part in ("validation", "test"):
        own = arrays.get(f"{part}_features")
        if own is not None and "features" in arrays and np.array_equal(own, arrays["features"]):
            yield f"the {part} samples are those that are trained on; their metrics say nothing new"


def _unseen_classes(prepared: Prepared) -> Iterator[str]:
    """Yield a note on classes of which no sample is trained on."""
    codec, targets = prepared.description.codec, prepared.arrays["targets"]
    if codec.task != "multiclass":
        return
    trained = targets[prepared.arrays.get(parts.TRAIN, slice(None))]
    none = np.flatnonzero(np.bincount(trained.reshape(-1).astype(np.int64), minlength=codec.outputs) == 0)
    if len(none):
        names = codec.class_names or tuple(map(str, range(codec.outputs)))
        shown_names = shown([names[number] for number in none])
        yield f"no sample of class {shown_names} is trained on: add samples, or use data.split.by: class"


def _check_counts(arrays: dict[str, np.ndarray], source: str) -> None:
    """Refuse an empty training or validation part."""
    for part, names in (
        ("training", (parts.TRAIN, "targets")),
        ("validation", (parts.VALIDATION, "validation_targets")),
        ("test", (parts.TEST, "test_targets")),
    ):
        array = next((arrays[name] for name in names if name in arrays), None)
        if array is not None and len(array) == 0:
            raise DataError(
                f"{source}: {len(arrays['targets'])} samples are too few: none is left for {part}",
                hint="add samples, or change data.validation",
            )

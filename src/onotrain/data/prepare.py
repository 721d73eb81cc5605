"""From the configuration's ``data`` section to arrays that training can take: read, checked, encoded, split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from onotrain.data import parts
from onotrain.data.dataset import Dataset, DataSpec, check_finite, listed
from onotrain.data.description import DataDescription
from onotrain.data.for_network import check_features, labelled_table, table_for
from onotrain.data.hdf5_stream import Hdf5Stream
from onotrain.data.identity import digest_of, digest_of_table, identity_of, some_rows
from onotrain.data.in_memory import SOURCE
from onotrain.data.inherited import Inherited
from onotrain.data.missing_targets import check_streamed, labelled_samples, left_out
from onotrain.data.normalization import Normalization
from onotrain.data.reading import ReadFiles, in_turn
from onotrain.data.samples import Samples, blocks_of, samples_of
from onotrain.data.selection import spec_of, spec_of_part
from onotrain.data.several import in_order
from onotrain.data.sources import expanded, format_of, is_table, load_dataset, read_table
from onotrain.data.streaming import is_large, notes_on, open_stream, stored_table, table_stream
from onotrain.data.streams import Stream
from onotrain.data.tables.preparation import Preparation
from onotrain.data.tables.roles import choose_roles, formats_of, labelled_only, targets_dataset
from onotrain.data.tables.table import Table, shown
from onotrain.data.units import units_of
from onotrain.data.wanted import Wanted
from onotrain.errors import DataError, UsageError

#: Samples of a block that a normalisation is computed from.
_BLOCK_ROWS = 4096


def normalization_of(setting: Any, samples: Samples) -> Normalization:
    """Return the normalisation that ``data.normalize`` asks for, computed on `samples`."""
    if not isinstance(setting, str):
        return Normalization.given(setting.mean, setting.std)
    return Normalization.fit_blocks(setting, blocks_of(samples, _BLOCK_ROWS))


@dataclass(frozen=True)
class Prepared:
    """Data that training can take.

    Parameters
    ----------
    arrays
        ``features`` (unless they are streamed) and ``targets`` of all samples in the training file; ``train_index`` if
        parts are cut from it; for validation and test either ``<part>_index``, or ``<part>_features`` (unless streamed)
        and ``<part>_targets``, or nothing.  Where samples or classes have weights, ``weights`` of all samples in the
        training file, 1 in the mean over the training part; where samples have, ``<part>_weights`` of the others.
        Where outputs have weights or targets are missing, ``output_weights`` (see `measured_weights`).
    description
        Shapes, names, and how features and targets are scaled, fitted on the training part.
    notes
        What was decided for the user, in words.
    streams
        What the features of ``train``, ``validation`` and ``test`` are read from, where they are not in memory.
    """

    arrays: dict[str, np.ndarray]
    description: DataDescription
    notes: tuple[str, ...] = ()
    streams: Mapping[str, Stream] = field(default_factory=dict)


def prepare(
    section: Any, task: str, outputs: int, dtype: str, memory: int, loss: Any = None,
    inherited: Inherited | None = None, held: Mapping[str, Dataset | Table] | None = None,
    reader: ReadFiles = in_turn,
) -> Prepared:  # fmt: skip
    """Read training, validation and test data.

    Parameters
    ----------
    section
        The ``data`` section of the configuration.
    task, outputs
        What the loss makes of the targets, and the width of the last layer.
    dtype
        Compute dtype.
    memory
        What any node has left, by which ``stream: auto`` is decided alike on all of them [bytes].
    loss
        The ``loss`` section, for its weights of classes and outputs; None: there are none.
    inherited
        How the run prepared its data whose parameters are the first ones of this one; None: they are drawn.
    held
        Samples in memory for some parts, ``train`` and others, which are taken in place of files.
    reader
        Reads the files.

    Raises
    ------
    DataError
        Anything about the files.
    UsageError
        The data are streamed, and data.partition needs them in memory.
    """
    held = held or {}
    spec = expanded(replace(spec_of(section), held=held.get("train")))
    reading = _prepare_table if is_table(spec) else _prepare_arrays
    prepared = reading(section, spec, Wanted(task, outputs, dtype, memory, loss, inherited, held, reader))
    _check_counts(prepared.arrays, spec.path)
    if "train" in prepared.streams and section.partition.name != "none":
        raise UsageError(
            f"{section.name}: is streamed, for it does not fit in every node's memory; partition "
            f"{section.partition.name} needs samples in memory",
            hint="set data.stream: false, if a node has the memory, or use data.partition: none",
        )
    return replace(prepared, notes=(*prepared.notes, *_trained_on(prepared.arrays), *_unseen_classes(prepared)))


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


def _apart(section: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts that have samples of their own, and where these are."""
    for part, where in (("validation", section.validation), ("test", section.test)):
        if where is not None and not isinstance(where, float):
            yield part, where


def _prepare_arrays(section: Any, spec: DataSpec, wanted: Wanted) -> Prepared:
    """Read features that are an array."""
    with ExitStack() as stack:
        train, train_stream, notes = _read(section, spec, stack, wanted.memory, wanted.reader)
        codec, arrays, more = wanted.targets(section, train)
        notes += more
        arrays |= {} if train_stream else {"features": train.features}
        streams: dict[str, Stream] = {} if train_stream is None else {"train": train_stream}
        memory, digests = wanted.memory - train.features.nbytes, dict[str, str]()
        for part, where in _apart(section):
            of_part = DataSpec(SOURCE, held=wanted.held.get(part))
            if of_part.held is None:
                of_part = spec_of_part(section, where, train, _columns(train, train_stream))
            of_part = replace(of_part, pixels=_dtype(train, train_stream) == np.uint8)
            held_out, stream, _ = _read(section, of_part, stack, memory, wanted.reader)
            digests[part] = digest_of(_told(of_part, held_out, stream))
            check_features(
                held_out.source, _columns(held_out, stream), _columns(train, train_stream), train.feature_names
            )
            held_out = in_order(held_out, train.feature_names, train.target_names)
            arrays |= wanted.labels(part, codec, held_out)
            if stream is None:
                arrays[f"{part}_features"] = held_out.features
                memory -= held_out.features.nbytes
            else:
                stream.order_features(train.feature_names)
                streams[part] = stream
        samples = samples_of(arrays.get("features"), arrays["targets"], arrays.get(parts.TRAIN), train_stream)
        pixels = _dtype(train, train_stream) == np.uint8
        kept = wanted.inherited and wanted.inherited.normalization_of(train, pixels, section)
        normalization = kept or normalization_of(section.normalize, samples)
        of_training = [digest_of([each]) if each is not None else "" for each in _told(spec, train, train_stream)]
    description = DataDescription(
        train.feature_shape, str(train.features.dtype), train.feature_names, train.target_names, normalization, codec,
        digest=identity_of(of_training, digests), target_units=units_of(section.units, codec, train),
        inherited=kept is not None,
    )  # fmt: skip
    return Prepared(arrays, description, tuple(notes), streams)


def _prepare_table(section: Any, spec: DataSpec, wanted: Wanted) -> Prepared:
    """Read features that are columns of a table."""
    texts = _texts(section)
    formats = formats_of(section.columns)
    store = None if spec.held is not None else stored_table(spec, section.stream, texts=texts, formats=formats)
    stays = store is not None and (section.stream is True or is_large(store.nbytes, wanted.memory))
    table = (
        store if store is not None and stays else read_table(spec, texts=texts, formats=formats, reader=wanted.reader)
    )
    roles = choose_roles(table, spec, section.columns)
    table, dropped = labelled_only(table, roles, section.columns, section.missing_targets)
    labels = targets_dataset(table, roles, section.columns)
    codec, arrays, more = wanted.targets(section, labels, table)
    setting = section.normalize
    scale = setting if isinstance(setting, str) else (setting.mean, setting.std)
    kept, kinds = None, roles.kinds
    if wanted.inherited is not None:
        kept = wanted.inherited.preparation_of(spec.path, roles.features, section)
        kinds = wanted.inherited.in_order(kinds)
    preparation = kept or Preparation.fit(table, kinds, scale, arrays.get(parts.TRAIN))
    streams: dict[str, Stream] = {}
    nbytes = len(table) * len(preparation.names) * np.dtype(wanted.dtype).itemsize
    if store is not None and (section.stream is True or is_large(nbytes, wanted.memory)):
        samples = table if stays else labelled_only(store, roles, section.columns, section.missing_targets)[0]
        types = {name: table.type_of(name) for name in preparation.inputs}
        streams["train"] = table_stream(samples, preparation, wanted.dtype, types)
    else:
        arrays["features"] = preparation.transform(table, wanted.dtype)
    memory, digests = wanted.memory - (nbytes if "features" in arrays else 0), dict[str, str]()
    for part, where in _apart(section):
        samples, found = _part_of_table(section, spec, part, where, preparation, roles.targets, wanted, memory)
        digests[part] = digest_of_table(samples)
        if samples.on_disk:
            streams[part] = table_stream(samples, preparation, wanted.dtype)
        else:
            arrays[f"{part}_features"] = preparation.transform(samples, wanted.dtype)
        arrays |= wanted.labels(part, codec, found)
    notes = [
        *table.all_notes, *roles.notes(), *left_out(dropped, section.missing_targets), *more,
        *notes_on(streams.get("train"), section.window_mib),
    ]  # fmt: skip
    description = DataDescription(
        (len(preparation.names),), wanted.dtype, preparation.names, roles.targets or None, Normalization.none(), codec,
        preparation=preparation, digest=identity_of([digest_of(column.values for column in table)], digests),
        target_units=units_of(section.units, codec, labels), inherited=kept is not None,
    )  # fmt: skip
    return Prepared(arrays, description, tuple(notes), streams)


def _texts(section: Any) -> dict[str, bool]:
    """Return whether columns are read as text, by name or pattern; patterns are for features."""
    no_features = dict.fromkeys(
        (*(listed(section.targets) or ()), *([section.weights] if section.weights else ())), False
    )
    said = {name: kind.name in ("categorical", "boolean", "id") for name, kind in section.columns.items()}
    return no_features | said


def _part_of_table(
    section: Any, spec: DataSpec, part: str, where: Any, preparation: Preparation, targets: tuple[str, ...],
    wanted: Wanted, memory: int,
) -> tuple[Table, Dataset]:  # fmt: skip
    """Return the samples of a part that is a table of its own, and their targets."""
    if not isinstance(where, str):
        raise DataError(
            f"{spec.path}: data.{part} names arrays, but the training data are a table",
            hint="give the path of another table, a fraction, or data.split",
        )
    of_part = DataSpec(where, section.format, csv=spec.csv, weights=spec.weights, held=wanted.held.get(part))
    stream = False if of_part.held is not None else section.stream
    formats = formats_of(section.columns)
    table = table_for(of_part, preparation, targets, stream, memory, wanted.reader, formats)
    return labelled_table(table, preparation, targets, spec.weights, section.columns, section.missing_targets)


def _read(
    section: Any, spec: DataSpec, stack: ExitStack, memory: int, reader: ReadFiles
) -> tuple[Dataset, Hdf5Stream | None, list[str]]:
    """Return a data set, checked, or the targets of one that is streamed, and notes."""
    spec = expanded(spec)
    stream, policy = open_stream(spec, section.stream, memory), section.missing_targets
    if stream is not None:
        labels = stack.enter_context(stream).targets_only()
        check_streamed(labels, policy)
        return labels, stream, []
    dataset, dropped = labelled_samples(load_dataset(spec, reader), policy)
    check_finite(dataset)
    return dataset, None, left_out(dropped, policy)


def _told(spec: DataSpec, dataset: Dataset, stream: Stream | None) -> tuple[np.ndarray | None, ...]:
    """Return the arrays by which samples are known again: targets, features and weights.

    Of a file that may be streamed some samples stand for all, so that it may be streamed at one time and not at
    another.
    """
    rows = some_rows(len(dataset)) if format_of(spec) in ("hdf5", "netcdf") else slice(None)
    return dataset.targets, _features_at(dataset, stream, rows), dataset.weights


def _features_at(dataset: Dataset, stream: Stream | None, rows: Any) -> np.ndarray:
    """Return the features of some samples, wherever they lie."""
    if stream is None:
        return dataset.features[rows]
    out = np.empty((len(rows), stream.features), stream.dtype)
    for place, row in enumerate(rows):
        stream.read(int(row), int(row) + 1, out[place : place + 1])
    return out


def _dtype(dataset: Dataset, stream: Stream | None) -> np.dtype:
    return dataset.features.dtype if stream is None else stream.dtype


def _columns(dataset: Dataset, stream: Stream | None) -> int:
    return dataset.features.shape[1] if stream is None else stream.features


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

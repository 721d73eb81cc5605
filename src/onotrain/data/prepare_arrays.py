"""Features that are an array, in memory or streamed, to what training can take."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from onotrain.data import parts
from onotrain.data.column_order import in_order
from onotrain.data.dataset import Dataset, DataSpec, check_codes, check_finite
from onotrain.data.description import DataDescription
from onotrain.data.for_network import check_features
from onotrain.data.hdf5_stream import Hdf5Stream
from onotrain.data.identity import digest_of, identity_of, some_rows
from onotrain.data.in_memory import SOURCE
from onotrain.data.missing_targets import check_streamed, labelled_samples, left_out
from onotrain.data.normalization import Normalization
from onotrain.data.prepared import Prepared, parts_apart
from onotrain.data.reading import ReadFiles
from onotrain.data.samples import Samples, blocks_of, samples_of
from onotrain.data.selection import spec_of_part
from onotrain.data.sources import expanded, format_of, load_dataset
from onotrain.data.streaming import open_stream
from onotrain.data.streams import Stream
from onotrain.data.units import check_units, units_of
from onotrain.data.wanted import Wanted

#: Samples of a block that a normalisation is computed from.
_BLOCK_ROWS = 4096


def normalization_of(setting: Any, samples: Samples) -> Normalization:
    """Return the normalisation that ``data.normalize`` asks for, computed on `samples`."""
    if not isinstance(setting, str):
        return Normalization.given(setting.mean, setting.std)
    return Normalization.fit_blocks(setting, blocks_of(samples, _BLOCK_ROWS))


def prepare_arrays(section: Any, spec: DataSpec, wanted: Wanted) -> Prepared:
    """Read features that are an array."""
    with ExitStack() as stack:
        train, train_stream, file_rows, notes = _read(section, spec, stack, wanted.memory, wanted.reader)
        dtype, features = _dtype(train, train_stream), _columns(train, train_stream)
        # Others are refused with the network, which says where it is written.
        codes = {feature: count for feature, count in wanted.codes.items() if feature < features}
        _check_codes(train, train_stream, codes)
        codec, arrays, more = wanted.targets(section, train, file_rows)
        notes += more
        arrays |= {} if train_stream else {"features": train.features}
        streams: dict[str, Stream] = {} if train_stream is None else {"train": train_stream}
        memory, digests = wanted.memory - train.features.nbytes, dict[str, str]()
        for part, where in parts_apart(section):
            of_part = DataSpec(SOURCE, held=wanted.held.get(part))
            if of_part.held is None:
                of_part = spec_of_part(section, where, train, _columns(train, train_stream))
            of_part = replace(of_part, pixels=_dtype(train, train_stream) == np.uint8)
            held_out, stream, *_ = _read(section, of_part, stack, memory, wanted.reader)
            digests[part] = digest_of(_known_by(of_part, held_out, stream))
            check_features(
                held_out.source, _columns(held_out, stream), _columns(train, train_stream), train.feature_names
            )
            held_out = in_order(held_out, train.feature_names, train.target_names)
            _check_codes(held_out, stream, codes)
            check_units(held_out, train.target_units)
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
        normalization = normalization.leaving(codes, features, dtype)
        of_training = [digest_of([each]) if each is not None else "" for each in _known_by(spec, train, train_stream)]
    description = DataDescription(
        train.feature_shape, str(train.features.dtype), train.feature_names, train.target_names, normalization, codec,
        digest=identity_of(of_training, digests), target_units=units_of(section.units, codec, train),
        inherited=kept is not None,
    )  # fmt: skip
    return Prepared(arrays, description, tuple(notes), streams)


def _read(
    section: Any, spec: DataSpec, stack: ExitStack, memory: int, reader: ReadFiles
) -> tuple[Dataset, Hdf5Stream | None, np.ndarray | None, list[str]]:
    """Return a data set, checked, or the targets of one that is streamed, the rows that are samples, and notes."""
    spec = expanded(spec)
    stream, policy = open_stream(spec, section.stream, memory), section.missing_targets
    if stream is not None:
        labels = stack.enter_context(stream).targets_only()
        check_streamed(labels, policy)
        return labels, stream, None, []
    whole = load_dataset(spec, reader)
    dataset, file_rows = labelled_samples(whole, policy)
    check_finite(dataset)
    return dataset, None, file_rows, left_out(len(whole) - len(dataset), policy)


def _check_codes(dataset: Dataset, stream: Hdf5Stream | None, codes: Mapping[int, int]) -> None:
    """Refuse features that are no codes of categories though they should be: of a stream, when they are read."""
    if stream is None:
        check_codes(dataset, codes)
    else:
        stream.codes = codes


def _known_by(spec: DataSpec, dataset: Dataset, stream: Stream | None) -> tuple[np.ndarray | None, ...]:
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

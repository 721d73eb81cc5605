"""From the configuration's ``data`` section to arrays that training can take: read, checked, encoded, split."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from onotrain.data.dataset import Dataset, DataSpec, check_finite
from onotrain.data.hdf5_stream import Hdf5Stream, open_stream
from onotrain.data.normalization import Normalization
from onotrain.data.readers import load_dataset
from onotrain.data.samples import ArraySamples, Samples, StreamSamples, blocks_of
from onotrain.data.selection import like_training, spec_of
from onotrain.data.split import stratified_split
from onotrain.data.targets import TargetCodec
from onotrain.data.weights import ClassWeights, sample_weights, training_weights
from onotrain.errors import DataError

#: Samples of a block that a normalisation is computed from.
_BLOCK_ROWS = 4096


@dataclass(frozen=True)
class DataDescription:
    """What stays with a model of the data that it was trained on."""

    feature_shape: tuple[int, ...]
    #: ``uint8`` (pixels, which stand for their value / 255) or ``float32``.
    feature_dtype: str
    feature_names: tuple[str, ...] | None
    target_names: tuple[str, ...] | None
    normalization: Normalization
    codec: TargetCodec

    def identity(self) -> dict[str, Any]:
        """Return what the data alone decide, without their normalisation, as JSON-able data."""
        names = {"feature_names": self.feature_names, "target_names": self.target_names}
        return {
            "feature_shape": list(self.feature_shape),
            "feature_dtype": self.feature_dtype,
            **{key: None if value is None else list(value) for key, value in names.items()},
            "targets": self.codec.to_dict(),
        }


def normalization_of(setting: Any, samples: Samples) -> Normalization:
    """Return the normalisation that ``data.normalize`` asks for, computed on `samples`."""
    if not isinstance(setting, str):
        return Normalization.given(setting.mean, setting.std)
    return Normalization.fit_blocks(setting, blocks_of(samples, _BLOCK_ROWS))


def encode(codec: TargetCodec, dataset: Dataset, dtype: str) -> np.ndarray:
    """Return targets as training takes them: int32 classes, or numbers of the compute dtype."""
    targets = codec.encode(dataset)
    return targets if targets.dtype == np.int32 else np.ascontiguousarray(targets, dtype)


def check_features(source: str, columns: int, inputs: int, names: tuple[str, ...] | None) -> None:
    """Refuse data with another number of features (`columns`) than the network's (`inputs`).

    Raises
    ------
    DataError
        They have.
    """
    if columns != inputs:
        raise DataError(
            f"{source}: samples have {columns} features; the network expects {inputs}",
            hint=None if names is None else f"it was trained on: {', '.join(names[:20])}",
        )


def prepare(
    section: Any,
    task: str,
    outputs: int,
    dtype: str,
    seed: int,
    memory: int,
    class_weights: ClassWeights = None,
) -> tuple[dict[str, np.ndarray], DataDescription]:
    """Read training and validation data.

    Parameters
    ----------
    section
        The ``data`` section of the configuration.
    task, outputs
        What the loss makes of the targets, and the width of the last layer.
    dtype
        Compute dtype.
    seed
        Of the split.
    memory
        What any node has left, by which ``stream: auto`` is decided alike on all of them [bytes].
    class_weights
        Of the ``loss`` section.

    Returns
    -------
    arrays
        ``features`` (unless they are streamed) and ``targets`` of all samples in the training file, and for validation
        either ``train_index`` and ``validation_index`` into these, or ``validation_features`` (unless streamed) and
        ``validation_targets``, or nothing.  Where samples or classes have weights, ``weights`` of all samples in the
        training file, 1 in the mean over the training part; where samples have, ``validation_weights`` of the
        validation samples.
    description
        Shapes, names, normalisation (computed on the training part) and encoding of the targets.

    Raises
    ------
    DataError
        Anything about the files.
    """
    with ExitStack() as stack:
        train, train_stream = _read(section, spec_of(section), stack, memory)
        codec = TargetCodec.fit(task, outputs, train)
        targets = encode(codec, train, dtype)
        arrays = {"targets": targets} | ({} if train_stream else {"features": train.features})
        validation, weights = section.validation, sample_weights(train)
        if isinstance(validation, float):
            labels = targets.reshape(-1).astype(np.int64) if task in ("multiclass", "binary") else None
            split = stratified_split(labels, len(train), validation, seed)
            arrays["train_index"], arrays["validation_index"] = split
            arrays |= _named("validation_weights", None if weights is None else weights[split[1]], dtype)
        elif validation is not None:
            spec = _validation_spec(section, train, _columns(train, train_stream))
            held_out, stream = _read(section, spec, stack, memory - train.features.nbytes)
            check_features(
                held_out.source, _columns(held_out, stream), _columns(train, train_stream), train.feature_names
            )
            arrays["validation_targets"] = encode(codec, held_out, dtype)
            arrays |= _named("validation_weights", sample_weights(held_out), dtype)
            if stream is None:
                arrays["validation_features"] = held_out.features
        _check_counts(arrays, train.source)
        counted = training_weights(weights, class_weights, codec, targets, arrays.get("train_index"), train.source)
        arrays |= _named("weights", counted, dtype)
        samples = samples_of(arrays.get("features"), targets, arrays.get("train_index"), train_stream)
        normalization = normalization_of(section.normalize, samples)
    return arrays, DataDescription(
        train.feature_shape, str(train.features.dtype), train.feature_names, train.target_names, normalization, codec
    )


def _named(name: str, weights: np.ndarray | None, dtype: str) -> dict[str, np.ndarray]:
    """Return weights under their name, or nothing if there are none."""
    return {} if weights is None else {name: weights.astype(dtype)}


def _validation_spec(section: Any, train: Dataset, inputs: int) -> DataSpec:
    """Return the validation file, a table by the names of the training file's columns."""
    if section.validation == "test":
        return DataSpec(section.train, part="test")
    spec = DataSpec(section.validation, section.format)
    return like_training(section, spec, train.feature_names, train.target_names, inputs)


def _read(section: Any, spec: DataSpec, stack: ExitStack, memory: int) -> tuple[Dataset, Hdf5Stream | None]:
    """Return a data set, checked, or the targets of one that is streamed."""
    stream = open_stream(spec, section.stream, memory)
    if stream is not None:
        return stack.enter_context(stream).targets_only(), stream
    dataset = load_dataset(spec)
    check_finite(dataset)
    return dataset, None


def _columns(dataset: Dataset, stream: Hdf5Stream | None) -> int:
    return dataset.features.shape[1] if stream is None else stream.features


def samples_of(
    features: np.ndarray | None,
    targets: np.ndarray,
    index: np.ndarray | None,
    stream: Hdf5Stream | None,
    weights: np.ndarray | None = None,
) -> Samples:
    """Return samples whose features are in memory, or else in `stream`; weights are of the samples in `index`."""
    if stream is not None:
        return StreamSamples(stream, targets, index, weights)
    if features is None:
        raise ValueError("neither features nor a stream")
    return ArraySamples(features, targets, index, weights)


def _check_counts(arrays: dict[str, np.ndarray], source: str) -> None:
    """Refuse an empty training or validation part."""
    for part, names in (
        ("training", ("train_index", "targets")),
        ("validation", ("validation_index", "validation_targets")),
    ):
        array = next((arrays[name] for name in names if name in arrays), None)
        if array is not None and len(array) == 0:
            raise DataError(
                f"{source}: {len(arrays['targets'])} samples are too few: none is left for {part}",
                hint="add samples, or change data.validation",
            )

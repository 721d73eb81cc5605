"""From the configuration's ``data`` section to arrays that training can take: read, checked, encoded, split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onotrain.data.dataset import Dataset, DataSpec
from onotrain.data.normalization import Normalization
from onotrain.data.readers import check_finite, load_dataset
from onotrain.data.split import stratified_split
from onotrain.data.targets import TargetCodec
from onotrain.errors import DataError


@dataclass(frozen=True)
class Description:
    """What stays with a model of the data that it was trained on."""

    feature_shape: tuple[int, ...]
    feature_names: tuple[str, ...] | None
    target_names: tuple[str, ...] | None
    normalization: Normalization
    codec: TargetCodec


def spec_of(section: Any, **changes: Any) -> DataSpec:
    """Return the training file of the ``data`` section, with changes."""
    spec = DataSpec(path=section.train, format=section.format, features=section.features, targets=section.targets)
    return replace(spec, **changes)


def normalization_of(setting: Any, features: np.ndarray, index: np.ndarray | None) -> Normalization:
    """Return the normalisation that ``data.normalize`` asks for, computed on the rows `index` of `features`."""
    if isinstance(setting, str):
        return Normalization.none() if setting == "none" else Normalization.fit(setting, features, index)
    return Normalization.given(setting.mean, setting.std)


def encode(codec: TargetCodec, dataset: Dataset, dtype: str) -> np.ndarray:
    """Return targets as training takes them: int32 classes, or numbers of the compute dtype."""
    targets = codec.encode(dataset)
    return targets if targets.dtype == np.int32 else np.ascontiguousarray(targets, dtype)


def check_features(dataset: Dataset, inputs: int, names: tuple[str, ...] | None) -> None:
    """Refuse data whose samples have another shape than the network's.

    Raises
    ------
    DataError
        They have.
    """
    if dataset.features.shape[1] != inputs:
        raise DataError(
            f"{dataset.source}: samples have {dataset.features.shape[1]} features; the network expects {inputs}",
            hint=None if names is None else f"it was trained on: {', '.join(names[:20])}",
        )


def prepare(section: Any, task: str, outputs: int, dtype: str, seed: int) -> tuple[dict[str, np.ndarray], Description]:
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

    Returns
    -------
    arrays
        ``features`` and ``targets`` of all samples in the training file, and for validation either ``train_index`` and
        ``validation_index`` into these, or ``validation_features`` and ``validation_targets``, or nothing.
    description
        Shapes, names, normalisation (computed on the training part) and encoding of the targets.

    Raises
    ------
    DataError
        Anything about the files.
    """
    train = load_dataset(spec_of(section))
    check_finite(train)
    codec = TargetCodec.fit(task, outputs, train)
    arrays = {"features": train.features, "targets": encode(codec, train, dtype)}
    validation = section.validation
    if isinstance(validation, float):
        labels = arrays["targets"] if task in ("multiclass", "binary") else None
        arrays["train_index"], arrays["validation_index"] = stratified_split(
            None if labels is None else labels.reshape(-1).astype(np.int64), len(train.features), validation, seed
        )
    elif validation is not None:
        spec = spec_of(section, part="test") if validation == "test" else spec_of(section, path=validation)
        held_out = load_dataset(spec)
        check_finite(held_out)
        check_features(held_out, train.features.shape[1], train.feature_names)
        arrays["validation_features"] = held_out.features
        arrays["validation_targets"] = encode(codec, held_out, dtype)
    _check_counts(arrays, train.source)
    normalization = normalization_of(section.normalize, train.features, arrays.get("train_index"))
    return arrays, Description(train.feature_shape, train.feature_names, train.target_names, normalization, codec)


def _check_counts(arrays: dict[str, np.ndarray], source: str) -> None:
    """Refuse an empty training or validation part."""
    for part, names in (("training", ("train_index", "features")), ("validation", ("validation_index", "validation_features"))):
        array = next((arrays[name] for name in names if name in arrays), None)
        if array is not None and len(array) == 0:
            raise DataError(
                f"{source}: {len(arrays['features'])} samples are too few: none is left for {part}",
                hint="add samples, or change data.validation",
            )

"""What a run's network makes of the samples that it was not trained on: the same samples that measured it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onotrain.data.prepare import prepare
from onotrain.data.prepared import Prepared
from onotrain.errors import DataError, UsageError
from onotrain.inference.predictor import Predictor
from onotrain.memory import available_bytes
from onotrain.runs.metadata import ModelMetadata
from onotrain.runs.run_directory import find_checkpoint
from onotrain.training.warm_start import inherited_by

#: Samples that are looked at, evenly spread.
MOST_SAMPLES = 20_000


@dataclass(frozen=True)
class HeldOut:
    """Samples, and what the network says of them.

    Attributes
    ----------
    part
        ``test`` or ``validation``.
    predictor
        The network of the run.
    features
        As they were read, ``(n, d)``.
    numbers
        Of the samples in their part, int64 ``(n,)``.
    samples
        Of the part.
    targets
        Encoded for the loss; of a regression in the units of the data, float64 ``(n, targets)``.
    predictions
        Probabilities, or values in these units, ``(n, width)``.
    """

    part: str
    predictor: Predictor
    features: np.ndarray
    numbers: np.ndarray
    samples: int
    targets: np.ndarray
    predictions: np.ndarray

    @property
    def names(self) -> tuple[str, ...]:
        """Names of classes, labels or targets."""
        return self.predictor.output.shown_names


def held_out(run: Path) -> HeldOut:
    """Predict the test samples of a run, or else those of validation, with the network that counts.

    Raises
    ------
    CheckpointError
        There is no sound checkpoint.
    DataError, UsageError, ResourceError
        The data are not there any more, or not the same; they are not in memory, or there are none but for training.
    """
    found = find_checkpoint(run)
    predictor = Predictor.from_checkpoint(found.checkpoint, str(found.path))
    config = predictor.metadata.config
    inherited = inherited_by(found.checkpoint.metadata, str(found.path))
    prepared = prepare(
        config.data, config.task, config.targets, config.training.dtype, available_bytes(), config.loss, inherited,
        model=config.model,
    )  # fmt: skip
    ModelMetadata(config=config, **vars(prepared.description)).check_data(found.checkpoint.metadata)
    part, features, targets, rows = _part(prepared, config.data.name)
    numbers = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST_SAMPLES)).astype(np.int64))
    chosen = rows[numbers]
    predictions = np.empty((len(chosen), predictor.outputs), predictor.output.dtype)
    predictor.predict_rows(features, chosen, predictions)
    kept = targets[chosen]
    if predictor.output.regression:
        scaling = predictor.metadata.codec.scaling
        kept = np.asarray(kept if scaling is None else scaling.undo(kept), np.float64)
    return HeldOut(part, predictor, features[chosen], numbers, len(rows), kept, predictions)


def _part(prepared: Prepared, name: str) -> tuple[str, np.ndarray, np.ndarray, np.ndarray]:
    """Return a part that was held out: its name, features and targets, and which rows of these it is."""
    arrays = prepared.arrays
    for part in ("test", "validation"):
        own, index = arrays.get(f"{part}_features"), arrays.get(f"{part}_index")
        if own is not None:
            return part, own, arrays[f"{part}_targets"], np.arange(len(own))
        if index is not None and "features" in arrays:
            return part, arrays["features"], arrays["targets"], np.asarray(index, np.int64)
    if prepared.streams:
        raise UsageError(f"{name}: the samples are streamed, and too many to be looked at one by one")
    raise DataError(f"{name}: all samples are trained on, so none say what the network has learned")

"""Data that training can take, and which parts of them have samples of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onotrain.data.description import DataDescription
from onotrain.data.streams import Stream


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

    @property
    def training_samples(self) -> int:
        """Number of samples to train on."""
        return len(self.arrays.get("train_index", self.arrays["targets"]))

    def nbytes(self, window_mib: int) -> int:
        """Return what a node holds of them [bytes]: the arrays, and of a stream two windows at most."""
        train = self.streams.get("train")
        windows = 0 if train is None else min(2 * window_mib << 20, train.nbytes)
        return sum(array.nbytes for array in self.arrays.values()) + windows


def parts_apart(section: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts that have samples of their own, and where these are."""
    for part, where in (("validation", section.validation), ("test", section.test)):
        if where is not None and not isinstance(where, float):
            yield part, where

"""What training asks of the data, and what it makes of their targets: numbers, parts and weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onotrain.data import parts
from onotrain.data.dataset import Dataset
from onotrain.data.for_network import encode
from onotrain.data.inherited import Inherited
from onotrain.data.missing_targets import check_measured, measured_counts
from onotrain.data.reading import ReadFiles
from onotrain.data.tables.table import Table
from onotrain.data.targets import TargetCodec
from onotrain.data.weights import measured_weights, output_weights, sample_weights, training_weights
from onotrain.errors import DataError


@dataclass(frozen=True)
class Wanted:
    """What training asks of the data; see `onotrain.data.prepare.prepare`."""

    task: str
    outputs: int
    dtype: str
    memory: int
    loss: Any
    inherited: Inherited | None
    held: Mapping[str, Dataset | Table]
    reader: ReadFiles
    model: Any

    @property
    def codes(self) -> Mapping[int, int]:
        """Features of an array that are codes of categories, and how many categories each has."""
        return {} if self.model is None else self.model.codes

    @property
    def embedded(self) -> bool:
        """Whether the network has embeddings of categories."""
        return self.model is not None and bool(self.model.reads_codes)

    def targets(
        self, section: Any, dataset: Dataset, file_rows: np.ndarray | None, table: Table | None = None
    ) -> tuple[TargetCodec, dict[str, np.ndarray], list[str]]:
        """Return the fitted codec, and targets, parts and weights; the training part is what it is fitted on.

        `file_rows` are the rows of the file that are samples; None: all.  Notes say what was decided for the user.
        """
        kept = self.inherited and self.inherited.codec_of(self.task, self.outputs, dataset, section)
        codec = kept or TargetCodec.fit(self.task, self.outputs, dataset)
        codec = replace(self._of_loss(codec, dataset.source), masked=section.missing_targets == "mask")
        names, notes, classes = codec.shown_names(dataset.target_names), list[str](), None
        if codec.classes:
            classes = codec.encode(dataset).reshape(-1).astype(np.int64)
        arrays = parts.cut(section, len(dataset), classes, table, dataset.source, file_rows)
        own = sample_weights(dataset)
        index = arrays.get(parts.TRAIN)
        if codec.masked and not codec.classes:
            plain = replace(codec, scaling=None).encode(dataset)
            check_measured(plain, own, index, names, dataset.source)
            notes = measured_counts(plain, names)
        if not kept or self.task != "regression":
            codec = codec.scaled(section.normalize_targets, dataset, index)
        targets = encode(codec, dataset, self.dtype)
        weights = self._weights(codec, targets, own, index, names, dataset.source)
        if own is not None:
            for name, rows in arrays.items():
                if name.endswith("_index") and name != parts.TRAIN:
                    weights[name.replace("_index", "_weights")] = own[rows]
        made = {name: values.astype(self.dtype) for name, values in weights.items()}
        samples = {} if file_rows is None else {parts.FILE_ROWS: file_rows}
        return codec, {"targets": targets, **arrays, **made, **samples}, notes

    def _of_loss(self, codec: TargetCodec, source: str) -> TargetCodec:
        """Return the codec of a network with the loss, which must be able to take a scaling that is inherited."""
        if self.loss is None:
            return codec
        scaling = codec.scaling
        why = None if scaling is None else self.loss.unfit_scaling("log" if scaling.log else "standard")
        if why is not None:
            raise DataError(
                f"{source}: the run of model.from learned scaled targets; data.normalize_targets {why}",
                hint="use data.preparation: fit",
            )
        return codec.of_loss(self.loss)

    def _weights(
        self, codec: TargetCodec, targets: np.ndarray, own: np.ndarray | None, index: np.ndarray | None,
        names: tuple[str, ...], source: str,
    ) -> dict[str, np.ndarray]:  # fmt: skip
        """Return the weights of samples and of outputs to train with, where they do not count alike."""
        class_weights = getattr(self.loss, "class_weights", None)
        weights = training_weights(own, class_weights, codec, targets, index, source)
        found = {} if weights is None else {"weights": weights}
        if not codec.classes:
            trained = slice(None) if index is None else index
            block = targets[trained], None if weights is None else weights[trained]
            by_output = measured_weights(
                output_weights(getattr(self.loss, "output_weights", None), names, source), [block]
            )
            found |= {} if by_output is None else {"output_weights": by_output}
        return found

    def labels(self, part: str, codec: TargetCodec, dataset: Dataset) -> dict[str, np.ndarray]:
        """Return targets and weights of a part that has samples of its own."""
        own = sample_weights(dataset)
        weights = {} if own is None else {f"{part}_weights": own.astype(self.dtype)}
        return {f"{part}_targets": encode(codec, dataset, self.dtype), **weights}

"""What a run takes over of how another one prepared its data, whose parameters it begins with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np

from onotrain.data.dataset import Dataset
from onotrain.data.description import DataDescription
from onotrain.data.normalization import Normalization
from onotrain.data.tables.preparation import Preparation
from onotrain.data.tables.table import shown
from onotrain.data.targets import TargetCodec
from onotrain.errors import DataError

_T = TypeVar("_T")


@dataclass(frozen=True)
class Inherited:
    """How another run prepared its data.

    Parameters
    ----------
    description
        Of its data, made with what is inherited.
    settings
        Its section ``data``, as plain data.
    preparation
        ``data.preparation`` of the new run: ``auto`` takes over what has the same columns and the same settings.
    head
        ``model.head`` of the new run: who keeps the last layer keeps the classes.
    """

    description: DataDescription
    settings: Mapping[str, Any]
    preparation: Literal["auto", "fit", "from"] = "auto"
    head: Literal["auto", "keep", "new"] = "auto"

    def preparation_of(self, source: str, columns: Sequence[str], section: Any) -> Preparation | None:
        """Return what is to become of a table's columns; None: what is fitted anew.

        Parameters
        ----------
        source
            The table, for messages.
        columns
            That the new run would learn from.
        section
            Its section ``data``.

        Raises
        ------
        DataError
            It asks for the old preparation, and columns are missing.
        """
        known = self.description.preparation
        if self.preparation == "from":
            if known is None:
                raise _not_alike(source, "learned from arrays, and this is a table")
            lost = [name for name in known.inputs if name not in columns]
            if lost:
                raise _not_alike(source, f"learned from columns that are missing here: {shown(lost)}")
            return known
        same = known is not None and set(known.inputs) == set(columns)
        return known if same and self._wanted(section, "normalize", "columns") else None

    def normalization_of(self, dataset: Dataset, pixels: bool, section: Any) -> Normalization | None:
        """Return how an array of features is to be normalised; None: as it is fitted anew.

        Parameters
        ----------
        dataset
            The training samples.
        pixels
            Whether their features are.
        section
            Section ``data`` of the new run.

        Raises
        ------
        DataError
            It asks for the old normalisation, and samples have another number of features.
        """
        known = self.description
        if self.preparation == "from":
            if known.preparation is not None:
                raise _not_alike(dataset.source, "learned from a table, and this is an array")
            if np.prod(known.feature_shape) != np.prod(dataset.feature_shape):
                raise _not_alike(dataset.source, f"had samples of shape {known.feature_shape}, these are "
                                                 f"{dataset.feature_shape}")  # fmt: skip
            return known.normalization
        same = (
            known.preparation is None
            and known.feature_shape == (section.shape or dataset.feature_shape)
            and (known.feature_dtype == "uint8") == pixels
            and _alike(known.feature_names, dataset.feature_names)
        )
        return known.normalization if same and self._wanted(section, "normalize") else None

    def codec_of(self, task: str, outputs: int, dataset: Dataset, section: Any) -> TargetCodec | None:
        """Return how targets are to be learned; None: as it is fitted anew.

        Classes stay those of the other run if its last layer may be kept and knows all of them; a scaling stays as
        features do.

        Raises
        ------
        DataError
            The last layer is to be kept, and does not know a class.
        """
        known = self.description.codec
        if self.head == "new" or (known.task, known.outputs) != (task, outputs):
            return None
        if task == "regression":
            same = self.preparation == "from" or _alike(self.description.target_names, dataset.target_names)
            return known if same and self._wanted(section, "normalize_targets") else None
        if task == "multilabel":
            return known if self.head == "keep" or _alike(known.class_names, dataset.class_names) else None
        try:
            known.encode(dataset)
        except DataError:
            if self.head == "keep":
                raise
            return None
        return known

    def in_order(self, kinds: Mapping[str, _T]) -> dict[str, _T]:
        """Return columns in the order that the first layer knows them in, new ones behind."""
        known = () if self.description.preparation is None else self.description.preparation.inputs
        names = [*(name for name in known if name in kinds), *(name for name in kinds if name not in known)]
        return {name: kinds[name] for name in names}

    def _wanted(self, section: Any, *keys: str) -> bool:
        """Return whether the old preparation is to be taken, where `keys` of the section have a say."""
        if self.preparation != "auto":
            return self.preparation == "from"
        now = section.model_dump(mode="json")
        return all(now[key] == self.settings.get(key) for key in keys)


def _alike(one: Sequence[str] | None, other: Sequence[str] | None) -> bool:
    """Return whether names are the same, as far as they are known."""
    return one is None or other is None or tuple(one) == tuple(other)


def _not_alike(source: str, why: str) -> DataError:
    return DataError(
        f"{source}: data.preparation is from, but the run of model.from {why}",
        hint="use data.preparation: fit, which fits scaling and categories to these data",
    )

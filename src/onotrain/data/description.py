"""What stays with a model of the data that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onotrain.config.columns import Categories
from onotrain.data.normalization import Normalization
from onotrain.data.tables.preparation import Preparation
from onotrain.data.targets import TargetCodec


@dataclass(frozen=True)
class DataDescription:
    """What stays with a model of the data that it was trained on."""

    #: Of a sample, as the network sees it; its product is the number of features.
    feature_shape: tuple[int, ...]
    #: ``uint8`` (pixels, which stand for their value / 255), ``float32`` or ``float64``.
    feature_dtype: str
    feature_names: tuple[str, ...] | None
    target_names: tuple[str, ...] | None
    normalization: Normalization
    codec: TargetCodec
    #: What becomes of a table's columns, whose result is not normalised any more; None for arrays.
    preparation: Preparation | None = field(default=None, kw_only=True)
    #: Of the samples; empty if unknown.
    digest: str = field(default="", kw_only=True)
    #: Of the targets, where the file says so; None: of none of them.
    target_units: tuple[str, ...] | None = field(default=None, kw_only=True)
    #: Whether features are prepared as in another run, whose parameters this one began with.
    inherited: bool = field(default=False, kw_only=True, compare=False)

    @property
    def categories(self) -> Mapping[int, Categories]:
        """The features that are codes of columns of a table, by their numbers."""
        return {} if self.preparation is None else self.preparation.categories

    def identity(self) -> dict[str, Any]:
        """Return what the data alone decide, without numbers that are computed from them, as JSON-able data."""
        names = {"feature_names": self.feature_names, "target_names": self.target_names}
        targets = {key: value for key, value in self.codec.to_dict().items() if key != "scaling"}
        return {
            "feature_shape": list(self.feature_shape),
            "feature_dtype": self.feature_dtype,
            **{key: None if value is None else list(value) for key, value in names.items()},
            "targets": targets,
            **({"digest": self.digest} if self.digest else {}),
        }

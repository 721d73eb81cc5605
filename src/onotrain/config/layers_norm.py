"""Options of the layers that normalise."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from onotrain.config.base import Count, Positive
from onotrain.config.options import LayerOptions

_EPSILON = "Added to the variance, under the root."
_AFFINE = "Multiply by a trained weight and add a trained bias, one each for every channel."


class LayerNorm(LayerOptions):
    """Normalises the channels of each position, or all features where a sample has one axis."""

    kind: ClassVar[str] = "layer_norm"

    epsilon: Positive = Field(1e-5, description=_EPSILON)
    affine: bool = Field(True, description=_AFFINE)

    @property
    def has_parameters(self) -> bool:  # type: ignore[override]
        """Whether it is affine."""
        return self.affine


class GroupNorm(LayerOptions):
    """Normalises groups of channels, each over all positions of a sample."""

    kind: ClassVar[str] = "group_norm"
    short_key: ClassVar[str] = "groups"

    groups: Count = Field(description="Number of groups, a divisor of the number of channels.")
    epsilon: Positive = Field(1e-5, description=_EPSILON)
    affine: bool = Field(True, description=_AFFINE)

    @property
    def has_parameters(self) -> bool:  # type: ignore[override]
        """Whether it is affine."""
        return self.affine


class BatchNorm(LayerOptions):
    """Normalises each channel over all samples and positions of the global batch; afterwards by running moments."""

    kind: ClassVar[str] = "batch_norm"
    has_parameters: ClassVar[bool] = True
    needs_whole_batch: ClassVar[bool] = True

    momentum: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="Share of the newest batch in the running mean and variance."
    )
    epsilon: Positive = Field(1e-5, description=_EPSILON)
    affine: bool = Field(True, description=_AFFINE)

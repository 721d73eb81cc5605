"""``data.partition``: which samples a rank trains on."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from onotrain.config.base import Section
from onotrain.config.choices import OneOf


class PartitionOptions(Section):
    """Base of the partitions."""

    #: Whether classes decide who has which samples.
    needs_classes: ClassVar[bool] = False

    name: str


class NoPartition(PartitionOptions):
    """Every rank sees all samples in the course of time."""

    name: Literal["none"] = Field(description="Every epoch deals all samples to the ranks anew.")


class ByRank(PartitionOptions):
    """Ranks have samples of their own, drawn at random."""

    name: Literal["by_rank"] = Field(description="Each rank has its own samples, drawn at random.")


class ByLabel(PartitionOptions):
    """Ranks have samples of their own, of some classes more than of others."""

    needs_classes = True

    name: Literal["by_label"] = Field(
        description="Each rank has its own samples; a Dirichlet distribution around the class proportions of the whole "
        "data decides its class proportions (Hsu et al., arXiv 1909.06335)."
    )
    alpha: Annotated[float, Field(ge=1e-6, le=1e6)] = Field(
        0.5,
        description="Concentration of the distribution, per class: 0.1 leaves a rank few classes, 100 about the same "
        "as the others.",
    )


Partition = Annotated[NoPartition | ByRank | ByLabel, OneOf("partition")]

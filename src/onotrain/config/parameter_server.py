"""Strategy ``parameter_server``: how far workers may drift apart, and what is done about stale gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from onotrain.config.base import ByType, Count, CountOrZero, NotNegative, OneOf, Problem, Section, Share


class NoCompensation(Section):
    """Stale gradients are applied as they are."""

    name: Literal["none"] = Field("none", description="Each gradient is applied as it is.")


class LearningRateCompensation(Section):
    """Stale gradients make smaller steps."""

    name: Literal["learning_rate"] = Field(
        description="The learning rate is divided by the gradient's staleness, if that is more than 1."
    )


class DelayCompensation(Section):
    """Stale gradients are corrected for what the parameters have changed (DC-ASGD, arXiv 1609.08326)."""

    name: Literal["delay"] = Field(
        description="DC-ASGD: `g + strength g^2 (w - w')`, with the parameters `w'` that the worker was sent; takes a "
        "copy of them for each worker on the server."
    )
    strength: NotNegative = Field(0.04, description="Strength of the correction; with `adaptive`, 2 was published.")
    adaptive: bool = Field(False, description="Divide the strength by the root of the running mean of `g^2`.")
    decay: Share = Field(0.95, description="Decay of that running mean.")


class ConstantBatchCompensation(Section):
    """Gradients are summed to whole global batches (GBA, arXiv 2205.11048)."""

    name: Literal["constant_batch"] = Field(
        description="GBA: one update for every `batch_size` samples, whoever computed them, so that the learning rate "
        "of synchronous training holds."
    )
    limit: CountOrZero = Field(4, description="Gradients that are more updates stale than this count nothing.")


Compensation = Annotated[
    NoCompensation | LearningRateCompensation | DelayCompensation | ConstantBatchCompensation, OneOf("compensation")
]


class ParameterServer(Section):
    """Some ranks hold the parameters, the others compute."""

    name: Literal["parameter_server"] = Field(
        description="The first ranks hold and update the parameters, the others compute gradients; synchronous, or "
        "each at its own pace."
    )
    servers: Count = Field(1, description="Ranks that are servers, each of a part of the parameters.")
    staleness: Annotated[CountOrZero | Literal["unbounded"], ByType("a whole number or unbounded")] = Field(
        0,
        description="Steps that a worker may be ahead of the slowest one.  0: synchronous, the update is that of "
        "`allreduce`.  Else each worker's gradient is an update by itself, as soon as it comes.",
    )
    overlap: bool = Field(
        False,
        description="Workers compute a batch while the push of the one before and its reply are under way, with "
        "parameters that are older by that push; needs `staleness` of 1 or more.",
    )
    compensation: Compensation = Field("none", description="What is done about gradients that are stale.")  # type: ignore[assignment]
    rate_scaling: Literal["auto", "none", "root", "linear"] = Field(
        "auto",
        description="How the learning rate of a gradient that is an update by itself goes with its share of the global "
        "batch: not at all, with its square root, or with the share.  `auto`: `linear` for `sgd`, `root` for the other "
        "optimisers, whose steps do not grow with the gradient; so rates of synchronous training hold.",
    )

    @property
    def fewest_ranks(self) -> int:
        """Ranks that a job must have: one of them has to work."""
        return self.servers + 1

    @property
    def synchronous(self) -> bool:
        """Whether there is one update for every global batch, as with `allreduce`."""
        return self.staleness == 0

    def problems(self) -> Iterator[Problem]:
        """Yield a compensation of nothing, overlap where nobody may be ahead, and scaled updates of whole batches."""
        if self.synchronous and self.overlap:
            yield Problem(
                ("overlap",),
                "needs staleness greater than 0: no batch is begun before the parameters of the last one (got true)",
            )
        if self.overlap and self.compensation.name == "delay":
            yield Problem(
                ("overlap",),
                "must be false with compensation delay, which corrects for the last parameters that were sent, and a "
                "batch that is under way knows those before them (got true)",
            )
        if self.synchronous and self.compensation.name != "none":
            yield Problem(
                ("compensation",),
                f"needs staleness greater than 0: synchronous gradients are never stale (got {self.compensation.name})",
            )
        whole = "staleness 0" if self.synchronous else "compensation constant_batch"
        if self.rate_scaling in ("root", "linear") and (self.synchronous or self.compensation.name == "constant_batch"):
            yield Problem(
                ("rate_scaling",),
                f"needs updates of a part of a batch: with {whole} they are of whole ones (got {self.rate_scaling})",
            )

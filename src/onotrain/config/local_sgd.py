"""Strategy ``local_sgd``: how long ranks go on alone, and what is made of the mean of their parameters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from onotrain.config.base import Count, CountOrZero, NotNegative, OneOf, Positive, Section, Share
from onotrain.config.optimization import Betas


class FixedPeriod(Section):
    """The period stays."""

    name: Literal["fixed"] = Field(description="Always the same; short: `period: 8`.")
    steps: Count = Field(description="Local steps between two meetings.")


class PostLocalPeriod(Section):
    """Synchronous first, local later."""

    name: Literal["post_local"] = Field(
        description="A meeting after every step at first, later after every `steps` (Lin et al., arXiv 1808.07217)."
    )
    steps: Count = Field(description="Local steps between two meetings.")
    from_epoch: CountOrZero | None = Field(
        None,
        description="So many epochs have a meeting after every step; null: all before the first in which the learning "
        "rate is lower than in the one before.",
    )


class AdaptivePeriod(Section):
    """The period shrinks with the loss."""

    name: Literal["adaptive"] = Field(
        description="`steps` at first, less in every epoch, with the root of the training loss (AdaComm: Wang and "
        "Joshi, arXiv 1810.08313)."
    )
    steps: Count = Field(description="Local steps between two meetings.")


Period = Annotated[
    FixedPeriod | PostLocalPeriod | AdaptivePeriod, OneOf("period", default="fixed", number=("fixed", "steps"))
]


class NoOuter(Section):
    """The mean itself."""

    name: Literal["none"] = Field(description="The mean is what ranks go on with.")


class NesterovOuter(Section):
    """Momentum on the way of the mean."""

    name: Literal["nesterov"] = Field(
        description="Nesterov momentum on the mean's way since the last meeting (DiLoCo: Douillard et al., arXiv "
        "2311.08105)."
    )
    learning_rate: Positive = Field(0.7, description="Step size of a meeting.")
    momentum: Share = Field(0.9, description="Part of the last way that is kept.")


class AdamOuter(Section):
    """Adam on the way of the mean."""

    name: Literal["adam"] = Field(
        description="Adam on the mean's way since the last meeting (FedAdam: Reddi et al., arXiv 2003.00295)."
    )
    learning_rate: Positive = Field(0.01, description="Step size of a meeting.")
    betas: Betas = Field((0.9, 0.99), description="Decay of the running means of the way and of its square.")
    tau: Positive = Field(1e-3, description="Added to the denominator: the larger, the less adaptive.")


Outer = Annotated[NoOuter | NesterovOuter | AdamOuter, OneOf("outer optimizer")]


class LocalSgd(Section):
    """Ranks that train alone and meet now and then."""

    name: Literal["local_sgd"] = Field(
        description="Local: each rank makes steps of its own on its slices of the batches; now and then, before a "
        "checkpoint and at the end of every epoch, all meet, and their parameters are averaged.  Clipping, and LAMB's "
        "norms, are each rank's own."
    )
    period: Period = Field(8, description="When ranks meet: a number of steps, or a rule.")  # type: ignore[assignment]
    outer: Outer = Field("none", description="What is made of the mean of the ranks' parameters.")  # type: ignore[assignment]
    inner_state: Literal["average", "keep", "reset"] = Field(
        "average",
        description="The optimiser's state at a meeting: averaged like the parameters, kept by each rank, or set to "
        "zero.  With `keep` a checkpoint has rank 0's, which all ranks of a resumed run begin with.",
    )
    proximal: NotNegative = Field(
        0.0,
        description="Strength of the pull of each rank towards the parameters of the last meeting (FedProx: Li et al., "
        "arXiv 1812.06127); times the learning rate below 2 with `sgd`.",
    )

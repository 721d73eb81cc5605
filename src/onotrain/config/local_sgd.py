"""Strategy ``local_sgd``: when ranks average their parameters, and the outer step from the average."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from onotrain.config.base import Count, CountOrZero, NotNegative, Positive, Problem, Section, Share
from onotrain.config.choices import OneOf
from onotrain.config.optimizer import Betas
from onotrain.config.options import StrategyOptions


class FixedPeriod(Section):
    """The period is constant."""

    name: Literal["fixed"] = Field(description="Constant; short: `period: 8`.")
    steps: Count = Field(description="Local steps between two averaging rounds.")


class PostLocalPeriod(Section):
    """Synchronous first, local later."""

    name: Literal["post_local"] = Field(
        description="Average after every step at first, later every `steps` steps (Lin et al., arXiv 1808.07217)."
    )
    steps: Count = Field(description="Local steps between two averaging rounds.")
    from_epoch: CountOrZero | None = Field(
        None,
        description="Number of initial epochs that average after every step.  null: up to the first epoch whose "
        "learning rate is below the previous one's.",
    )


class AdaptivePeriod(Section):
    """The period shrinks with the loss."""

    name: Literal["adaptive"] = Field(
        description="Start with `steps` and shorten the period every epoch, in proportion to the square root of the "
        "training loss (AdaComm: Wang and Joshi, arXiv 1810.08313)."
    )
    steps: Count = Field(description="Local steps between two averaging rounds.")


Period = Annotated[
    FixedPeriod | PostLocalPeriod | AdaptivePeriod, OneOf("period", default="fixed", number=("fixed", "steps"))
]


class NoOuter(Section):
    """The average itself."""

    name: Literal["none"] = Field(description="Ranks continue from the averaged parameters.")


class NesterovOuter(Section):
    """Nesterov momentum on the averaged parameter delta."""

    name: Literal["nesterov"] = Field(
        description="Nesterov momentum on the averaged parameter delta of the round (DiLoCo: Douillard et al., arXiv "
        "2311.08105)."
    )
    learning_rate: Positive = Field(0.7, description="Step size of the outer step.")
    momentum: Share = Field(0.9, description="Fraction of the previous outer step that is kept.")


class AdamOuter(Section):
    """Adam on the averaged parameter delta."""

    name: Literal["adam"] = Field(
        description="Adam on the averaged parameter delta of the round (FedAdam: Reddi et al., arXiv 2003.00295)."
    )
    learning_rate: Positive = Field(0.01, description="Step size of the outer step.")
    betas: Betas = Field((0.9, 0.99), description="Decay of the running means of the delta and of its square.")
    tau: Positive = Field(1e-3, description="Added to the denominator; a larger value adapts the step less.")


Outer = Annotated[NoOuter | NesterovOuter | AdamOuter, OneOf("outer optimizer")]


class LocalSgd(StrategyOptions):
    """Ranks that train alone and average now and then."""

    codes_messages = True

    name: Literal["local_sgd"] = Field(
        description="Each rank takes optimiser steps on its own slices of the batches.  All ranks average their "
        "parameters once per period, before a checkpoint and at the end of every epoch.  Gradient clipping and the "
        "norms of LAMB are computed by each rank from its own gradient."
    )
    period: Period = Field(8, description="When ranks average their parameters: a number of steps, or a rule.")  # type: ignore[assignment]
    outer: Outer = Field("none", description="Outer optimiser, which takes a step from the averaged parameters.")  # type: ignore[assignment]
    inner_state: Literal["average", "keep", "reset"] = Field(
        "average",
        description="What an averaging round does with the optimiser state: average it like the parameters, keep each "
        "rank's own, or set it to zero.  With `keep`, a checkpoint holds the state of rank 0, and all ranks of a "
        "resumed run start from it.",
    )
    proximal: NotNegative = Field(
        0.0,
        description="Strength of the pull of each rank towards the parameters of the last averaging round (FedProx: "
        "Li et al., arXiv 1812.06127).  With `sgd`, keep proximal x learning_rate below 2.",
    )

    def problems_with(self, others: Any) -> Iterator[Problem]:
        """Yield an average of optimiser states that a codec would have to encode."""
        if others.optimizer is None or others.communication is None or self.inner_state != "average":
            return
        codec = others.communication.codec.name
        if codec != "none" and others.optimizer.state_names:
            yield Problem(
                ("inner_state",),
                f"must be keep or reset with communication.codec {codec} (got average): the optimizer's state would be "
                "sent whole, and is too sensitive to be coded",
            )

"""Strategy ``parameter_server``: how far workers may drift apart, and how servers correct stale gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from onotrain.config.base import Count, CountOrZero, NotNegative, Problem, Section, Share
from onotrain.config.choices import ByType, OneOf
from onotrain.config.options import StrategyOptions


class CompensationOptions(Section):
    """Base of the compensations."""

    #: Whether a gradient must be of the last parameters that its worker was sent.
    needs_last_parameters: ClassVar[bool] = False
    #: Whether updates are of whole global batches.
    whole_batches: ClassVar[bool] = False
    #: Whether it makes sense of a change of the parameters, which workers push that make local steps.
    corrects_deltas: ClassVar[bool] = False

    name: str

    @property
    def vector_names(self) -> tuple[str, ...]:
        """Names of the vectors that checkpoints keep of it."""
        return ()

    def other_vectors(self, workers: int) -> int:
        """Return how many vectors it has besides, of the length of a server's range."""
        return 0


class NoCompensation(CompensationOptions):
    """Stale gradients are applied as they are."""

    corrects_deltas = True

    name: Literal["none"] = Field("none", description="Servers apply each gradient as it is.")


class LearningRateCompensation(CompensationOptions):
    """Stale gradients make smaller steps."""

    corrects_deltas = True

    name: Literal["learning_rate"] = Field(
        description="Servers divide the learning rate by the staleness of the gradient, where that is above 1."
    )


class DelayCompensation(CompensationOptions):
    """Stale gradients are corrected for what the parameters have changed (DC-ASGD, arXiv 1609.08326)."""

    needs_last_parameters = True

    name: Literal["delay"] = Field(
        description="DC-ASGD: servers apply `g + strength g^2 (w - w')`, where `w'` are the parameters that the worker "
        "was sent.  Servers keep a copy of these for each worker."
    )
    strength: NotNegative = Field(0.04, description="Strength of the correction; with `adaptive`, 2 was published.")
    adaptive: bool = Field(False, description="Divide the strength by the square root of the running mean of `g^2`.")
    decay: Share = Field(0.95, description="Decay of that running mean.")

    @property
    def vector_names(self) -> tuple[str, ...]:
        """The running mean, if it is adaptive."""
        return ("mean_square",) if self.adaptive else ()

    def other_vectors(self, workers: int) -> int:
        """Count what was sent to each worker."""
        return workers


class ConstantBatchCompensation(CompensationOptions):
    """Gradients are summed to whole global batches (GBA, arXiv 2205.11048)."""

    whole_batches = True

    name: Literal["constant_batch"] = Field(
        description="GBA: servers sum gradients, of any workers, and make one update per `batch_size` samples, so that "
        "the learning rate of synchronous training stays valid."
    )
    limit: CountOrZero = Field(4, description="Largest staleness of a gradient that is used [updates].")

    def other_vectors(self, workers: int) -> int:
        """Count the sum of gradients."""
        return 1


Compensation = Annotated[
    NoCompensation | LearningRateCompensation | DelayCompensation | ConstantBatchCompensation, OneOf("compensation")
]
Staleness = Annotated[CountOrZero | Literal["unbounded"], ByType("a whole number or unbounded")]
PushEvery = Annotated[Count | Literal["epoch"], ByType("a whole number or epoch")]

_STALENESS = (
    "Steps that a worker may be ahead of the slowest one.  0: all workers contribute to every update, as with "
    "`allreduce`.  Above 0: servers make one update per gradient, as soon as it arrives.  With `push_every` above 1, a "
    "lead is counted in pushes."
)


class ParameterServer(StrategyOptions):
    """Some ranks hold the parameters, the others compute."""

    balances_load = True
    codes_messages = True

    name: Literal["parameter_server"] = Field(
        description="The first ranks are servers, which hold and update the parameters; the others are workers, which "
        "compute gradients, either all together or each at its own pace."
    )
    servers: Count = Field(1, description="Number of servers; each holds one part of the parameters.")
    staleness: Staleness = Field(0, description=_STALENESS)
    overlap: bool = Field(
        False,
        description="Workers compute the next batch while a push and its reply are in flight, with parameters that "
        "lack this push; needs `staleness` of 1 or more.",
    )
    push_every: PushEvery = Field(
        1,
        description="Steps between two pushes (Downpour SGD: Dean et al., NIPS 2012).  1: workers push every gradient, "
        "and servers have the optimiser.  Above 1: each worker takes so many optimiser steps on parameters of its own, "
        "pushes what they have changed, and servers add that, each in proportion to its samples.  `epoch`: it pushes "
        "at the end of the epoch and before a checkpoint alone.",
    )
    compensation: Compensation = Field("none", description="How servers correct stale gradients.")  # type: ignore[assignment]
    rate_scaling: Literal["auto", "none", "root", "linear"] = Field(
        "auto",
        description="How the learning rate of an asynchronous update scales with the fraction of the global batch "
        "behind it: not at all, with its square root, or linearly.  `auto`: `linear` for `sgd`, `root` for the other "
        "optimisers, whose steps do not grow with the gradient; so the learning rate of synchronous training stays "
        "valid.  With `push_every` above 1, what scales is the change that is pushed; `auto` is then `linear`.",
    )

    @property
    def fewest_ranks(self) -> int:
        """All servers and one worker."""
        return self.servers + 1

    @property
    def serving_ranks(self) -> int:
        """All servers."""
        return self.servers

    @property
    def shown(self) -> str:
        """Name and number of servers."""
        return f"strategy {self.name} with {self.servers} server{'s' * (self.servers > 1)}"

    @property
    def bulk_synchronous(self) -> bool:
        """Whether there is one update per global batch, as with `allreduce`."""
        return self.staleness == 0

    @property
    def local_steps(self) -> bool:
        """Whether workers make updates of their own between two pushes."""
        return self.push_every != 1

    def problems(self) -> Iterator[Problem]:
        """Yield a compensation of nothing, overlap where nobody may be ahead, and scaled updates of whole batches."""
        yield from self._problems_of_local_steps()
        if self.bulk_synchronous and self.overlap:
            yield Problem(
                ("overlap",),
                "needs staleness greater than 0: no batch is begun before the parameters of the last one (got true)",
            )
        if self.overlap and self.compensation.needs_last_parameters:
            yield Problem(
                ("overlap",),
                f"must be false with compensation {self.compensation.name}, which corrects for the last parameters "
                "that were sent, and a batch that is under way knows those before them (got true)",
            )
        if self.bulk_synchronous and self.compensation.name != "none":
            yield Problem(
                ("compensation",),
                f"needs staleness greater than 0: synchronous gradients are never stale (got {self.compensation.name})",
            )
        whole = "staleness 0" if self.bulk_synchronous else f"compensation {self.compensation.name}"
        if self.rate_scaling in ("root", "linear") and (self.bulk_synchronous or self.compensation.whole_batches):
            yield Problem(
                ("rate_scaling",),
                f"needs updates of a part of a batch: with {whole} they are of whole ones (got {self.rate_scaling})",
            )

    def _problems_of_local_steps(self) -> Iterator[Problem]:
        """Yield a compensation that needs gradients where none are pushed, and overlap of pushes that all end with."""
        name, every = self.compensation.name, self.push_every
        if self.local_steps and not self.compensation.corrects_deltas:
            yield Problem(
                ("compensation",),
                f"must be none or learning_rate with push_every {every}: {name} corrects gradients, and workers push "
                f"what their own steps have changed (got {name})",
            )
        if every == "epoch" and self.overlap:
            yield Problem(
                ("overlap",),
                "must be false with push_every epoch: each push is followed by a synchronisation point, so nothing can "
                "be computed meanwhile (got true)",
            )

    def problems_with(self, others: Any) -> Iterator[Problem]:
        """Yield norms over all parameters where servers update their parts at different times."""
        if self.servers == 1 or self.bulk_synchronous or self.local_steps:
            return
        why = "which servers that update at different times do not have; give 1, or staleness 0"
        if others.training is not None and others.training.clip_norm is not None:
            yield Problem(("servers",), f"training.clip_norm needs the norm of the whole gradient, {why}")
        if others.optimizer is not None and not others.optimizer.elementwise:
            yield Problem(("servers",), f"optimizer {others.optimizer.name} needs the norms of whole tensors, {why}")


class SwitchedServer(ParameterServer):
    """The parameter server of `strategy_switch`: asynchronous, if nothing else is asked for."""

    name: Literal["parameter_server"] = Field("parameter_server", description="May be left out.")
    staleness: Staleness = Field("unbounded", description=_STALENESS)

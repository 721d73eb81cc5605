"""Section ``strategy``: how ranks turn gradients into new parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from onotrain.config.base import Count, NotNegative, OneOf, Positive, Problem, Section
from onotrain.config.local_sgd import LocalSgd
from onotrain.config.parameter_server import ParameterServer


class AllReduce(Section):
    """Synchronous steps on shared memory."""

    name: Literal["allreduce"] = Field(
        "allreduce",
        description="Synchronous: ranks of a node share the parameters; each sums, updates and publishes its part.",
    )
    share: Literal["auto", "gradients"] = Field(
        "auto",
        description="What ranks of a node share in a step.  `auto`: their activations where that is possible (one "
        "node, no clipping, no LAMB, no accumulation), and each rank computes the gradient of the parameters that it "
        "updates; else, as with `gradients`, each rank's whole gradient.",
    )
    bucket_mib: NotNegative = Field(
        0.5,
        description="Between nodes, gradients leave in buckets of whole layers of at least this size, while the layers "
        "in front are computed; 0 sends all of them afterwards.  The result is the same [MiB].",
    )


class Flat(Section):
    """Synchronous steps with one MPI_Allreduce."""

    name: Literal["flat"] = Field(
        description="Synchronous: one MPI_Allreduce of the gradient over all ranks; the plain baseline."
    )


class SwitchBack(Section):
    """When the parameter server is left again."""

    patience: Count | None = Field(
        None, description="Epochs in a row that the validation loss may lie above its best; null: it is not looked at."
    )
    min_delta: NotNegative = Field(0.0, description="By how much it must lie above to count.")
    max_staleness: Positive | None = Field(
        None, description="Most mean staleness of an epoch [updates]; null: it is not looked at."
    )

    def problems(self) -> Iterator[Problem]:
        """Yield a way back that is never taken."""
        if self.patience is None and self.max_staleness is None:
            yield Problem(("patience",), "one of patience and max_staleness must be given (got null)")


class StrategySwitch(Section):
    """All-reduce first, a parameter server later."""

    name: Literal["strategy_switch"] = Field(
        description="All-reduce until the loss is stable, then a parameter server (Provatas et al., IEEE Access "
        "13:9510, 2025): between two epochs, and without a change of parameters or optimiser state."
    )
    loss: Literal["train", "validation"] = Field("train", description="Which loss is to be stable.")
    window: Annotated[int, Field(ge=2)] = Field(6, description="Losses that are looked at, one for each epoch.")
    threshold: NotNegative = Field(
        0.01, description="Stable is a mean relative change from loss to loss of at most this."
    )
    at_epoch: Count | None = Field(
        None, description="Switch after so many epochs, once, whatever the loss; null: when it is stable."
    )
    switch_back: SwitchBack | None = Field(None, description="When to go back to all-reduce; null: never.")
    synchronous: AllReduce = Field(  # type: ignore[assignment]
        {"name": "allreduce"}, description="Options of the first strategy; as `allreduce`."
    )
    server: ParameterServer = Field(  # type: ignore[assignment]
        {"name": "parameter_server", "staleness": "unbounded"},
        description="Options of the second one; as `parameter_server`, by default asynchronous.",
    )

    @field_validator("server", mode="before")
    @classmethod
    def _complete(cls, value: Any) -> Any:
        """Return the server's options with what they are without a word about it."""
        if isinstance(value, Mapping) and "name" not in value:
            return {"name": "parameter_server", "staleness": "unbounded", **value}
        return value

    @property
    def fewest_ranks(self) -> int:
        """Ranks that a job must have: those that the server needs."""
        return self.server.fewest_ranks


Strategy = Annotated[
    AllReduce | Flat | LocalSgd | ParameterServer | StrategySwitch, OneOf("strategy", default="allreduce")
]


def fewest_ranks(strategy: Strategy) -> int:
    """Return how many ranks a job with this strategy must have."""
    return getattr(strategy, "fewest_ranks", 1)

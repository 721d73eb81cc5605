"""Section ``strategy``: how ranks turn gradients into new parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from onotrain.config.base import Count, NotNegative, Positive, Problem, Section
from onotrain.config.choices import OneOf
from onotrain.config.local_sgd import LocalSgd
from onotrain.config.options import StrategyOptions, has_options
from onotrain.config.parameter_server import ParameterServer, SwitchedServer
from onotrain.config.plugins import Plugins


class AllReduce(StrategyOptions):
    """Synchronous steps on shared memory."""

    balances_load = True
    codes_messages = True
    shares_gradients = True

    name: Literal["allreduce"] = Field(
        "allreduce",
        description="Synchronous: the ranks of a node share the parameters; each rank sums the gradients of its part "
        "and updates it.",
    )
    share: Literal["auto", "gradients"] = Field(
        "auto",
        description="What the ranks of a node share in a step.  `gradients`: each rank's whole gradient.  `auto`: "
        "their activations where that is possible (one node, no clipping, no LAMB, no accumulation), from which each "
        "rank computes the gradient of the parameters that it updates; otherwise gradients.",
    )
    bucket_mib: NotNegative = Field(
        0.5,
        description="Smallest message of a gradient between nodes [MiB].  Nodes send the gradients of whole layers in "
        "such buckets while the layers before them are computed; 0 sends everything after the last layer.  The result "
        "is the same.",
    )


class Flat(StrategyOptions):
    """Synchronous steps with one MPI_Allreduce."""

    balances_load = True
    codes_messages = True
    shares_gradients = True

    name: Literal["flat"] = Field(
        description="Synchronous: one MPI_Allreduce of the gradient over all ranks; the plain baseline."
    )


class SwitchBack(Section):
    """When the parameter server is left again."""

    patience: Count | None = Field(
        None,
        description="Epochs in a row with a validation loss above the best one that end the second phase; null: the "
        "validation loss is ignored.",
    )
    min_delta: NotNegative = Field(0.0, description="How far above the best one the validation loss must be to count.")
    max_staleness: Positive | None = Field(
        None, description="Largest mean staleness of an epoch [updates]; null: the staleness is ignored."
    )

    def problems(self) -> Iterator[Problem]:
        """Yield a way back that is never taken."""
        if self.patience is None and self.max_staleness is None:
            yield Problem(("patience",), "one of patience and max_staleness must be given (got null)")


class StrategySwitch(StrategyOptions):
    """All-reduce first, a parameter server later."""

    codes_messages = True
    keeps_slices = False

    name: Literal["strategy_switch"] = Field(
        description="All-reduce until the loss is stable, then a parameter server (Provatas et al., IEEE Access "
        "13:9510, 2025).  The switch is between two epochs, and changes neither parameters nor optimiser state."
    )
    loss: Literal["train", "validation"] = Field("train", description="Which loss must be stable.")
    window: Annotated[int, Field(ge=2)] = Field(6, description="Number of losses that are compared, one per epoch.")
    threshold: NotNegative = Field(
        0.01, description="Largest mean relative change from one loss to the next that counts as stable."
    )
    at_epoch: Count | None = Field(
        None, description="Number of epochs after which to switch, once, whatever the loss; null: when it is stable."
    )
    switch_back: SwitchBack | None = Field(None, description="When to return to all-reduce; null: never.")
    synchronous: AllReduce = Field({}, description="Options of the first phase.")  # type: ignore[assignment]
    server: SwitchedServer = Field({}, description="Options of the second phase.")  # type: ignore[assignment]

    @property
    def fewest_ranks(self) -> int:
        """Those that the server needs."""
        return self.server.fewest_ranks

    @property
    def serving_ranks(self) -> int:
        """Those of the second phase."""
        return self.server.serving_ranks

    @property
    def shown(self) -> str:
        """Name and number of servers."""
        return self.server.shown.replace(self.server.name, self.name)

    def problems_with(self, others: Any) -> Iterator[Problem]:
        """Yield what the server does not go with, and decisions by a validation loss that is not computed."""
        for problem in self.server.problems_with(others):
            yield problem._replace(path=("server", *problem.path))
        if others.data is None or others.data.has_validation:
            return
        if self.loss == "validation":
            yield Problem(("loss",), "needs validation data (got validation); give data.validation, or use train")
        if self.switch_back is not None and self.switch_back.patience is not None:
            yield Problem(
                ("switch_back", "patience"),
                "looks at the validation loss, which needs data.validation; give it, or use max_staleness",
            )


#: Strategies of other packages: classes that are called with a `onotrain.strategies.Context`.
PLUGINS = Plugins("onotrain.strategies", has_options(StrategyOptions, "onotrain.strategies.base.Strategy"))

Strategy = Annotated[
    AllReduce | Flat | LocalSgd | ParameterServer | StrategySwitch,
    OneOf("strategy", default="allreduce", plugins=PLUGINS),
]

#: Names of the built-in strategies whose ranks may get slices of any sizes.
BALANCED = tuple(tag for options in get_args(get_args(Strategy)[0]) if options.balances_load for tag in options.tags())

"""Section ``simulate``: slow ranks and a slow network on a machine that has neither."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field, Strict, field_validator

from onotrain.config.base import Count, CountOrZero, NotNegative, Problem, Section


class SlowRank(Section):
    """A rank that takes longer."""

    rank: CountOrZero = Field(description="Number of the rank, from 0.")
    factor: Annotated[float, Field(ge=1)] = Field(
        description="How many times as long its computing is to take: gradients, "
        "and where ranks share activations the update, too."
    )


class Simulate(Section):
    """What is to be slower than it is."""

    slow_ranks: Annotated[tuple[SlowRank, ...], Strict(False)] = Field(
        (), description="Ranks whose steps are to take longer, such as `[{rank: 1, factor: 2}]`; short: `{1: 2}`."
    )
    jitter: NotNegative = Field(
        0.0,
        description="Mean of a random part of every rank's computing in every step, relative to the rest of it: "
        "exponentially distributed, and decided by seed, rank and step.",
    )
    delay_ms: NotNegative = Field(
        0.0, description="Extra time of each exchange between ranks that do not share memory for it [ms]."
    )
    ranks_per_node: Count | None = Field(
        None,
        description="Ranks of a node that are taken for a node of their own, by so many: what would go over the "
        "network of a cluster goes through MPI.  null: nodes are what they are.",
    )

    @field_validator("slow_ranks", mode="before")
    @classmethod
    def _expand(cls, value: Any) -> Any:
        """Return the list that a mapping from ranks to factors is short for."""
        if not isinstance(value, Mapping):
            return value
        named = {int(rank) if str(rank).isdecimal() else rank: factor for rank, factor in value.items()}
        return [{"rank": rank, "factor": factor} for rank, factor in named.items()]

    def problems(self) -> Iterator[Problem]:
        """Yield ranks that are named twice."""
        ranks = [slow.rank for slow in self.slow_ranks]
        for index, rank in enumerate(ranks):
            if rank in ranks[:index]:
                yield Problem(("slow_ranks", index, "rank"), f"is in the list already (got {rank})")

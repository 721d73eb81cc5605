"""Section ``simulate``: slow ranks and a slow network on a machine that has neither."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field, Strict, field_validator

from onotrain.config.base import Count, CountOrZero, NotNegative, Positive, Problem, Section


class SlowRank(Section):
    """A rank that takes longer."""

    rank: CountOrZero = Field(description="Number of the rank, from 0.")
    factor: Annotated[float, Field(ge=1)] = Field(
        description="Factor on the time of its gradients; where ranks share activations, of its updates too."
    )


class Simulate(Section):
    """What is to be slower than it is."""

    slow_ranks: Annotated[tuple[SlowRank, ...], Strict(False)] = Field(
        (), description="Ranks that compute more slowly, such as `[{rank: 1, factor: 2}]`; short: `{1: 2}`."
    )
    jitter: NotNegative = Field(
        0.0,
        description="Mean of a random delay of each rank in each step, relative to its computing time; exponentially "
        "distributed, and a function of seed, rank and step.",
    )
    delay_ms: NotNegative = Field(
        0.0, description="Latency added to each exchange between ranks that do not share memory for it [ms]."
    )
    bandwidth_mbit: Positive | None = Field(
        None,
        description="Bandwidth of the link of each node, in each direction, which its ranks share [Mbit/s]: exchanges "
        "that have `delay_ms` take as long as their bytes (`ranks_bytes`) besides.  null: unlimited.",
    )
    ranks_per_node: Count | None = Field(
        None,
        description="Treat every N ranks of a node as a separate node, so that traffic between the groups goes through "
        "MPI as on a cluster.  null: leave nodes as they are.",
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

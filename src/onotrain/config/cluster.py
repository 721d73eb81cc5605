"""Section ``cluster`` of a study: the machine on which `onotrain simulate` lets its trainings take place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field, Strict

from onotrain.config.base import Count, NotNegative, Numbers, Positive, Problem, Section
from onotrain.config.choices import ByType
from onotrain.config.simulate import Simulate, SlowRank

#: One bandwidth between any two groups, or a matrix; null: no limit.
_Matrix = Annotated[tuple[Annotated[tuple[Positive | None, ...], Strict(False)], ...], Strict(False)]
_Rates = Annotated[Positive | _Matrix, ByType("a number, or a matrix of numbers")]


class Groups(Section):
    """Switches below one that has less bandwidth than all links of nodes together."""

    nodes: Count = Field(description="Nodes of each group, the first ones in the first group.")
    bandwidth_mbit: _Rates = Field(
        description="What all nodes of a group can send to all of another one [Mbit/s]: a number for any two groups, "
        "as in a fat tree; or a matrix, row by row of the senders, as for a dragonfly.  On its diagonal is what the "
        "nodes of a group can send to each other; null: unlimited."
    )

    def problems(self) -> Iterator[Problem]:
        """Yield a matrix that is not square."""
        if isinstance(self.bandwidth_mbit, float):
            return
        rows = [len(row) for row in self.bandwidth_mbit]
        if not rows or set(rows) != {len(rows)}:
            yield Problem(("bandwidth_mbit",), f"must be a square matrix (got rows of {', '.join(map(str, rows))})")

    def between(self, source: int, target: int) -> float | None:
        """Return the bandwidth from one group to another, or within one [Mbit/s]; None: no limit."""
        if isinstance(self.bandwidth_mbit, float):
            return None if source == target else self.bandwidth_mbit
        return self.bandwidth_mbit[source][target]

    def most_nodes(self) -> int | None:
        """Return how many nodes there are bandwidths for; None: for any number."""
        return None if isinstance(self.bandwidth_mbit, float) else self.nodes * len(self.bandwidth_mbit)


class Slower(Section):
    """Nodes that are slower than others."""

    share: Annotated[float, Field(gt=0, le=1)] = Field(description="Share of all nodes, chosen by the seed.")
    factor: Annotated[float, Field(ge=1)] = Field(description="Factor on the time of all steps of their ranks.")


class Stragglers(Section):
    """Ranks that are slow now and then."""

    probability: Annotated[float, Field(ge=0, le=1)] = Field(description="That a step of a rank takes longer.")
    factor: Annotated[float, Field(ge=1)] = Field(description="How many times as long it then takes.")


class Computing(Section):
    """How long a rank computes; measured on this machine where it is not given."""

    rows: Numbers = Field(description="Numbers of samples of a step.")
    seconds: Numbers = Field(description="For each of them, what gradient and all else but the update take [s].")
    update_seconds: NotNegative = Field(description="Of an update of all parameters [s].")

    def problems(self) -> Iterator[Problem]:
        """Yield lists of different lengths."""
        if len(self.rows) != len(self.seconds):
            yield Problem(("seconds",), f"must be as many as rows (got {len(self.seconds)} and {len(self.rows)})")


class Cluster(Section):
    """Nodes, their links, and what goes wrong."""

    ranks_per_node: Count = Field(1, description="Ranks of each node.")
    cores: Count | None = Field(
        None, description="Cores that all ranks share, as where hosts are made of one machine; null: each has its own."
    )
    bandwidth_mbit: Positive | None = Field(
        None, description="Bandwidth of the link of each node, in each direction [Mbit/s]; null: unlimited."
    )
    latency_us: NotNegative = Field(0.0, description="Latency of a message between nodes [us].")
    groups: Groups | None = Field(None, description="Groups of nodes with less bandwidth between them; null: a star.")
    slower: Annotated[tuple[Slower, ...], Strict(False)] = Field((), description="Nodes that are slower than others.")
    stragglers: Stragglers | None = Field(None, description="Ranks that are slow now and then.")
    jitter: NotNegative = Field(
        0.0, description="Mean of a random delay of each rank in each step, relative to its computing time."
    )
    slow_ranks: Annotated[tuple[SlowRank, ...], Strict(False)] = Field((), description="As in section `simulate`.")
    mtbf_hours: Positive | None = Field(
        None, description="Mean time between failures of a node, each of which ends the training [h]; null: none fails."
    )
    restart_seconds: NotNegative = Field(
        60.0, description="From a failure until the training goes on from its last checkpoint [s]."
    )
    computing: Computing | None = Field(None, description="How long a rank computes; null: measured here.")

    def problems(self) -> Iterator[Problem]:
        """Yield more slower nodes than there are."""
        if sum(each.share for each in self.slower) > 1.0 + 1e-9:
            yield Problem(("slower",), "shares must not add up to more than 1")

    def with_simulated(self, simulate: Simulate | None) -> Cluster:
        """Return it with what a configuration's section ``simulate`` asks for in place of its own."""
        if simulate is None:
            return self
        given: dict[str, Any] = {"slow_ranks": simulate.slow_ranks, "jitter": simulate.jitter}
        if simulate.delay_ms:
            given["latency_us"] = 1000.0 * simulate.delay_ms
        if simulate.bandwidth_mbit is not None:
            given["bandwidth_mbit"] = simulate.bandwidth_mbit
        if simulate.ranks_per_node is not None:
            given["ranks_per_node"] = simulate.ranks_per_node
        return self.model_copy(update={key: value for key, value in given.items() if value})

"""Section ``fault_tolerance``: what is done about ranks that fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, model_validator

from onotrain.config.base import Count, Positive, Problem, Section


class FaultTolerance(Section):
    """How failures of ranks are found, and what becomes of the others."""

    lost_rank: Literal["end", "shrink"] = Field(
        "end",
        description="What becomes of the job when a rank dies.  end: it ends at once, and `onotrain launch` goes on "
        "from the last checkpoint.  shrink: the other ranks go on in the same job, from the last step that all had "
        "made, with strategy allreduce, flat or local_sgd, or with parameter_server as long as rank 0 lives; needs "
        "`mpirun --with-ft ulfm` of Open MPI 5, which `onotrain launch` gives, and memory for a copy of the state.  "
        "`fault_tolerance: shrink` is short for it.",
    )
    watchdog_seconds: Positive | None = Field(
        300.0,
        description="How long a rank may do nothing, such as one whose process is stopped, or that waits for a disk "
        "that does not answer, before the job ends with its name and exit code 124 [s].  In training, a rank that "
        "makes no step does nothing; a step may take four times as long as the longest one so far.  null: off, "
        "such as for a debugger.",
    )
    verify_steps: Count | None = Field(
        1000,
        description="Interval between comparisons of all copies of the parameters, where a strategy keeps them alike "
        "after every step [optimiser steps]; they are compared at the end of every epoch besides.  A copy that differs "
        "ends the job with exit code 5, and is not saved.  null: off.",
    )

    @property
    def outlives_ranks(self) -> bool:
        """Whether the others go on when a rank dies."""
        return self.lost_rank == "shrink"

    @classmethod
    def full(cls, value: Any) -> Any:
        """Return the mapping that a word alone is short for."""
        return {"lost_rank": value} if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: Any) -> Any:
        return cls.full(value)

    def problems_with(self, others: Any) -> Iterator[Problem]:
        """Yield that ranks with samples of their own take these with them."""
        partition = getattr(others.data, "partition", None)
        if self.outlives_ranks and partition is not None and partition.name != "none":
            yield Problem(
                ("lost_rank",),
                f"shrink needs samples that all ranks share (data.partition is {partition.name}: those of a dead rank "
                "would be missing)",
            )

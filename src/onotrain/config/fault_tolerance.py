"""Section ``fault_tolerance``: what is done about ranks that fail."""

from __future__ import annotations

from pydantic import Field

from onotrain.config.base import Count, Positive, Section


class FaultTolerance(Section):
    """How failures of ranks are found."""

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

"""Section ``metrics``: what of a run is written down besides the records of its epochs."""

from __future__ import annotations

from pydantic import Field

from onotrain.config.base import Count, Section


class Recording(Section):
    """What is written down while a run goes on."""

    every_steps: Count | None = Field(
        None,
        description="Interval between records within an epoch, in `steps.jsonl`: loss, accuracy, learning rate and "
        "time [optimiser steps]; null: none.  Where workers do not wait for each other, a record comes when rank 0 has "
        "the losses of all.",
    )

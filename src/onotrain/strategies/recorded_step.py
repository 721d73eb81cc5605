"""How a step ends that no rank needs Python for: what a strategy gives to a program of several steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from onotrain.optim import RecordedUpdate


@dataclass(frozen=True)
class RecordedStep:
    """What comes after the local gradient in a program (`onotrain._kernels.Kernels.program`).

    The program ends after a step that a rank wants to be the last one: its time is over, it was asked to stop, or
    statistics are not finite.  All ranks then end after the same step.
    """

    calls: list[Any]
    update: RecordedUpdate
    #: float64 ``(steps, fields)``: the statistics of each step that was made, summed over the ranks.
    totals: np.ndarray
    #: Tells the strategy's telemetry of what was waited for.
    account: Callable[[], None]

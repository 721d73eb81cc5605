"""What an epoch of a simulated training comes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Epoch:
    """An epoch that is over.

    Attributes
    ----------
    seconds
        That it took.
    compute, wait, communication
        Of each rank [s], float64; they add up to `seconds`.
    raw, sent
        Bytes that each rank sent to others with which it shares no memory, int64: as they would be without a codec, and
        as they were.
    servers
        Ranks, the first ones, that computed no gradients.
    facts
        What else the record of such an epoch has.
    """

    seconds: float
    compute: np.ndarray
    wait: np.ndarray
    communication: np.ndarray
    raw: np.ndarray
    sent: np.ndarray
    servers: int = 0
    facts: dict[str, Any] = field(default_factory=dict)

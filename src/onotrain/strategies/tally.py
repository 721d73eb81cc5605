"""What a rank counts in a step: seconds, bytes, and the numbers that all ranks must agree on."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(slots=True)
class Clock:
    """Seconds of this rank that were not its own work."""

    #: Waiting for other ranks of the node.
    wait: float = 0.0
    #: Exchanging data, and waiting for them.
    communication: float = 0.0
    #: Working while data were under way.
    hidden: float = 0.0

    @property
    def elsewhere(self) -> float:
        """Seconds so far in which this rank could not work."""
        return self.wait + self.communication

    def take(self, total: float) -> dict[str, float]:
        """Return where `total` seconds went, and begin anew; what was hidden is part of what was computed."""
        seconds = {"compute": total - self.elsewhere, **asdict(self)}
        self.wait = self.communication = self.hidden = 0.0
        return seconds


@dataclass(slots=True)
class Traffic:
    """Bytes of parameters and gradients that this rank sent to ranks that it shares no memory with for them."""

    #: What they would have been without a codec.
    raw: int = 0
    sent: int = 0

    def add(self, raw: int, sent: int) -> None:
        """Count what was sent."""
        self.raw += raw
        self.sent += sent

    def take(self) -> dict[str, int]:
        """Return the bytes so far, and begin anew."""
        found = asdict(self)
        self.raw = self.sent = 0
        return found


class Tally:
    """The few numbers of a step that all ranks must agree on; summed over the ranks along with the gradient."""

    def __init__(self) -> None:
        #: float64: sum of losses, number of right samples, ranks that want to stop, sum of squares of the gradient,
        #: number of samples.
        self.values = np.zeros(5)
        #: Its first two, as the loss kernels fill them.
        self.losses = self.values[:2]

    @property
    def loss_sum(self) -> float:
        """Sum of the losses of the samples."""
        return float(self.values[0])

    @property
    def right(self) -> float:
        """Number of samples that were classified right."""
        return float(self.values[1])

    @property
    def stop(self) -> bool:
        """Whether any rank was asked to stop."""
        return bool(self.values[2])

    def ask_to_stop(self) -> None:
        """Let all ranks stop after this step."""
        self.values[2] = 1.0

    @property
    def gradient_squares(self) -> float:
        """Sum of squares of the global gradient; not finite if any of it is not."""
        return float(self.values[3])

    @gradient_squares.setter
    def gradient_squares(self, value: float) -> None:
        self.values[3] = value

    @property
    def samples(self) -> int:
        """Number of samples that the sums are over; 0 while a strategy has none to tell."""
        return int(self.values[4])

    @samples.setter
    def samples(self, value: int) -> None:
        self.values[4] = value

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are finite."""
        return all(map(math.isfinite, self.values.tolist()))

    def clear(self) -> None:
        """Begin a new step."""
        self.values[:] = 0.0

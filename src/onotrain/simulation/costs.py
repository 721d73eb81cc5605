"""What one rank needs to compute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Costs:
    """Times of a rank that nothing slows down.

    Attributes
    ----------
    rows, seconds
        Of some numbers of rows, in ascending order, what a step takes without its update [s], float64.
    update
        Of an update of all parameters [s].
    encode, decode
        Of a message with all parameters, by the codec that is used [s]; 0 without one.
    """

    rows: np.ndarray
    seconds: np.ndarray
    update: float
    encode: float = 0.0
    decode: float = 0.0

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        """Return what a step of so many rows takes [s], float64; beyond what is known, on a line through the last two.

        Rows of 0 take no time.
        """
        rows = np.asarray(rows, np.float64)
        found = np.interp(rows, self.rows, self.seconds)
        if len(self.rows) > 1:
            for ends, beyond in ((slice(0, 2), rows < self.rows[0]), (slice(-2, None), rows > self.rows[-1])):
                (x, further), (y, later) = self.rows[ends], self.seconds[ends]
                slope = max(0.0, (later - y) / (further - x))
                line = y + slope * (rows - x) if ends.start == 0 else later + slope * (rows - further)
                found = np.where(beyond, np.maximum(line, 0.0), found)
        else:
            found = self.seconds[0] * np.maximum(rows / self.rows[0], 1.0)
        return np.where(rows > 0, found, 0.0)

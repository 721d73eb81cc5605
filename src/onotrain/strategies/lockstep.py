"""What strategies have in common whose ranks make every step together."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from onotrain.strategies.balance import BALANCED_STEPS
from onotrain.strategies.sliced import Sliced


class Lockstep(Sliced):
    """What strategies have in common whose ranks make every step together."""

    settled = True
    lockstep = True

    def weight(self, samples: int) -> float:
        """Return what makes the sum of all ranks' gradients that of the mean loss."""
        return 1.0 / samples

    def computed(self, rows: int, seconds: float) -> None:
        """Now and then, tell the other ranks, and cut the batches to come anew if that pays.  *Collective*."""
        self._slices.computed(rows, seconds)
        if self._slices.steps == BALANCED_STEPS:
            start = perf_counter()
            if self._slices.tell():
                self.cut_anew()
            self.clock.communication += perf_counter() - start

    def restore(self, notes: dict[str, Any]) -> None:
        """Go on with the cut of the batches that was in force."""
        super().restore(notes)
        self.cut_anew()

    def cut_anew(self) -> None:
        """Take in that slices are cut in another way; where nothing else depends on it, do nothing."""
        return

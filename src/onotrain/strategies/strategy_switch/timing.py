"""How long epochs of Strategy-Switch take: `onotrain.strategies.timing`."""

from __future__ import annotations

from onotrain.simulation.epoch import Epoch
from onotrain.strategies.strategy_switch.strategy_switch import PHASES
from onotrain.strategies.timing import Timing


class SwitchTiming:
    """Epochs of one strategy, then of another.

    Parameters
    ----------
    phases
        Timings of both.
    at_epoch
        Epochs of the first one.
    """

    def __init__(self, phases: tuple[Timing, Timing], at_epoch: int) -> None:
        self._phases, self._at_epoch = phases, at_epoch

    def epoch(self, number: int) -> Epoch:
        """Return what epoch `number` comes to."""
        phase = int(number >= self._at_epoch)
        found = self._phases[phase].epoch(number)
        found.facts["phase"] = PHASES[phase]
        return found

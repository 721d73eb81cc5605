"""After which steps workers push."""

from __future__ import annotations

from typing import Literal


class PushPeriod:
    """Numbers the pushes; all ranks ask in each step, and get the same answers.

    Where every step ends with a push, it has the step's number.

    Parameters
    ----------
    every
        Steps between two pushes; ``epoch``: only synchronisation points have one.
    """

    def __init__(self, every: int | Literal["epoch"]) -> None:
        self._every = None if every == "epoch" else every
        self._steps = 0
        #: Number of the last push; None where the next one may be numbered after its step.
        self._last: int | None = None

    def push_after(self, number: int, *, synchronize: bool) -> int:
        """Return the number of the push that step `number` ends with; 0: none.

        Parameters
        ----------
        number
            Of the step, counted from 1.
        synchronize
            Whether it is a synchronisation point that all ranks know of: nothing is left to be pushed there.
        """
        if self._last is None:
            self._last = number - 1
        self._steps += 1
        if not synchronize and self._steps != self._every:
            return 0
        push = self._last + 1
        self._steps, self._last = 0, None if synchronize else push
        return push

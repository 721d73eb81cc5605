"""Local SGD: how many steps each rank makes on its own before the parameters are averaged.

A period is asked once before every epoch, with what is known by then; it holds for the whole epoch.  A new one is a
class with the members of `Period` and a line in `PERIODS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol


class Period(Protocol):
    """How long ranks go on alone."""

    #: Local steps between two averages, at least 1.
    steps: int
    #: What hinders the rule, for the user; None if nothing does.
    problem: str | None

    def observe(self, epoch: int, learning_rate: float, loss: float | None) -> int:
        """Return `steps` for `epoch`, which is about to begin.

        Parameters
        ----------
        epoch
            Counted from 0.
        learning_rate
            That of its first step.
        loss
            Mean training loss over all ranks at this point, such as that of the epoch before; None if there is none.
        """
        ...

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must keep."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        ...


class Fixed:
    """Always the same.

    Parameters
    ----------
    steps
        Local steps between two averages.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.problem: str | None = None

    def observe(self, epoch: int, learning_rate: float, loss: float | None) -> int:
        """Return the one number there is."""
        return self.steps

    def state(self) -> dict[str, Any]:
        """Return nothing: there is none."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Do nothing."""


class PostLocal:
    """Synchronous first, local later (post-local SGD: Lin et al., arXiv 1808.07217).

    Parameters
    ----------
    steps
        Local steps between two averages in the second phase; 1 in the first.
    from_epoch
        First epoch of the second phase.  None: the first whose learning rate is below that of the epoch before, which
        is the paper's choice.
    """

    def __init__(self, steps: int, from_epoch: int | None = None) -> None:
        self.steps = 1
        self.problem: str | None = None
        self._later = steps
        self._from_epoch = from_epoch
        self._rate: float | None = None

    def observe(self, epoch: int, learning_rate: float, loss: float | None) -> int:
        """Enter the second phase when it is time; there is no way back from it."""
        dropped = self._rate is not None and learning_rate < self._rate
        if dropped if self._from_epoch is None else epoch >= self._from_epoch:
            self.steps = self._later
        self._rate = learning_rate
        return self.steps

    def state(self) -> dict[str, Any]:
        """Return the period in force and the last learning rate."""
        return {"steps": self.steps, "rate": self._rate}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.steps, self._rate = state["steps"], state["rate"]


class Adaptive:
    """Often where the loss is low (AdaComm: Wang and Joshi, arXiv 1810.08313, section 4).

    With the loss ``F_0`` at the beginning and ``F`` now, the period becomes ``ceil(sqrt(F / F_0) tau_0)`` if that is
    below the present one, else half of the present one, rounded up.  ``F_0`` is the first loss seen that is finite and
    positive.  At a loss that is not finite or is negative the period stays what it is, and `problem` says so.

    Parameters
    ----------
    steps
        First period [local steps] (``tau_0``).
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.problem: str | None = None
        self._first_steps = steps
        self._first_loss: float | None = None

    def observe(self, epoch: int, learning_rate: float, loss: float | None) -> int:
        """Shorten the period."""
        self.problem = None
        if loss is None:
            return self.steps
        if not math.isfinite(loss) or loss < 0.0:
            self.problem = (
                f"the loss is {loss}, expected a finite one that is not negative: the period stays {self.steps}"
            )
        elif self._first_loss is not None:
            self.steps = self._shorter(loss / self._first_loss)
        elif loss > 0.0:
            self._first_loss = float(loss)
        else:
            self.problem = f"the first loss is 0, nothing can be compared with it: the period stays {self.steps}"
        return self.steps

    def _shorter(self, ratio: float) -> int:
        wanted = math.sqrt(ratio) * self._first_steps
        if wanted > self.steps - 1:  # its ceiling is no shorter than the present period
            return -(-self.steps // 2)
        return max(1, math.ceil(wanted))

    def state(self) -> dict[str, Any]:
        """Return the period in force and the loss that others are compared with."""
        return {"steps": self.steps, "first_loss": self._first_loss}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.steps, self._first_loss = state["steps"], state["first_loss"]


#: By the name in the configuration; options are `steps`, and `from_epoch` of `PostLocal`.
PERIODS: dict[str, Callable[[Any], Period]] = {
    "fixed": lambda options: Fixed(options.steps),
    "post_local": lambda options: PostLocal(options.steps, options.from_epoch),
    "adaptive": lambda options: Adaptive(options.steps),
}

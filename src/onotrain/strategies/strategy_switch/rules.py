"""When Strategy-Switch leaves its first strategy for the second, and when it goes back.

The rule is that of Provatas et al., IEEE Access 13:9510, 2025 (doi 10.1109/ACCESS.2025.3528248): the mean relative
change of the last ``w`` losses,

    s_t = 1 / (w - 1) * sum over i = t-w+2 .. t of |L_i - L_{i-1}| / |L_{i-1}|,

has fallen to ``theta``.  Epochs are counted from 0.  A loss of which nothing can be said never decides anything in
silence: `problem` says so.
"""

from __future__ import annotations

import math
from typing import Any


def relative_change(before: float, after: float) -> float:
    """Return ``|after - before| / |before|``: from 0 to 0 it is 0, from 0 to anything else infinite."""
    change = abs(after - before)
    if before == 0.0:
        return math.inf if change > 0.0 else change  # which may be NaN
    return change / abs(before)


class SwitchRule:
    """Whether the loss has become stable.

    Parameters
    ----------
    window
        Number of losses looked at, at least 2 (``w``).
    threshold
        Largest mean relative change that counts as stable (``theta``).
    at_epoch
        Epoch that shall be the first of the second strategy, whatever the losses, once; `value` is for the log alone.
    """

    def __init__(self, window: int, threshold: float, at_epoch: int | None = None) -> None:
        self._window = window
        self._threshold = threshold
        self._at_epoch = at_epoch
        self._losses: list[float] = []
        #: Whether `at_epoch` has yet to come.
        self._waits = True

    def observe(self, epoch: int, loss: float) -> bool:
        """Take in the loss of the finished epoch `epoch`; return whether the next one is for the second strategy."""
        self._losses = [*self._losses, float(loss)][-self._window :]
        if self._at_epoch is not None:
            due, self._waits = self._waits and epoch + 1 >= self._at_epoch, self._waits and epoch + 1 < self._at_epoch
            return due
        return self.value is not None and self.value <= self._threshold

    @property
    def value(self) -> float | None:
        """``s_t``; None before there are `window` losses, not finite if the losses do not allow to tell."""
        if len(self._losses) < self._window:
            return None
        changes = map(relative_change, self._losses, self._losses[1:])
        return sum(changes) / (self._window - 1)

    @property
    def problem(self) -> str | None:
        """Why the losses do not allow to tell, for the user; None if they do."""
        bad = [loss for loss in self._losses if not math.isfinite(loss)]
        if bad:
            what = f"{len(bad)} of the last {len(self._losses)} losses are not finite ({bad[-1]})"
        elif self.value is not None and not math.isfinite(self.value):
            what = f"the loss rose from 0, or out of all proportion, within the last {self._window} epochs"
        else:
            return None
        if self._at_epoch is not None:
            return f"{what}: how stable it is cannot be said; the switch is at epoch {self._at_epoch} all the same"
        return f"{what}: no switch before these have left the window of {self._window}"

    def reset(self) -> None:
        """Forget the losses, as after a way back: only those of the strategy that runs again may decide."""
        self._losses = []

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must keep."""
        return {"losses": list(self._losses), "waits": self._waits}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self._losses, self._waits = list(state["losses"]), state.get("waits", True)


class SwitchBackRule:
    """Whether the second strategy does harm.

    Parameters
    ----------
    patience
        Epochs in a row that the validation loss may lie above its best; None: it is not looked at.
    min_delta
        By how much it must lie above to count.
    max_staleness
        Bound on the mean staleness of an epoch [updates]; None: none.
    """

    def __init__(self, patience: int | None, min_delta: float, max_staleness: float | None) -> None:
        self._patience = patience
        self._min_delta = min_delta
        self._max_staleness = max_staleness
        self._best: float | None = None
        self._risen = 0

    def observe(self, loss: float | None, staleness: float | None) -> str | None:
        """Take in a finished epoch; return why to go back, or None to go on.

        Parameters
        ----------
        loss
            Validation loss, None if it was not computed.  One that is not finite counts as risen.
        staleness
            Mean staleness of the epoch [updates], None if nothing was stale or measured.
        """
        if self._max_staleness is not None and staleness is not None and not staleness <= self._max_staleness:
            return f"mean staleness of the epoch is {staleness:.3g}, above {self._max_staleness:.3g}"
        if self._patience is None or loss is None:
            return None
        self._count(float(loss))
        if self._risen < max(1, self._patience):
            return None
        best = "none was finite yet" if self._best is None else f"best {self._best:.6g}"
        return f"validation loss is {loss:.6g} ({best}), risen for {self._risen} epochs"

    def _count(self, loss: float) -> None:
        if not math.isfinite(loss):
            self._risen += 1
            return
        best = loss if self._best is None else self._best
        self._risen = self._risen + 1 if loss > best + self._min_delta else 0
        self._best = min(best, loss)

    def reset(self) -> None:
        """Begin anew, as at a switch."""
        self._best, self._risen = None, 0

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must keep."""
        return {"best": self._best, "risen": self._risen}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self._best, self._risen = state["best"], state["risen"]

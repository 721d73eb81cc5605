"""Whether a training that has ended is launched again, when, and on how many ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onotrain.errors import EXIT_CODES, EXIT_INTERRUPTED, EXIT_OK

#: What would end in the same way again.
FINAL = frozenset({EXIT_OK, 2, 3, 4, 5, 6, 7, 75, EXIT_INTERRUPTED})
#: Most launches in a row without a new checkpoint.
MOST_WITHOUT_PROGRESS = 3
#: First and longest pause before a launch that follows one without progress [s].
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0


@dataclass(frozen=True)
class Verdict:
    """What is done next: nothing, or another launch."""

    again: bool
    why: str
    pause: float = 0.0
    ranks: int = 0


@dataclass(frozen=True)
class LostHosts:
    """Hosts that start nothing any more."""

    names: Sequence[str] = ()
    #: For how many ranks the others are; None: the launcher decides.
    places: int | None = None

    def __str__(self) -> str:
        return f"{', '.join(self.names)} {'is' if len(self.names) == 1 else 'are'} gone" if self.names else ""


_NONE = LostHosts()


class Stubborn:
    """Launches again at once, whatever it takes: for ranks that are killed on purpose."""

    def __init__(self, ranks: int) -> None:
        self._ranks = ranks

    def after(self, code: int, steps: int, lost: LostHosts = _NONE) -> Verdict:
        """Return as `Policy` does."""
        return Verdict(False, EXIT_CODES[code]) if code in FINAL else Verdict(True, "", 0.0, self._ranks)


class Policy:
    """Decides after each launch.

    Parameters
    ----------
    max_restarts
        How often a training is launched again at most.
    ranks, min_ranks
        Of the first launch, and the fewest of a later one: each launch without progress may have one rank too many.
    steps
        Of the newest checkpoint before the first launch; -1: there is none.
    """

    def __init__(self, max_restarts: int, ranks: int, min_ranks: int, steps: int = -1) -> None:
        self._left, self._ranks, self._min_ranks, self._steps = max_restarts, ranks, min_ranks, steps
        self._without_progress = 0

    def after(self, code: int, steps: int, lost: LostHosts = _NONE) -> Verdict:
        """Return what to do after a launch.

        Parameters
        ----------
        code
            That it ended with.
        steps
            Of the newest checkpoint.
        lost
            Since the launch before.
        """
        progress = steps > self._steps
        self._steps = max(steps, self._steps)
        self._without_progress = 0 if progress else self._without_progress + 1
        if code in FINAL:
            return Verdict(False, EXIT_CODES[code])
        if not self._left:
            return Verdict(False, "no restart is left (--max-restarts)")
        if self._without_progress == MOST_WITHOUT_PROGRESS:
            return Verdict(False, f"{MOST_WITHOUT_PROGRESS} launches in a row have saved nothing new")
        self._left -= 1
        if lost.names and lost.places is not None and lost.places < self._ranks:
            if lost.places < self._min_ranks:
                why = f"{lost}, and the others have {lost.places} slots (--min-ranks {self._min_ranks})"
                return Verdict(False, why)
            self._ranks = lost.places
        if progress or lost.names:
            return Verdict(True, str(lost), 0.0, self._ranks)
        self._ranks = max(self._min_ranks, self._ranks - 1)
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (self._without_progress - 1))
        return Verdict(True, "", pause, self._ranks)

"""Which steps of a run are traced, and when ranks come together for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from importlib.util import find_spec

from onotrain._kernels.recording import Events, Label
from onotrain.errors import PlatformError
from onotrain.parallel import clocks
from onotrain.parallel.clocks import Clocks
from onotrain.parallel.world import World

#: Events of a rank: 40 MiB, of which pages that hold none take no memory.
CAPACITY = 1 << 20


class Profiler:
    """What the training loop tells of steps.  This one does nothing."""

    def before(self, steps: int) -> None:
        """Learn that a step is about to be made, or several, after so many."""

    def steps_left(self, steps: int) -> int | None:
        """Return after how many more steps `before` must be called again, at the latest; None: never."""
        return None

    def step(self, begin: float, number: int) -> None:
        """Learn that a step has ended that no program has put down: its beginning [s] and number, counted from 1."""

    def span(self, name: str) -> AbstractContextManager[None]:
        """Put down what is done between steps."""
        return nullcontext()

    def epoch_ended(self, steps: int) -> None:
        """Learn that an epoch has ended after so many steps.  *Collective*."""

    def run_ended(self, steps: int) -> None:
        """Learn that the run has ended after so many steps.  *Collective*."""


class Recording(Profiler):
    """Traces some steps.  *Collective*: made by all ranks, with the same steps.

    Ranks come together where they do so anyway, at ends of epochs.  Clocks are compared at the last one before the
    steps and at the first one behind them, where the trace is also written.

    Parameters
    ----------
    world, events
        Of this rank.
    steps
        Which ones, counted from 1; none of them has been made.
    write
        Writes the trace, of which it gets the clocks of this rank and the first and last step.  *Collective*.
    note
        Gets what is worth a line.
    saves
        Returns when files have been written in the background [s].
    """

    def __init__(
        self, world: World, events: Events, steps: range, write: Callable[[Clocks, tuple[int, int]], None],
        note: Callable[[str], None], saves: Callable[[], Sequence[tuple[float, float]]] = tuple,
    ) -> None:  # fmt: skip
        self._world, self._events, self._steps, self._write, self._note = world, events, steps, write, note
        self._saves = saves
        self._before, self._written = clocks.measure(world, events.now), False

    def before(self, steps: int) -> None:
        """Begin, or end, to put down what happens."""
        self._events.on = steps + 1 in self._steps and not self._written

    def steps_left(self, steps: int) -> int | None:
        """Return how many steps there are up to the first or the last one that is traced."""
        return next((end - steps for end in (self._steps.start - 1, self._steps.stop - 1) if steps < end), None)

    def step(self, begin: float, number: int) -> None:
        """Put it down."""
        self._events.add(Label("step", "step"), begin, self._events.now(), number)

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Put it down."""
        begin = self._events.now()
        yield
        self._events.add(Label("span", name), begin, self._events.now())

    def epoch_ended(self, steps: int) -> None:
        """Compare the clocks; write the trace if all of its steps are made."""
        if self._written:
            return
        if steps < self._steps.start:
            self._before = clocks.measure(self._world, self._events.now)
        elif steps >= self._steps.stop - 1:
            self._end(steps)

    def run_ended(self, steps: int) -> None:
        """Write the trace of what steps there were."""
        if self._written:
            return
        if steps >= self._steps.start:
            self._end(steps)
        else:
            self._note(f"there is no trace: the run ended after step {steps}, before step {self._steps.start}")

    def _end(self, steps: int) -> None:
        self._add_saves()
        self._events.on, self._written = False, True
        after = clocks.measure(self._world, self._events.now)
        self._write(Clocks(self._before, after), (self._steps.start, min(steps, self._steps.stop - 1)))
        self._events.clear()

    def _add_saves(self) -> None:
        """Put down what was written while something else was put down."""
        known = self._events.array[: self._events.count]
        if not len(known):
            return
        first, last = known["begin"].min() * 1e-9, (known["begin"] + known["duration"]).max() * 1e-9
        self._events.on = True
        for begin, end in self._saves():
            if first <= end and begin <= last:
                self._events.add(Label("file", "checkpoint"), max(begin, first), end)


def make_events() -> Events:
    """Return where a rank puts events down.

    Raises
    ------
    PlatformError
        This package is not compiled.
    """
    if find_spec("onotrain._kernels.events") is None:
        raise PlatformError(
            "metrics.profile: this installation has no compiled kernels", hint="leave metrics.profile out"
        )
    events: Events = import_module("onotrain._kernels.events").Events(CAPACITY)
    return events

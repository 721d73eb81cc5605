"""Which steps are traced, and what of the files that are written beside them."""

from __future__ import annotations

import pytest
from onotrain._kernels.events import Events

from onotrain.parallel.clocks import Clocks
from onotrain.parallel.world import World
from onotrain.training.profiling.profiler import Recording


class Run:
    """A training that traces steps 3 to 5, and is told when files were written."""

    def __init__(self, saves: list[tuple[float, float]] | None = None) -> None:
        self.events, self.traces, self.notes = Events(100), list[tuple[int, int]](), list[str]()
        #: Name, beginning and end of each event [s].
        self.found: list[tuple[str, float, float]] = []
        self.saves = saves or []
        self.profiler = Recording(
            World.connect(), self.events, range(3, 6), self._write, self.notes.append, lambda: self.saves
        )

    def _write(self, clocks: Clocks, steps: tuple[int, int]) -> None:
        assert clocks.uncertainty == 0.0 and clocks.after.at > clocks.before.at
        self.traces.append(steps)
        known = self.events.array[: self.events.count]
        self.found = [
            (self.events.labels[each["label"]].name, each["begin"] * 1e-9, (each["begin"] + each["duration"]) * 1e-9)
            for each in known
        ]

    def make(self, steps: range) -> None:
        """Make these steps."""
        for step in steps:
            self.profiler.before(step - 1)
            self.profiler.step(self.events.now(), step)


@pytest.mark.parametrize(("steps", "left"), [(0, 2), (1, 1), (2, 3), (4, 1), (5, None), (9, None)])
def test_programs_end_where_the_steps_begin_and_end(steps: int, left: int | None) -> None:
    assert Run().profiler.steps_left(steps) == left


def test_the_trace_is_written_at_the_first_end_of_an_epoch_behind_the_steps() -> None:
    run = Run()
    for epoch in (range(1, 3), range(3, 5), range(5, 7), range(7, 9)):
        run.make(epoch)
        run.profiler.epoch_ended(epoch.stop - 1)
        assert run.traces == ([(3, 5)] if epoch.stop > 5 else [])
    assert [name for name, *_ in run.found] == ["step"] * 3
    run.profiler.run_ended(8)
    assert run.traces == [(3, 5)] and run.events.count == 0 and run.notes == []


def test_a_run_that_ends_within_the_steps_has_a_trace_of_some() -> None:
    run = Run()
    run.make(range(1, 5))
    run.profiler.run_ended(4)
    assert run.traces == [(3, 4)]


def test_a_run_that_ends_before_them_has_none() -> None:
    run = Run()
    run.make(range(1, 3))
    run.profiler.run_ended(2)
    assert run.traces == [] and run.notes == ["there is no trace: the run ended after step 2, before step 3"]


def test_files_that_were_written_meanwhile_are_in_the_trace() -> None:
    """One that began before is cut; those before and after are none of it."""
    run = Run()
    run.events.on = True
    run.profiler.step(run.events.now(), 3)
    begin, now = run.events.array["begin"][0] * 1e-9, run.events.now()
    run.saves += [(begin - 9, begin - 8), (begin - 5, now + 1), (now + 2, now + 3)]
    run.profiler.run_ended(5)
    assert [name for name, *_ in run.found] == ["step", "checkpoint"]
    assert run.found[1][1:] == pytest.approx((begin, now + 1), abs=1e-6)

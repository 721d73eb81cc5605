"""Times of short calls, taken so that they can be compared.

What is compared is measured in turn, so that all of it meets the same moods of a shared machine.  On several ranks a
call begins after a barrier, and lasts as long as it does on the slowest rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter, sleep
from typing import Any

import numpy as np

from onotrain.errors import OnotrainError
from onotrain.parallel.agreement import agreed
from onotrain.parallel.world import Comm, World

#: Told what is being measured.
Say = Callable[[str], None]
Call = Callable[[], object]

#: Calls are grouped so that one reading of the clock covers at least so much [s].
_GROUP_S = 2e-3
#: Readings of one measurement, whatever time they take or leave.
_FEWEST, _MOST = 5, 101
#: How often a rank that has nothing to do looks whether it shall go on [s].
_NAP_S = 0.005


@dataclass(frozen=True)
class Timing:
    """Seconds of one call, reading by reading."""

    seconds: np.ndarray

    @property
    def median(self) -> float:
        """Median of the readings [s]."""
        return float(np.median(self.seconds))

    def to_dict(self) -> dict[str, float]:
        """Return median, min and max [s], and the number of readings."""
        return spread(self.seconds)

    def of(self, other: Timing) -> dict[str, float]:
        """Return this time as a multiple of one that was measured in turn with it, reading by reading."""
        return spread(self.seconds / other.seconds)


def spread(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Return median, min and max of readings, and how many they are."""
    array = np.asarray(values, np.float64)
    return {
        "median": float(np.median(array)), "min": float(array.min()), "max": float(array.max()), "readings": len(array)
    }  # fmt: skip


def measure(
    calls: Sequence[Call], budget_s: float, comm: Comm | None = None, before: Sequence[Call] = ()
) -> list[Timing]:
    """Time calls in turn, after two of each to warm up.

    *Collective* over `comm`: the same calls on all ranks.

    Parameters
    ----------
    calls
        What is compared with each other.
    budget_s
        About how long to measure all of them together [s]; five readings are taken at least.
    comm
        Ranks that do the same at the same time; None for this process alone.
    before
        For each call, what is done before each time, and not counted.

    Returns
    -------
    list of Timing
        For each call, on every rank that of the slowest.
    """
    once = _slowest(comm, [_warm(call) for call in calls])
    groups = [max(1, round(min(_GROUP_S, budget_s / _FEWEST) / max(seconds, 1e-9))) for seconds in once]
    round_s = sum(group * seconds for group, seconds in zip(groups, once, strict=True))
    readings = int(min(_MOST, max(_FEWEST, budget_s / max(round_s, 1e-9))))
    table = np.empty((readings, len(calls)))
    for row in table:
        for column, (call, group) in enumerate(zip(calls, groups, strict=True)):
            row[column] = _read_apart(before[column], call, group, comm) if before else _read(call, group, comm)
    slowest = _slowest(comm, table)
    return [Timing(slowest[:, column]) for column in range(len(calls))]


def _warm(call: Call) -> float:
    call()
    start = perf_counter()
    call()
    return perf_counter() - start


def _read(call: Call, group: int, comm: Comm | None) -> float:
    if comm is not None:
        comm.Barrier()
    start = perf_counter()
    for _ in range(group):
        call()
    return (perf_counter() - start) / group


def _read_apart(before: Call, call: Call, group: int, comm: Comm | None) -> float:
    seconds = 0.0
    for _ in range(group):
        before()
        if comm is not None:
            comm.Barrier()
        start = perf_counter()
        call()
        seconds += perf_counter() - start
    return seconds / group


def _slowest(comm: Comm | None, seconds: Any) -> np.ndarray:
    """Return the greatest values of all ranks."""
    array = np.asarray(seconds, np.float64)
    return array if comm is None else np.max(comm.allgather(array), axis=0)


@contextmanager
def others_asleep(world: World) -> Iterator[None]:
    """Let ranks that have nothing to do in the block sleep until the others are through; *collective*.

    Ranks that wait in MPI may keep their cores busy.  What fails in the block fails on all ranks (`agreed`).
    """
    with agreed(world.comm):
        try:
            yield
        except OnotrainError:
            _meet(world)
            raise
        _meet(world)


def _meet(world: World) -> None:
    request = world.comm.Ibarrier()
    while not request.Test():
        world.failures.check()
        sleep(_NAP_S)

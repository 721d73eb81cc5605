"""Calls of kernels that are kept and run later, in Python: reference implementations, and losses of other packages."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import Enum
from time import monotonic
from typing import Any, NamedTuple, Protocol

import numpy as np

#: An event, as `onotrain._kernels.events.Events` keeps it: times in ns, `number` and `peer` -1 where there is none.
EVENT = np.dtype(
    [
        ("begin", np.int64), ("duration", np.int64), ("number", np.int64), ("nbytes", np.int64),
        ("label", np.int32), ("peer", np.int32),
    ]
)  # fmt: skip


class Place(NamedTuple):
    """Where in a step a call belongs."""

    #: Such as ``forward``; of a barrier, what is waited for.
    phase: str
    layer: str = ""
    #: Of the batch, that it works on.
    rows: int = 0


#: Of a Python function that says itself what takes its time.
ELSEWHERE = Place("")


class Label(NamedTuple):
    """What an event is."""

    #: ``kernel``, ``wait``, ``communication``, ``sent``, ``received``, ``flight``, ``pass``, ``step``, ``span`` or
    #: ``file``.
    kind: str
    name: str
    place: Place = Place("")


class Events(Protocol):
    """Where events are put down (`onotrain._kernels.events.Events`)."""

    #: Whether they are.
    on: bool
    #: dtype `EVENT`, of which the first `count` are there; and for how many more there was no place.
    array: np.ndarray
    count: int
    missed: int
    #: What their labels stand for.
    labels: list[Any]

    def now(self) -> float:
        """Return the time of their clock [s]."""
        ...

    def add(self, what: Label, begin: float, end: float, number: int = -1, nbytes: int = 0, peer: int = -1) -> None:
        """Put down an event, if they are on."""
        ...

    def clear(self) -> None:
        """Forget all."""
        ...


def label_of(call: Any) -> Label:
    """Return what the event of a recorded call is; one without a name is a barrier."""
    place = call.place or Place("")
    return Label("wait", f"barrier: {place.phase}") if call.name is None else Label("kernel", call.name, place)


def place(calls: Sequence[Any], phase: str, layer: str = "", rows: int = 0) -> Sequence[Any]:
    """Say of calls that have no place yet where they belong; return them."""
    where = Place(phase, layer, rows)
    for call in calls:
        if getattr(call, "place", where) is None:  # a bare function has none
            call.place = where
    return calls


class Live(Enum):
    """Arguments of a recorded call that are known only when it runs."""

    #: Optimiser step, counted from 0.
    STEP = 0
    #: Position of the epoch at which the global batch begins.
    POSITION = 1
    #: Number of the step among those of the run, counted from 0.
    INDEX = 2
    #: Whether the time of the run is over.
    LATE = 3


class Program(Protocol):
    """Recorded calls one after the other (`onotrain._kernels.program` has the compiled form)."""

    def run(self, step: int, position: int = 0, steps: int = 1, stride: int = 0, seconds: float = math.inf) -> int:
        """Run all calls once for each of some steps, and return how many were made.

        `Live` arguments are `step` and `position` at first; from one step to the next these grow by 1 and `stride`.
        A call may say that a step is the last one, or do so once `seconds` are over.
        """
        ...


class PythonCall:
    """A Python function with its arguments; returns whether this is the last step."""

    def __init__(self, function: Callable[..., bool | None], *arguments: Any) -> None:
        self._function, self._arguments = function, arguments
        #: As of a compiled call; there are no events of calls without a place.
        self.name: str = getattr(function, "__name__", type(function).__name__)
        self.place: Place | None = None

    def __call__(self, step: int, position: int, index: int, late: bool) -> bool | None:
        """Run it."""
        now = (step, position, index, late)
        return self._function(*(now[each.value] if isinstance(each, Live) else each for each in self._arguments))


class PythonProgram:
    """A program of Python functions alone; `events` gets one, `label`, for each pass through them."""

    def __init__(
        self, calls: Sequence[Callable[[int, int, int, bool], bool | None]], events: Events | None = None,
        label: Label | None = None,
    ) -> None:  # fmt: skip
        self._calls, self._events, self._label = tuple(calls), events, label

    def run(self, step: int, position: int = 0, steps: int = 1, stride: int = 0, seconds: float = math.inf) -> int:
        """Run all calls."""
        end = monotonic() + seconds
        for index in range(steps):
            began = 0.0 if self._events is None else self._events.now()
            now = step + index, position + index * stride, index, monotonic() >= end
            last = [call(*now) for call in self._calls]
            if self._events is not None and self._label is not None:
                self._events.add(self._label, began, self._events.now(), step + index + 1)
            if any(each is True for each in last):
                return index + 1
        return steps

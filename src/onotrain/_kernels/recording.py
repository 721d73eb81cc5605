"""Calls of kernels that are kept and run later, in Python: reference implementations, and losses of other packages."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import Enum
from time import monotonic
from typing import Any, Protocol


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

    def __call__(self, step: int, position: int, index: int, late: bool) -> bool | None:
        """Run it."""
        now = (step, position, index, late)
        return self._function(*(now[each.value] if isinstance(each, Live) else each for each in self._arguments))


class PythonProgram:
    """A program of Python functions alone."""

    def __init__(self, calls: Sequence[Callable[[int, int, int, bool], bool | None]]) -> None:
        self._calls = tuple(calls)

    def run(self, step: int, position: int = 0, steps: int = 1, stride: int = 0, seconds: float = math.inf) -> int:
        """Run all calls."""
        end = monotonic() + seconds
        for index in range(steps):
            now = step + index, position + index * stride, index, monotonic() >= end
            last = [call(*now) for call in self._calls]
            if any(each is True for each in last):
                return index + 1
        return steps

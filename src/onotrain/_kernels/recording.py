"""Calls of kernels that are kept and run later, in Python: reference implementations, and losses of other packages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Protocol


class Live(Enum):
    """Arguments of a recorded call that are known only when it runs."""

    #: Optimiser step, counted from 0.
    STEP = 0
    #: Row of the global batch at which this rank's rows begin.
    FIRST_ROW = 1
    #: 1 / samples of the global batch.
    WEIGHT = 2


class Program(Protocol):
    """Recorded calls one after the other (`onotrain._kernels.program` has the compiled form)."""

    def run(self, step: int, first_row: int, weight: float) -> None:
        """Run all calls, with these values of `Live` arguments."""
        ...


class PythonCall:
    """A Python function with its arguments."""

    def __init__(self, function: Callable[..., None], *arguments: Any) -> None:
        self._function, self._arguments = function, arguments

    def __call__(self, step: int, first_row: int, weight: float) -> None:
        """Run it."""
        now = (step, first_row, weight)
        self._function(*(now[each.value] if isinstance(each, Live) else each for each in self._arguments))


class PythonProgram:
    """A program of Python functions alone."""

    def __init__(self, calls: Sequence[Callable[[int, int, float], None]]) -> None:
        self._calls = tuple(calls)

    def run(self, step: int, first_row: int, weight: float) -> None:
        """Run all calls."""
        for call in self._calls:
            call(step, first_row, weight)

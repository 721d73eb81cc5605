"""Signals that ask a run to save and stop: TERM, USR1, USR2, HUP of a lost terminal, INT that a launcher passes on.

A request by a file (`onotrain.runs.live`) counts as such a signal to rank 0.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from onotrain.parallel import launcher


class StopRequest:
    """Whether this rank was asked to stop; the statistics of a step tell the others."""

    def __init__(self) -> None:
        self.signal: str | None = None
        #: Whether rank 0 was asked to save, and go on.
        self.save = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number).name

    def take(self) -> dict[signal.Signals, Any]:
        """Catch the signals from now on; return the handlers before.

        A request that caught them before hands over what it has caught.
        """
        before = {number: signal.signal(number, self._handle) for number in _wanted()}
        for handler in before.values():
            owner = getattr(handler, "__self__", None)
            if isinstance(owner, StopRequest):
                self.signal = self.signal or owner.signal
        return before

    @classmethod
    @contextmanager
    def listening(cls) -> Iterator[StopRequest]:
        """Catch the signals within the block; outside the main thread, where Python allows no handlers, do nothing."""
        request = cls()
        if threading.current_thread() is not threading.main_thread():
            yield request
            return
        before = request.take()
        try:
            yield request
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def ignore() -> None:
    """Take no notice of the signals any more, not even when Python gives its handlers up at the end of a process."""
    for number in _wanted():
        signal.signal(number, signal.SIG_IGN)


def _wanted() -> Iterator[signal.Signals]:
    yield from (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    # Whoever starts a run with these ignored, as `nohup` and the `&` of a script do, wants it to go on.
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN and (number == signal.SIGHUP or launcher.may_have_others()):
            yield number

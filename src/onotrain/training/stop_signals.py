"""Signals that ask a run to save and stop: TERM, USR1, USR2, HUP of a lost terminal, INT that a launcher passes on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from onotrain.parallel import launcher


class StopRequest:
    """Whether this rank was asked to stop; the statistics of a step tell the others."""

    def __init__(self) -> None:
        self.signal: str | None = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number).name

    @classmethod
    @contextmanager
    def listening(cls) -> Iterator[StopRequest]:
        """Catch the signals within the block; outside the main thread, where Python allows no handlers, do nothing."""
        request = cls()
        if threading.current_thread() is not threading.main_thread():
            yield request
            return
        previous = {number: signal.signal(number, request._handle) for number in _wanted()}
        try:
            yield request
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def _wanted() -> Iterator[signal.Signals]:
    yield from (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    # Whoever starts a run with these ignored, as `nohup` and the `&` of a script do, wants it to go on.
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN and (number == signal.SIGHUP or launcher.may_have_others()):
            yield number

"""What a run leaves for a server, sent by a thread: a server that is slow or down holds no training up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from threading import Condition, Thread
from typing import Generic, TypeVar

_T = TypeVar("_T")

#: Items that wait at most; the oldest ones are given up for newer ones.
_MOST_WAITING = 10_000
#: Items that are sent together at most.
_MOST_TOGETHER = 50
#: For how long items are gathered before they are sent, and the longest pause after a failure [s].
_GATHER_S = 1.0
_LONGEST_PAUSE_S = 60.0


class Sender(Generic[_T]):
    """Sends items in their order, and those that could not be sent again later.

    Parameters
    ----------
    send
        Sends items; first called with none, to begin.  Called on the thread alone; raises what goes wrong.
    """

    def __init__(self, send: Callable[[Sequence[_T]], None]) -> None:
        self._send = send
        self._changed = Condition()
        self._waiting: deque[_T] = deque()
        #: Items that are being sent, and that were given up.
        self._under_way = self._given_up = 0
        self._finish: Callable[[], None] | None = None
        self._problem: str | None = None
        self._thread = Thread(target=self._run, name="sender", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str | None:
        """Why the last attempt to send has failed; None if it has not."""
        with self._changed:
            return self._problem

    def put(self, item: _T) -> None:
        """Leave an item; returns at once."""
        with self._changed:
            if len(self._waiting) == _MOST_WAITING:
                self._waiting.popleft()
                self._given_up += 1
            self._waiting.append(item)
            self._changed.notify()

    def close(self, finish: Callable[[], None], seconds: float) -> tuple[int, str | None]:
        """Send what is left, call `finish` on the thread, and wait for that, but no longer than some seconds.

        Returns
        -------
        tuple
            Number of items that have not been sent, and what went wrong; 0 and None if nothing did.
        """
        with self._changed:
            self._finish = finish
            self._changed.notify()
        self._thread.join(seconds)
        with self._changed:
            late = f"no answer within {seconds:g} s" if self._thread.is_alive() else None
            return self._given_up + self._under_way + len(self._waiting), self._problem or late

    def _run(self) -> None:
        pause, begun = 0.0, False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._finish is not None, pause)
                while begun and not self._waiting and self._finish is None:
                    self._changed.wait()
                finish = self._finish
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_TOGETHER))]
                self._under_way = len(batch)
            try:
                self._send(batch)
                begun = True
                with self._changed:
                    self._under_way, self._problem = 0, None
                    more = bool(self._waiting)
                if finish is not None and not more:
                    finish()
                    return
                pause = 0.0 if len(batch) == _MOST_TOGETHER else _GATHER_S
            except Exception as error:  # noqa: BLE001 - a thread has nobody to raise it to
                self._put_back(batch[: self._under_way], error)  # none of them if `finish` has failed
                if finish is not None:
                    return
                pause = min(max(2 * pause, _GATHER_S), _LONGEST_PAUSE_S)

    def _put_back(self, batch: Sequence[_T], error: Exception) -> None:
        with self._changed:
            self._waiting.extendleft(reversed(batch))
            self._under_way = 0
            self._problem = _reason(error)


def _reason(error: BaseException) -> str:
    """Return in a line why something has failed: what the system says, if libraries have wrapped that."""
    inner = error
    while (cause := inner.__cause__ or inner.__context__) is not None:
        inner = cause
    if isinstance(inner, OSError):
        return inner.strerror or str(inner)
    return (str(error) or type(error).__name__).splitlines()[0]

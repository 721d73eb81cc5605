"""What a parameter server replies to its workers: the parameters, or what brings theirs nearer to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from onotrain.strategies.codecs import Codec


class Replies(Protocol):
    """Both kinds of replies."""

    @property
    def buffers(self) -> Sequence[np.ndarray]:
        """What is sent to each worker; none may be written while it is in flight."""
        ...

    @property
    def in_place(self) -> bool:
        """Whether what is sent are the parameters themselves, which must not change meanwhile."""
        ...

    def make(self, workers: Sequence[int]) -> None:
        """Make the replies to these workers."""
        ...

    def known(self, worker: int) -> np.ndarray:
        """Return the parameters that a worker has, once it has taken its last reply."""
        ...

    def synchronized(self) -> None:
        """Note that all workers have the parameters of now."""
        ...


class ParameterReplies:
    """The parameters themselves.

    Parameters
    ----------
    parameters
        The server's range.
    workers
        Their number.
    copies
        Whether each worker is sent a copy.  A long message ends when its receiver looks for it: where workers compute
        meanwhile, a server that sends its own parameters would wait for the slowest of them before every update.
    """

    def __init__(self, parameters: np.ndarray, workers: int, *, copies: bool) -> None:
        self._parameters, self.in_place = parameters, not copies
        self.buffers: Sequence[np.ndarray] = [parameters.copy() if copies else parameters for _ in range(workers)]

    def make(self, workers: Sequence[int]) -> None:
        """Copy them, if they are sent as copies."""
        if not self.in_place:
            for worker in workers:
                self.buffers[worker][:] = self._parameters

    def known(self, worker: int) -> np.ndarray:
        """Return the parameters of now."""
        return self._parameters

    def synchronized(self) -> None:
        """Do nothing."""


class DeltaReplies:
    """A codec's message of the difference to what the worker has.

    No residual is kept: what a message leaves out is in the next difference.

    Parameters
    ----------
    parameters
        The server's range.
    workers
        Their number.
    codec
        Returns a codec of the range.
    all_alike
        Whether all workers get the same replies, which are then made once.
    """

    def __init__(self, parameters: np.ndarray, workers: int, codec: Callable[[], Codec], *, all_alike: bool) -> None:
        self._parameters, self._all_alike, self.in_place = parameters, all_alike, False
        streams = 1 if all_alike else workers
        self._codecs = [codec() for _ in range(streams)]
        messages = [np.empty(each.nbytes, np.uint8) for each in self._codecs]
        self.buffers: Sequence[np.ndarray] = messages * workers if all_alike else messages
        self._known = np.zeros((streams, len(parameters)), parameters.dtype)
        self._delta = np.empty_like(parameters)

    def make(self, workers: Sequence[int]) -> None:
        """Encode them; where all are alike, all workers must be replied to at once."""
        for stream in [0] if self._all_alike else workers:
            known, codec, message = self._known[stream], self._codecs[stream], self.buffers[stream]
            with np.errstate(over="ignore", invalid="ignore"):
                np.subtract(self._parameters, known, out=self._delta)
                codec.encode(self._delta, message)
                add_message(codec, message, self._delta, known)

    def known(self, worker: int) -> np.ndarray:
        """Return the sum of all messages since the last synchronisation point, on what was known then."""
        return self._known[0 if self._all_alike else worker]

    def synchronized(self) -> None:
        """Begin anew from the parameters of now."""
        self._known[:] = self._parameters
        for codec in self._codecs:
            codec.reset()


def add_message(codec: Codec, message: np.ndarray, scratch: np.ndarray, parameters: np.ndarray) -> None:
    """Add what a message decodes to to the parameters, as server and worker do, to the same bits."""
    codec.decode(message, scratch)
    with np.errstate(over="ignore", invalid="ignore"):
        parameters += scratch

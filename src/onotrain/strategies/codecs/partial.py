"""A codec of all but the averaged tensors, which lie at the end of a range and are sent as they are.

A step takes a part of an averaged tensor's gradient away from it, whatever the learning rate.  What a codec holds back
and sends later, as the sum of many steps, would carry the tensor beyond the statistic that it is to follow.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onotrain.strategies.codecs.base import Codec
from onotrain.strategies.codecs.vector_range import Part

#: Messages of other codecs begin at a multiple of this.
_BOUNDARY_BYTES = 8


class Partial(Codec):
    """The message is the values that are sent as they are, and then that of another codec.

    Parameters
    ----------
    part
        The range.
    codec
        Of ``part.coded``, with which the range begins.
    """

    def __init__(self, part: Part, codec: Codec) -> None:
        self._codec, self._cut = codec, codec.part.size
        self._plain_bytes = part.averaged * part.dtype.itemsize
        self._begin = -(-self._plain_bytes // _BOUNDARY_BYTES) * _BOUNDARY_BYTES
        super().__init__(part, self._begin + codec.nbytes)

    def state(self) -> dict[str, np.ndarray]:
        """Return that of the other codec."""
        return self._codec.state()

    def reset(self) -> None:
        """Let the other codec forget what was sent."""
        self._codec.reset()

    def _encode(self, values: np.ndarray, out: np.ndarray) -> None:
        out[: self._plain_bytes].view(self.part.dtype)[:] = values[self._cut :]
        self._codec.encode(values[: self._cut], out[self._begin :])

    def _decode(self, message: np.ndarray, out: np.ndarray) -> None:
        out[self._cut :] = message[: self._plain_bytes].view(self.part.dtype)
        self._codec.decode(message[self._begin :], out[: self._cut])


def but_averaged(part: Part, codec: Callable[[Part], Codec]) -> Codec:
    """Return a codec of a range that leaves averaged tensors as they are."""
    return Partial(part, codec(part.coded)) if part.averaged else codec(part)

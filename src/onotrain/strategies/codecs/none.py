"""No codec: the message is the vector."""

from __future__ import annotations

import numpy as np

from onotrain.strategies.codecs.base import Codec
from onotrain.strategies.codecs.vector_range import Part


class Plain(Codec):
    """Sends the bytes of the vector."""

    def __init__(self, part: Part) -> None:
        super().__init__(part, part.size * part.dtype.itemsize)

    def _encode(self, values: np.ndarray, out: np.ndarray) -> None:
        out[:] = values.view(np.uint8)

    def _decode(self, message: np.ndarray, out: np.ndarray) -> None:
        out.view(np.uint8)[:] = message

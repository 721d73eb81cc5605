"""One byte for each value, and a scale for each block of values."""

from __future__ import annotations

import numpy as np

from onotrain._kernels.reference_codecs import GROUP
from onotrain.strategies.codecs.base import Codec
from onotrain.strategies.codecs.vector_range import Part


class Int8(Codec):
    """Whole multiples of ``scale = max|v| / 127`` of each group of 256 values: an error of at most half a scale.

    The message is the scales, float32, and then the multiples.  A group with a value that is not finite decodes to
    NaN throughout; one whose scale would be subnormal (all of it below ``2^-119``) to zeros.
    """

    def __init__(self, part: Part) -> None:
        self._groups = -(-part.size // GROUP)
        super().__init__(part, 4 * self._groups + part.size)

    def _encode(self, values: np.ndarray, out: np.ndarray) -> None:
        self.kernels.encode_int8(values, *self._split(out))

    def _decode(self, message: np.ndarray, out: np.ndarray) -> None:
        self.kernels.decode_int8(*self._split(message), out)

    def _split(self, message: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return scales and multiples as views of a message."""
        cut = 4 * self._groups
        return message[:cut].view(np.float32), message[cut:].view(np.int8)

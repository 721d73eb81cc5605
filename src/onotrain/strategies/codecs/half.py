"""Two bytes for each value."""

from __future__ import annotations

import math

import numpy as np

from onotrain.strategies.codecs.base import Codec
from onotrain.strategies.codecs.vector_range import Part

#: In front of the values: what they are to be multiplied by, a float64.
HEADER_BYTES = 8
#: The largest value of a message is brought below 2 to this power: rounding up cannot overflow (65504 is the largest).
_TOP_EXPONENT = 15


class Float16(Codec):
    """IEEE half precision, scaled by a power of two for each message.

    With ``s`` the power of two that brings the largest magnitude into ``[2^14, 2^15)``: values down to ``2^-28`` of the
    largest have a relative error of at most ``2^-11``, smaller ones an error of at most ``2^-39`` of the largest.
    Infinities and NaN stay what they are, and the scale is that of the finite values.  Only of numbers next to the
    largest of the dtype the rounded value is infinite.
    """

    def __init__(self, part: Part) -> None:
        super().__init__(part, HEADER_BYTES + 2 * part.size)
        #: Of the scale, so that its inverse is a normal number too.
        self._largest_exponent = -int(np.finfo(part.dtype).minexp)

    def _encode(self, values: np.ndarray, out: np.ndarray) -> None:
        exponent = _TOP_EXPONENT - math.frexp(self.kernels.largest_magnitude(values))[1]
        scale = 2.0 ** min(exponent, self._largest_exponent)
        out[:HEADER_BYTES].view(np.float64)[0] = 1.0 / scale
        self.kernels.encode_half(values, scale, out[HEADER_BYTES:].view(np.uint16))

    def _decode(self, message: np.ndarray, out: np.ndarray) -> None:
        scale = float(message[:HEADER_BYTES].view(np.float64)[0])
        self.kernels.decode_half(message[HEADER_BYTES:].view(np.uint16), scale, out)


class BFloat16(Codec):
    """The upper half of a float32, rounded to the nearest, ties to even: a relative error of at most ``2^-8``.

    float64 values are rounded to float32 first, which adds ``2^-24``, and share its range.  A NaN stays a NaN, if not
    the same one.
    """

    def __init__(self, part: Part) -> None:
        super().__init__(part, 2 * part.size)

    def _encode(self, values: np.ndarray, out: np.ndarray) -> None:
        self.kernels.encode_bfloat(values, out.view(np.uint16))

    def _decode(self, message: np.ndarray, out: np.ndarray) -> None:
        self.kernels.decode_bfloat(message.view(np.uint16), out)

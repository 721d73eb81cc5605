"""Two bytes for each value."""

from __future__ import annotations

import math

import numpy as np

from onotrain.strategies.codecs.base import BLOCK, Codec, blocks, finite
from onotrain.strategies.codecs.part import Part

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
        self._scaled = np.empty(min(BLOCK, part.size), part.dtype)
        #: Of the scale, so that its inverse is a normal number too.
        self._largest_exponent = -int(np.finfo(part.dtype).minexp)

    def _encode(self, values: np.ndarray, out: np.ndarray) -> None:
        exponent = _TOP_EXPONENT - math.frexp(_largest(values))[1]
        scale = 2.0 ** min(exponent, self._largest_exponent)
        out[:HEADER_BYTES].view(np.float64)[0] = 1.0 / scale
        halves = out[HEADER_BYTES:].view(np.float16)
        for block in blocks(self.part.size):
            scaled = self._scaled[: block.stop - block.start]
            np.multiply(values[block], scale, out=scaled)
            np.copyto(halves[block], scaled, casting="same_kind")

    def _decode(self, message: np.ndarray, out: np.ndarray) -> None:
        unscale = float(message[:HEADER_BYTES].view(np.float64)[0])
        halves = message[HEADER_BYTES:].view(np.float16)
        for block in blocks(self.part.size):
            np.copyto(out[block], halves[block])
            np.multiply(out[block], unscale, out=out[block])


class BFloat16(Codec):
    """The upper half of a float32, rounded to the nearest, ties to even: a relative error of at most ``2^-8``.

    float64 values are rounded to float32 first, which adds ``2^-24``, and share its range.  A NaN stays a NaN, if not
    the same one.
    """

    #: A quiet NaN.
    _NAN = 0x7FC0

    def __init__(self, part: Part) -> None:
        super().__init__(part, 2 * part.size)
        length = min(BLOCK, part.size)
        self._bits = np.empty(length, np.uint32)
        self._single = np.empty(length, np.float32) if part.dtype != np.float32 else None

    def _encode(self, values: np.ndarray, out: np.ndarray) -> None:
        upper = out.view(np.uint16)
        for block in blocks(self.part.size):
            single = values[block]
            if self._single is not None:
                single = self._single[: len(single)]
                np.copyto(single, values[block], casting="same_kind")
            bits, rounded = single.view(np.uint32), self._bits[: len(single)]
            # Half a unit of the last place that is kept, less one if that place is even, carries where it should.
            np.right_shift(bits, 16, out=rounded)
            np.bitwise_and(rounded, 1, out=rounded)
            np.add(rounded, 0x7FFF, out=rounded)
            np.add(rounded, bits, out=rounded)
            np.right_shift(rounded, 16, out=rounded)
            np.copyto(upper[block], rounded, casting="same_kind")
            if not finite(single):
                upper[block][np.isnan(single)] = self._NAN

    def _decode(self, message: np.ndarray, out: np.ndarray) -> None:
        upper = message.view(np.uint16)
        for block in blocks(self.part.size):
            single = out[block] if self._single is None else self._single[: block.stop - block.start]
            bits = single.view(np.uint32)
            np.copyto(bits, upper[block])
            np.left_shift(bits, 16, out=bits)
            if self._single is not None:
                np.copyto(out[block], single)


def _largest(values: np.ndarray) -> float:
    """Return the largest magnitude of the finite values, 0 if there are none."""
    if finite(values):
        return max(float(values.max()), -float(values.min()))
    return float(np.abs(values).max(where=np.isfinite(values), initial=0.0))

"""One byte for each value, and a scale for each block of values."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onotrain.strategies.codecs.base import BLOCK, Codec
from onotrain.strategies.codecs.part import Part

#: Values that share a scale.
GROUP = 256
_TOP = 127
_SMALLEST_SCALE = np.finfo(np.float32).tiny


class Int8(Codec):
    """Whole multiples of ``scale = max|v| / 127`` of each group of 256 values: an error of at most half a scale.

    The message is the scales, float32, and then the multiples.  A group with a value that is not finite decodes to
    NaN throughout; one whose scale would be subnormal (all of it below ``2^-119``) to zeros.
    """

    def __init__(self, part: Part) -> None:
        self._groups = -(-part.size // GROUP)
        super().__init__(part, 4 * self._groups + part.size)
        length = min(BLOCK, part.size)
        self._multiples = np.empty(length, part.dtype)
        self._largest = np.empty(-(-length // GROUP), part.dtype)
        #: Of a range: its values, its groups, and the values as a matrix with one group in each row.
        self._pieces = list(_pieces(part.size))

    def _encode(self, values: np.ndarray, out: np.ndarray) -> None:
        all_scales, integers = self._split(out)
        for elements, groups, shape in self._pieces:
            rows = values[elements].reshape(shape)
            multiples = self._multiples[: rows.size].reshape(shape)
            largest, scales = self._largest[: len(rows)], all_scales[groups]
            np.abs(rows, out=multiples)
            np.maximum.reduce(multiples, axis=1, out=largest)
            np.divide(largest, _TOP, out=scales, casting="same_kind")
            scales[scales < _SMALLEST_SCALE] = 0.0
            # In the dtype of the values: of a less exact inverse the rest would not be exact (feedback.py).
            inverse = np.where(scales > 0.0, np.reciprocal(scales, dtype=rows.dtype), 0.0)
            np.multiply(rows, inverse[:, np.newaxis], out=multiples)
            np.rint(multiples, out=multiples)
            diverged = ~np.isfinite(scales)
            if diverged.any():
                scales[diverged] = np.nan
                multiples[diverged] = 0.0  # which integer stands for a NaN differs between CPUs
            np.copyto(integers[elements].reshape(shape), multiples, casting="unsafe")

    def _decode(self, message: np.ndarray, out: np.ndarray) -> None:
        scales, integers = self._split(message)
        for elements, groups, shape in self._pieces:
            rows = out[elements].reshape(shape)
            np.copyto(rows, integers[elements].reshape(shape))
            np.multiply(rows, scales[groups, np.newaxis], out=rows)

    def _split(self, message: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return scales and multiples as views of a message."""
        cut = 4 * self._groups
        return message[:cut].view(np.float32), message[cut:].view(np.int8)


def _pieces(size: int) -> Iterator[tuple[slice, slice, tuple[int, int]]]:
    """Cut a range into pieces of whole groups, and a last one of what is left."""
    whole = size // GROUP * GROUP
    for begin in range(0, whole, BLOCK):
        end = min(begin + BLOCK, whole)
        yield slice(begin, end), slice(begin // GROUP, end // GROUP), ((end - begin) // GROUP, GROUP)
    if whole < size:
        yield slice(whole, size), slice(whole // GROUP, whole // GROUP + 1), (1, size - whole)

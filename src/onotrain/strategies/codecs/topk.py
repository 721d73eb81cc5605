"""The largest values with their places; the others count as zero."""

from __future__ import annotations

import numpy as np

from onotrain.errors import ConfigError
from onotrain.strategies.codecs.base import Codec
from onotrain.strategies.codecs.vector_range import Part

#: Of the place of a value, a uint32.
_INDEX_BYTES = 4


class TopK(Codec):
    """The ``k = max(1, round(fraction n))`` largest of ``n`` values by magnitude, ties by the lower place, bit by bit.

    A NaN counts as larger than anything.  The message is the values, and then their places in rising order.

    Parameters
    ----------
    part
        The range.
    fraction
        Of the values that are sent, in ``(0, 1]``.

    Raises
    ------
    ConfigError
        There are places beyond 32 bits.
    """

    def __init__(self, part: Part, fraction: float) -> None:
        self._count = min(max(1, round(fraction * part.size)), part.size)
        super().__init__(part, self._count * (part.dtype.itemsize + _INDEX_BYTES))
        if part.size >= 1 << 32:
            raise ConfigError(
                f"topk: got a range of {part.size} values, expected less than {1 << 32}",
                hint="cut the vector into smaller ranges, or choose another codec",
            )
        keys = np.dtype(f"u{part.dtype.itemsize}")
        #: Magnitudes as whole numbers, which are in the same order.
        self._keys, self._sorted = np.empty(part.size, keys), np.empty(part.size, keys)
        self._all_but_sign = np.iinfo(keys).max >> 1
        self._nan = int(np.array(np.inf, part.dtype).view(keys)) + 1
        self._chosen = np.empty(part.size, bool)

    def _encode(self, values: np.ndarray, out: np.ndarray) -> None:
        keys, chosen, first = self._keys, self._chosen, self.part.size - self._count
        np.bitwise_and(values.view(keys.dtype), self._all_but_sign, out=keys)
        np.minimum(keys, self._nan, out=keys)  # all NaN are alike
        np.copyto(self._sorted, keys)
        self._sorted.partition(first)
        bound = self._sorted[first]
        np.greater(keys, bound, out=chosen)
        larger = np.count_nonzero(chosen)
        chosen[np.flatnonzero(keys == bound)[: self._count - larger]] = True
        sent, places = self._split(out)
        places[:] = np.flatnonzero(chosen)
        np.take(values, places, out=sent)

    def _decode(self, message: np.ndarray, out: np.ndarray) -> None:
        sent, places = self._split(message)
        out.fill(0.0)
        out[places] = sent

    def _split(self, message: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return values and places as views of a message."""
        cut = self._count * self.part.dtype.itemsize
        return message[:cut].view(self.part.dtype), message[cut:].view(np.uint32)

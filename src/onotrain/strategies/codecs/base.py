"""What a strategy may rely on in every codec, and the two ways to sum with one.

A codec turns a range of the flat vector into a message of a fixed number of bytes and back.

**Gather, decode, add** works with every codec: a server that sums the pushes of its workers, an owner that sums its
peers' parts of a gradient::

    sender      codec.encode(values, message)                       message: codec.nbytes bytes
    receiver    codec.decode(message, values) for each message      and adds them in the order of the ranks
                publish(codec, out, message)                        what is sent on is what the receiver goes on with

**All-reduce of numbers** is for codecs whose messages can be added before they are decoded, `Compressor`::

    every rank  numbers = codec.begin(values)
                while numbers is not None:
                    all-reduce `numbers` in place, to the same bits on every rank
                    numbers = codec.advance()
                codec.finish(out)                                   the sum's approximation, bit-equal on every rank

Rules for both.  Everything is deterministic.  `decode` and `finish` make of the same bytes the same bits on every CPU,
since replicas are kept equal by them.  Values that are not finite stay visible: what a message with such values decodes
to is not finite there either.  Messages are native to the machine: all ranks have one order of bytes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from onotrain import _kernels
from onotrain.strategies.codecs.vector_range import Part


class Codec(ABC):
    """A codec of one range of the flat vector; it may remember what it sent, so each stream of messages has its own.

    Parameters
    ----------
    part
        The range.
    nbytes
        Size of an encoded message; that of an empty range is 0 in any case.
    """

    def __init__(self, part: Part, nbytes: int) -> None:
        self.part = part
        self.kernels = _kernels.load(part.dtype)
        #: Size of every message.
        self.nbytes = nbytes if part.size > 0 else 0

    @property
    def raw_bytes(self) -> int:
        """Bytes that a message stands for: those of the range itself."""
        return self.part.size * self.part.dtype.itemsize

    @property
    def sent_bytes(self) -> int:
        """Bytes that a rank hands over for sending: of a message, or of all rounds of a `Compressor`."""
        return self.nbytes

    def encode(self, values: np.ndarray, out: np.ndarray) -> None:
        """Write the message of `values`.

        Parameters
        ----------
        values
            The range: contiguous, of its length and dtype.  It is not changed.
        out
            uint8 ``(nbytes,)``, contiguous.

        Raises
        ------
        ValueError
            A wrong length, dtype or layout.
        """
        self._check(values, out)
        if self.nbytes:
            with np.errstate(all="ignore"):
                self._encode(values, out)

    def decode(self, message: np.ndarray, out: np.ndarray) -> None:
        """Write to `out` what `message` stands for; parameters and errors as of `encode`."""
        self._check(out, message)
        if self.nbytes:
            with np.errstate(all="ignore"):
                self._decode(message, out)

    def state(self) -> dict[str, np.ndarray]:
        """Return the vectors that the next message depends on, by name: to be saved, and to be written to."""
        return {}

    def reset(self) -> None:
        """Forget what was sent, as at a switch of the strategy."""
        return

    @abstractmethod
    def _encode(self, values: np.ndarray, out: np.ndarray) -> None:
        """Encode at least one value."""

    @abstractmethod
    def _decode(self, message: np.ndarray, out: np.ndarray) -> None:
        """Decode at least one value."""

    def _check(self, values: np.ndarray, message: np.ndarray) -> None:
        self._check_values(values)
        _expect("message", message, self.nbytes, np.dtype(np.uint8))

    def _check_values(self, values: np.ndarray) -> None:
        _expect("values", values, self.part.size, self.part.dtype)


class Compressor(Codec):
    """A codec whose messages can be summed as numbers, in rounds; the module's text has the loop.

    *Collective*: the same range, options and seed on all ranks that sum.
    """

    #: What is summed in each round: made once, so that messages can be set up ahead; `begin` and `advance` return them.
    rounds: tuple[np.ndarray, ...]

    @abstractmethod
    def begin(self, values: np.ndarray) -> np.ndarray | None:
        """Return this rank's part of the first round; None if there is nothing to sum.

        Parameters
        ----------
        values
            The range, which must stay as it is until `finish`.
        """

    @abstractmethod
    def advance(self) -> np.ndarray | None:
        """Take what was summed, and return this rank's part of the next round; None after the last one."""

    @abstractmethod
    def finish(self, out: np.ndarray) -> None:
        """Write the approximation of the sum of all ranks' values to `out`."""

    @abstractmethod
    def contribution(self, out: np.ndarray) -> None:
        """Write to `out` this rank's part of what `finish` gives; the ranks' parts sum to it, up to rounding.

        To be called after the last round.
        """


def _expect(what: str, array: np.ndarray, size: int, dtype: np.dtype) -> None:
    if array.shape != (size,) or array.dtype != dtype or not array.flags.c_contiguous:
        gaps = "" if array.flags.c_contiguous else " with gaps"
        raise ValueError(f"{what}: got {array.dtype} {array.shape}{gaps}, expected contiguous {dtype} ({size},)")


def publish(codec: Codec, values: np.ndarray, message: np.ndarray) -> None:
    """Encode `values`, and replace them by what the receivers will decode.

    The owner of a sum that goes on with its own unrounded values drifts away from everyone it sends them to.
    """
    codec.encode(values, message)
    codec.decode(message, values)

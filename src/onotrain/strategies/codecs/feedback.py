"""Error feedback: what a message lost is added to the values of the next one.

With g what is to be sent, C what the receivers make of it, and e the residual, zero at first::

    p = g + e
    send C(p)
    e = p - C(p)

so that all messages and the last residual sum to all that was to be sent.

In floating point, ``C(p) + e`` is exactly p for none, fp16, bf16, int8 and topk: C(p) is 0, p, or within a factor of
two of p, where subtraction does not round (Sterbenz).  For int8: a p below half a scale is below it by at least a
rounding unit u, and the inverse of the scale has a relative error of at most u, so their product is at most a half,
which rounds to 0.  For powersgd the difference is rounded, as any is.  ``g + e`` is rounded like every sum, to at most
half a unit in the last place of p.

A value that is not finite leaves no residual: where e would not be finite it becomes 0.  What else had been kept there
is lost; a step with such values is a diverged one, which is refused, and the next messages are not poisoned by it.

References
----------
Seide et al., Interspeech 2014; Karimireddy et al., arXiv 1901.09847.
"""

from __future__ import annotations

import numpy as np

from onotrain.strategies.codecs.base import Codec, Compressor


class Feedback(Codec):
    """A codec with a residual.

    Parameters
    ----------
    codec
        What it is put around, which belongs to it from then on.
    """

    def __init__(self, codec: Codec) -> None:
        super().__init__(codec.part, codec.nbytes)
        self.codec = codec
        #: e, of the range's length and dtype.
        self.residual = np.zeros(codec.part.size, codec.part.dtype)
        self._wanted = np.empty_like(self.residual)

    def state(self) -> dict[str, np.ndarray]:
        """Return the residual, which is this rank's own, and what the codec itself remembers."""
        return {"residual": self.residual, **self.codec.state()}

    def reset(self) -> None:
        """Drop the residual, and all that the codec remembers."""
        self.residual.fill(0.0)
        self.codec.reset()

    def _encode(self, values: np.ndarray, out: np.ndarray) -> None:
        np.add(values, self.residual, out=self._wanted)
        self.codec.encode(self._wanted, out)
        self.codec.decode(out, self.residual)
        self.kernels.keep_rest(self._wanted, self.residual)

    def _decode(self, message: np.ndarray, out: np.ndarray) -> None:
        self.codec.decode(message, out)


class SummedFeedback(Feedback, Compressor):
    """The same for codecs that are summed in rounds; each rank keeps what its own contribution to the sum lost."""

    def __init__(self, codec: Compressor) -> None:
        super().__init__(codec)
        self.codec: Compressor = codec
        self.rounds = codec.rounds

    def begin(self, values: np.ndarray) -> np.ndarray | None:
        """Add the residual, and begin."""
        with np.errstate(all="ignore"):
            np.add(values, self.residual, out=self._wanted)
        return self.codec.begin(self._wanted)

    def advance(self) -> np.ndarray | None:
        """Go on."""
        return self.codec.advance()

    def finish(self, out: np.ndarray) -> None:
        """Write the sum, and keep what this rank's part of it lost."""
        self.codec.contribution(self.residual)
        self.kernels.keep_rest(self._wanted, self.residual)
        self.codec.finish(out)

    def contribution(self, out: np.ndarray) -> None:
        """Write what this rank has sent, residual included."""
        self.codec.contribution(out)


def with_feedback(codec: Codec) -> Feedback:
    """Return the codec with a residual, which is summed in rounds if the codec is."""
    return SummedFeedback(codec) if isinstance(codec, Compressor) else Feedback(codec)

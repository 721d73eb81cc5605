"""Sums over ranks whose messages are a codec's; they go on while a rank computes, as those of numbers do.

Two forms, after what the codec can do (`onotrain.strategies.codecs.base`).  Both end with the same bits on all ranks,
and keep what their messages lost: each rank has a residual for every stream of messages that it sends.  For a
checkpoint residuals are summed, and every stream goes on with an equal share: the sum of all that is still to be sent
is what it was, a checkpoint needs one vector however many ranks there are, and a run that is resumed with another
number of them loses nothing (an asynchronous server's workers then send what is left at another share of the rate).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from onotrain.parallel.collectives import all_reduce
from onotrain.parallel.exchange import Exchange, Sum, bytes_of_sum, cut
from onotrain.parallel.world import Comm
from onotrain.strategies.codecs import Feedback, Part, SummedFeedback, build, publish
from onotrain.strategies.context import Context


class Residuals:
    """The residuals of some streams, as one vector.

    Parameters
    ----------
    peers
        The ranks that send.
    vector
        What the residuals of all ranks sum to, after `share`; the caller's, zero at first.
    streams
        This rank's, each with its range of the vector.
    senders
        Streams that every range has on all ranks together.
    """

    def __init__(
        self, peers: Comm, vector: np.ndarray, streams: Sequence[tuple[slice, Feedback]], senders: int
    ) -> None:
        self._peers, self._vector, self._streams, self._senders = peers, vector, streams, senders

    def share(self) -> None:
        """Sum the residuals of all ranks, and give every stream its share.  *Collective*."""
        self._vector.fill(0.0)
        for part, codec in self._streams:
            self._vector[part] += codec.residual
        all_reduce(self._peers, self._vector)
        self.take()

    def take(self) -> None:
        """Begin every stream anew with its share of the vector."""
        for part, codec in self._streams:
            codec.reset()
            np.divide(self._vector[part], self._senders, out=codec.residual)


class GatheredSum(Exchange):
    """A sum of decoded messages, in place.

    ::

        every rank  sends each owner of a part C(its own values of the part)
        owner       adds what it gets to its own values, in the order of the ranks; sends C(sum) to all, and goes on
                    with what they decode

    Of two ranks each sends all of its values, and both add what the two messages decode to.

    Parameters
    ----------
    peers
        At least two ranks.
    values
        Same dtype and length on all; not to be touched between `start` and the end.
    residual
        Of the same length: see `Residuals`.
    codec
        Returns the codec of a range of the values.
    tag
        As of `Exchange`.
    """

    def __init__(
        self, peers: Comm, values: np.ndarray, residual: np.ndarray, codec: Callable[[slice], Feedback], tag: int
    ) -> None:
        ranks, self._me = peers.size, peers.rank
        self._others = [rank for rank in range(ranks) if rank != self._me]
        self._values = values
        self._parts = cut(len(values), ranks)
        self._own = values[self._parts[self._me]]
        self._publishes = ranks > 2
        #: To each other rank: of this rank's values; this rank's own: of the sum.  Of two ranks, one for everything.
        self._codecs = [codec(part) for part in self._parts] if self._publishes else [codec(self._parts[0])] * 2
        self._messages = [np.empty(codec.nbytes, np.uint8) for codec in self._codecs]
        nbytes = self._codecs[self._me].nbytes
        self._received = {rank: np.empty(nbytes, np.uint8) for rank in self._others}
        made = [np.empty(codec.nbytes, np.uint8) for codec in self._codecs] if self._publishes else None
        self._made = made or []
        self._total, self._row = np.empty_like(self._own), np.empty_like(self._own)
        streams = list(zip(self._parts, self._codecs, strict=True))
        self.residuals = Residuals(peers, residual, streams if self._publishes else streams[:1], ranks)
        self.raw_bytes = bytes_of_sum(values, peers)
        super().__init__(peers, tag, self._messages, self._received, made)

    def _prepare(self) -> None:
        for rank in self._others:
            values = self._values[self._parts[rank]]
            self._codecs[rank].encode(values, self._messages[rank])
            if not self._publishes:
                self._codecs[rank].decode(self._messages[rank], values)

    @np.errstate(over="ignore", invalid="ignore")
    def _combine(self) -> None:
        codec = self._codecs[self._me]
        for rank in range(len(self._parts)):
            row = self._own
            if rank != self._me:
                row = self._row
                codec.decode(self._received[rank], row)
            if rank == 0:
                self._total[:] = row
            else:
                self._total += row
        self._own[:] = self._total
        if self._publishes:
            publish(codec, self._own, self._made[self._me])

    def _complete(self) -> None:
        if self._publishes:
            for rank in self._others:
                self._codecs[rank].decode(self._made[rank], self._values[self._parts[rank]])


class RoundsSum:
    """A sum of numbers that a codec makes of the values, in place: `onotrain.strategies.codecs.Compressor`.

    Parameters
    ----------
    peers, values, residual, tag
        As of `GatheredSum`; each round takes two tags.
    codec
        Of the values.
    """

    def __init__(self, peers: Comm, values: np.ndarray, residual: np.ndarray, codec: SummedFeedback, tag: int) -> None:
        self._values, self._codec = values, codec
        self._rounds = [Sum(peers, numbers, tag + 2 * index) for index, numbers in enumerate(codec.rounds)]
        self._left: list[Sum] = []
        self.residuals = Residuals(peers, residual, [(slice(0, len(values)), codec)], peers.size)
        self.sent_bytes = sum(numbers.sent_bytes for numbers in self._rounds)
        self.raw_bytes = bytes_of_sum(values, peers)

    @property
    def flying(self) -> bool:
        """Whether it is started and not at its end."""
        return bool(self._left)

    def start(self) -> None:
        """Begin."""
        self._codec.begin(self._values)
        self._left = list(self._rounds)
        self._left[0].start()

    def advance(self) -> None:
        """Do what can be done without waiting."""
        if self._left:
            self._left[0].advance()
            if not self._left[0].flying:
                self._next()

    def collect(self) -> None:
        """Wait for the first messages of the round under way."""
        if self._left:
            self._left[0].collect()

    def finish(self) -> None:
        """Wait for the end."""
        while self._left:
            self._left[0].finish()
            self._next()

    def _next(self) -> None:
        self._left = self._left[1:]
        self._codec.advance()
        if self._left:
            self._left[0].start()
        else:
            self._codec.finish(self._values)

    def close(self) -> None:
        """Give back what MPI holds for it."""
        for numbers in self._rounds:
            numbers.close()


def coded_sum(
    context: Context, peers: Comm, part: slice, values: np.ndarray, residual: np.ndarray, tag: int
) -> GatheredSum | RoundsSum:
    """Return the sum of a range of the flat vector with the run's codec.

    Parameters
    ----------
    context
        With a codec.  *Collective*: the same on all ranks.
    peers
        At least two ranks.
    part
        Which range `values` is.
    values, residual
        Same dtype and length on all ranks; see `GatheredSum`.
    tag
        Messages have this tag and the three after it.
    """

    def codec(chunk: slice) -> Feedback:
        begin = part.start
        return build(
            context.codec, Part.of(context.layout, slice(begin + chunk.start, begin + chunk.stop)), context.seed
        )

    whole = codec(slice(0, len(values)))
    if isinstance(whole, SummedFeedback):
        return RoundsSum(peers, values, residual, whole, tag)
    return GatheredSum(peers, values, residual, codec, tag)

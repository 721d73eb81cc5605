"""The sum of the gradient over nodes, in buckets of layers that leave while the layers in front are computed.

A node sends its gradient once, however many ranks it has::

    for each bucket  barrier of the node: all its ranks have computed these layers
                     rank r sums part r of the bucket over the node's ranks, and begins to exchange it with the ranks r
                     of the other nodes
    at the end       all exchanges are waited for, then the node's barrier: ``gradients[0]`` is the sum over the job

Every element is added up in the order of ranks and nodes: the bits depend neither on the buckets nor on the MPI
library.  Ranks beyond those of the smallest node take part in the barriers only.  With a codec, an exchange is made of
its messages.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from onotrain.memory import check_memory
from onotrain.parallel.exchange import Sum, bytes_of_sum
from onotrain.strategies.allreduce.arena import Arena
from onotrain.strategies.context import Context
from onotrain.strategies.sums.coded_sum import GatheredSum, Residuals, RoundsSum, coded_sum
from onotrain.strategies.telemetry import Telemetry


class _Bucket(NamedTuple):
    """A rank's part of some layers."""

    #: Where the layers begin in the flat vector.
    begin: int
    #: Gradients of the node's ranks, the first of which becomes the sum.
    rows: np.ndarray
    #: None for a rank that owns no part.
    exchange: Sum | GatheredSum | RoundsSum | None


class NodesSum:
    """See the module's text.

    Parameters
    ----------
    context
        Of at least two nodes.  *Collective*: the same on all ranks.
    arena
        Of the node, with its ranks' ``gradients``.
    telemetry
        Counts the seconds and the bytes.
    """

    def __init__(self, context: Context, arena: Arena, telemetry: Telemetry) -> None:
        world, layout = context.world, context.layout
        gradients, residual = arena.arrays["gradients"], arena.residual
        self._barrier, self._clock, self._optimizer = arena.barrier, telemetry.clock, context.optimizer
        self._node, self._link = world.node, context.injection.link(world.shards)
        check_memory(
            self.vectors(coded=residual is not None) * layout.size * layout.dtype.itemsize,
            "gradients from other nodes",
            hint="use a smaller model",
        )
        self._buckets: list[_Bucket] = []
        self._statistics: list[Sum] = []
        self._residuals: list[Residuals] = []
        raw = sent = 0
        for layers in layout.buckets(int(context.options.bucket_mib * 2**20)):
            rows = gradients[:, :0]
            exchange: Sum | GatheredSum | RoundsSum | None = None
            if world.peers is not None:
                part, tag = layout.shard(world.node.rank, world.shards, layers), 4 * len(self._buckets)
                rows = gradients[:, part]
                if residual is None:
                    exchange = Sum(world.peers, rows[0], tag)
                else:
                    exchange = coded = coded_sum(context, world.peers, part, rows[0], residual[part], tag)
                    self._residuals.append(coded.residuals)
                raw += bytes_of_sum(rows[0], world.peers)
                sent += exchange.sent_bytes
            self._buckets.append(_Bucket(layers.start, rows, exchange))
        self._traffic, self._bytes = telemetry.traffic, (raw, sent)
        if world.peers is not None and world.node.rank == 0:
            tag = 4 * len(self._buckets)
            self._statistics = [
                Sum(world.peers, total.values, tag + 2 * slot) for slot, total in enumerate(arena.total_statistics)
            ]
        #: How many buckets are sent in the step at hand.
        self._sent = 0
        #: Exchanges under way, and when they began.
        self._flying: dict[Sum | GatheredSum | RoundsSum, float] = {}
        self._left = 0.0

    @staticmethod
    def vectors(*, coded: bool) -> int:
        """Return how many vectors of the parameters' length the ranks of a node have for what they exchange."""
        return 5 if coded else 1

    @property
    def overlaps(self) -> bool:
        """Whether anything can be sent before the end of the backward pass; the same on all ranks."""
        return len(self._buckets) > 1

    def gradient_ready(self, offset: int) -> None:
        """Send what is complete, now that this rank's gradient is final from `offset` on.

        *Collective*: the same offsets on all ranks.  What is left at the end is sent by `finish`.
        """
        now = self._clock.now()
        if self._flying:
            self._clock.hidden += now - self._left
        if self._buckets[self._sent].begin >= offset > 0:
            self._barrier("gradients of a bucket")
            while self._buckets[self._sent].begin >= offset:
                self._send()
        now = self._clock.now()
        for exchange in self._flying:
            exchange.advance()
        self._landed()
        self._left = self._clock.communicated("messages of buckets", now)

    def finish(self, slot: int) -> None:
        """Send the rest, the statistics `slot` of the node too, and wait until all sums are there for all of the node.

        *Collective*, after a barrier of the node.
        """
        if self._statistics:
            self._start(self._statistics[slot])
        while self._sent < len(self._buckets):
            self._send()
        start = self._clock.now()
        self._link.inject_latency()
        for exchange in self._flying:
            exchange.collect()
        for exchange in self._flying:
            exchange.finish()
        self._landed()
        self._sent = 0
        self._traffic.add(*self._bytes)
        waited = self._clock.communicated("sums of other nodes", start)
        # MPI's own barrier: what other nodes wait for may still need this rank inside a call of MPI.
        self._node.Barrier()
        self._clock.waited("barrier: sums of other nodes", waited)

    def _landed(self) -> None:
        """Forget exchanges that have ended, but for those who watch."""
        for exchange, begun in self._flying.items():
            if not exchange.flying:
                self._clock.message("flight", "bucket", begun, number=-1, nbytes=exchange.sent_bytes)
        self._flying = {exchange: begun for exchange, begun in self._flying.items() if exchange.flying}

    def _send(self) -> None:
        """Sum the next bucket over the node, and begin to exchange it."""
        bucket = self._buckets[self._sent]
        self._sent += 1
        if bucket.exchange is not None:
            self._optimizer.sum(bucket.rows, bucket.rows[0])
            self._link.put(bucket.exchange.sent_bytes, self._clock.now())
            self._start(bucket.exchange)

    def share_residuals(self) -> None:
        """Make of what is left to be sent one vector, whole on every node.  *Collective*."""
        for residuals in self._residuals:
            residuals.share()
        self._node.Barrier()

    def take_residuals(self) -> None:
        """Go on with the vector's values.  *Collective* over the node."""
        for residuals in self._residuals:
            residuals.take()

    def _start(self, exchange: Sum | GatheredSum | RoundsSum) -> None:
        start = self._clock.now()
        exchange.start()
        self._flying[exchange] = start
        self._clock.communicated("messages of buckets", start)

    def close(self) -> None:
        """Free what MPI holds."""
        for exchange in (*self._statistics, *(bucket.exchange for bucket in self._buckets)):
            if exchange is not None:
                exchange.close()

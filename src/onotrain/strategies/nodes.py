"""The sum of the gradient over nodes, in buckets of layers that leave while the layers in front are computed.

A node sends its gradient once, however many ranks it has::

    for each bucket  barrier of the node: all its ranks have computed these layers
                     rank r sums part r of the bucket over the node's ranks, and begins to exchange it with the ranks r
                     of the other nodes
    at the end       all exchanges are waited for, then the node's barrier: ``gradients[0]`` is the sum over the job

Every element is added up in the order of ranks and nodes: the bits depend neither on the buckets nor on the MPI
library.  Ranks beyond those of the smallest node take part in the barriers only.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import NamedTuple

import numpy as np

from onotrain.data.paths import check_memory
from onotrain.parallel.exchange import Exchange
from onotrain.strategies.base import Clock, Job


class _Bucket(NamedTuple):
    """A rank's part of some layers."""

    #: Where the layers begin in the flat vector.
    begin: int
    #: Gradients of the node's ranks, the first of which becomes the sum.
    rows: np.ndarray
    #: None for a rank that owns no part.
    exchange: Exchange | None


class NodesSum:
    """See the module's text.

    Parameters
    ----------
    job
        Of at least two nodes.  *Collective*: the same on all ranks.
    gradients
        Shape ``(k, n)``, shared by the node: a row for each of its ranks.
    tallies
        Shape ``(2, 4)``, float64, shared by the node: the tallies to be summed, used in turn.
    barrier
        Of the node.
    clock
        Gets the seconds.
    """

    def __init__(
        self, job: Job, gradients: np.ndarray, tallies: np.ndarray, barrier: Callable[[], None], clock: Clock
    ) -> None:
        world, layout = job.world, job.layout
        self._barrier, self._clock, self._optimizer = barrier, clock, job.optimizer
        self._node, self._travel = world.node, job.travel
        self._leads = world.node.rank == 0
        check_memory(layout.size * layout.dtype.itemsize, "gradients from other nodes", hint="use a smaller model")
        self._buckets = []
        self._tallies = []
        for number, layers in enumerate(layout.buckets(int(job.options.bucket_mib * 2**20))):
            rows, exchange = gradients[:, :0], None
            if world.peers is not None:
                rows = gradients[:, layout.shard(world.node.rank, world.shards, layers)]
                exchange = Exchange(world.peers, rows[0], 2 * number)
            self._buckets.append(_Bucket(layers.start, rows, exchange))
        if world.peers is not None and self._leads:
            tag = 2 * len(self._buckets)
            self._tallies = [Exchange(world.peers, tally, tag + 2 * slot) for slot, tally in enumerate(tallies)]
        self._waiting = self._buckets
        self._flying: list[Exchange] = []
        self._left = 0.0

    def finished(self, offset: int) -> None:
        """Send what is complete, now that this rank's gradient is final from `offset` on.

        *Collective*: the same offsets on all ranks.  What is left at the end is sent by `finish`.
        """
        now = perf_counter()
        if self._flying:
            self._clock.hidden += now - self._left
        if self._waiting[0].begin >= offset > 0:
            self._barrier()
            while self._waiting[0].begin >= offset:
                self._send()
        now = perf_counter()
        for exchange in self._flying:
            exchange.advance()
        self._flying = [exchange for exchange in self._flying if exchange.flying]
        self._left = perf_counter()
        self._clock.communication += self._left - now

    def finish(self, slot: int) -> None:
        """Send the rest, the tally `slot` of the node too, and wait until all sums are there for all of the node.

        *Collective*, after a barrier of the node.
        """
        if self._tallies:
            self._start(self._tallies[slot])
        while self._waiting:
            self._send()
        start = perf_counter()
        self._travel()
        for exchange in self._flying:
            exchange.collect()
        for exchange in self._flying:
            exchange.finish()
        self._flying, self._waiting = [], self._buckets
        waited = perf_counter()
        self._clock.communication += waited - start
        # MPI's own barrier: what other nodes wait for may still need this rank inside a call of MPI.
        self._node.Barrier()
        self._clock.wait += perf_counter() - waited

    def _send(self) -> None:
        """Sum the next bucket over the node, and begin to exchange it."""
        bucket, *self._waiting = self._waiting
        if bucket.exchange is not None:
            self._optimizer.sum(bucket.rows, bucket.rows[0])
            self._start(bucket.exchange)

    def _start(self, exchange: Exchange) -> None:
        start = perf_counter()
        exchange.start()
        self._flying.append(exchange)
        self._clock.communication += perf_counter() - start

    def close(self) -> None:
        """Give back what MPI holds."""
        for exchange in (*self._tallies, *(bucket.exchange for bucket in self._buckets)):
            if exchange is not None:
                exchange.close()

"""Parameter server: some ranks hold the parameters and update them, the others compute gradients.

Ranks ``0..k-1`` are servers, each of one range of the flat vector and of the optimiser's state that belongs to it, and
compute no rows; the others are workers, and cut every global batch among themselves.  One batch::

    worker                                    each server
    g = gradient of its slice
    push g[range], statistics            ----->    staleness 0: when all have pushed, one update with the sum of g
                                              else: one update with each g, as it comes, at a
                                                    rate that goes with its share of the rows
    w[range] = reply                <-----    w[range], unless the worker is too far ahead: then later

All ranks call `step` for every batch.  A server's returns when every worker has pushed the batch, so servers follow the
slowest worker and the others are ahead of them.  Now and then all *meet*, at the same batch: where the trainer asks for
it (`settle`), which workers know beforehand, so that meeting replaces the reply; and where rank 0 has named a last
batch, because a rank wants to stop or has numbers that are not finite.  That batch is one that no worker has left
behind, and is told with every reply, so that each worker hears of it in time.  When all have pushed the batch of a
meeting nothing is under way, and everybody gets all parameters.

With equal slices a fast worker is soon ahead as far as it may be, or waits at the end of the epoch.  Where slices
follow throughput, fast and slow ones need the same time for a batch.  Workers tell each other theirs at meetings alone,
so that all cut a batch in the same way however far ahead they are; there are some more meetings in the beginning.

With `overlap`, a worker computes its next batch while its push and the reply are under way, with parameters that do not
know of that push: it waits for the reply to a push before the next one, and may be ahead of the slowest by a step less
when it is answered.

Workers on a server's node leave their gradients in memory that the server reads; numbers alone are sent.  With a codec,
pushes of other workers are its messages, with error feedback, and all replies are (see `replies`).

Pushes and replies are whole: a server changes nothing that is being sent.  Updates without locks (Hogwild) would tear
them, and are not offered, for no optimiser with a state is correct under them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple

import numpy as np

from onotrain.memory import check_memory
from onotrain.parallel.collectives import broadcast_vector, split
from onotrain.parallel.mailbox import Outbox
from onotrain.parallel.shared_memory import allocate
from onotrain.strategies.balance import BALANCED_STEPS, LocalSlices
from onotrain.strategies.base import Strategy
from onotrain.strategies.codecs import Codec, Feedback, Part, build, without_feedback
from onotrain.strategies.context import Context
from onotrain.strategies.parameter_server.compensation import rate_power
from onotrain.strategies.parameter_server.replica import ServedReplica
from onotrain.strategies.parameter_server.replies import add_message
from onotrain.strategies.statistics import StepStatistics
from onotrain.strategies.sums.coded_sum import Residuals
from onotrain.strategies.telemetry import Telemetry

#: Where the numbers of a push are: of the batch, learning rate, whether a synchronisation point follows, statistics.
NUMBER, RATE, MEETS, TALLY = 0, 1, 2, slice(3, 3 + StepStatistics().values.size)
#: Those of a reply: the last batch, 0 while there is none, and how long the server kept the push waiting [s].
LAST, PARKED = 0, 1
#: How many numbers there are in a push and in a reply.
NUMBERS = (TALLY.stop, 2)


class Participant(Strategy):
    """What servers and workers have in common.

    Parameters
    ----------
    context
        *Collective*: the same on all ranks.
    """

    def __init__(self, context: Context) -> None:
        world, layout, options = context.world, context.layout, context.options
        self.world = world
        self.servers, self.workers = options.servers, world.size - options.servers
        #: One update for a batch, made of all pushes.
        self.synchronous = options.staleness == 0
        self.telemetry = Telemetry(context.now)
        self.batches = LocalSlices(
            world,
            context.make_balance,
            self.telemetry.clock,
            options.servers,
            bulk_synchronous=self.synchronous,
            local_mean=not self.synchronous,
            exchange_every=None,
        )
        self.clock, self.traffic = self.telemetry.clock, self.telemetry.traffic
        #: Steps after which all exchange their throughput, where slices follow it.
        self._distance = BALANCED_STEPS
        self.ranges = [layout.shard(server, self.servers) for server in range(self.servers)]
        # First, for all ranks meet here: later, one may have failed to allocate and be gone.
        self.server_comm = split(world.comm, world.rank < self.servers) if self.servers > 1 else None
        self._homes = world.comm.allgather(world.node_index)
        #: Gradients of all workers, in memory of a node that has servers and workers; None on others.
        self.pushes: np.ndarray | None = None
        hosts = world.node_index in self._homes[: self.servers]
        if hosts and world.node_index in self._homes[self.servers :]:
            shape = ((self.workers, layout.size), layout.dtype)
            self.pushes = allocate(world.node, {"pushes": shape})["pushes"]
        check_memory(
            world.node.size * (2 if context.codec is None else 5) * layout.size * layout.dtype.itemsize,
            f"parameters and gradients of {world.node.size} ranks",
            hint="use strategy: allreduce, which shares the parameters",
        )
        self.parameters = layout.zeros()
        #: What all workers' messages to the servers leave to be sent, and how it is shared among them.
        self.residual = np.zeros(0 if context.codec is None else layout.size, layout.dtype)
        self.complete = self.synchronous and self.servers == 1 and context.codec is None

    def same_node(self, server: int, worker: int) -> bool:
        """Return whether a server and a worker, counted from 0, are on one node."""
        return self._homes[server] == self._homes[self.servers + worker]

    def residuals(self, codecs: Sequence[Feedback | None]) -> list[Residuals]:
        """Return the residuals of this rank's messages to each server."""
        found = []
        for server, codec in enumerate(codecs):
            far = sum(not self.same_node(server, worker) for worker in range(self.workers))
            part = self.residual[self.ranges[server]]
            streams = [] if codec is None else [(slice(0, len(part)), codec)]
            if len(self.residual) and far:
                found.append(Residuals(self.world.comm, part, streams, far))
        return found

    def exchange_due(self) -> bool:
        """Return whether all exchange throughput after this step, so that slices soon follow; asked in each step.

        At distances that grow, for who is ahead waits there.
        """
        due = self.batches.steps == self._distance
        if due:
            self._distance *= 2
        return due

    def synchronize(self, statistics: StepStatistics) -> None:
        """Give everybody rank 0's statistics and all parameters, and repartition the batches.  *Collective*."""
        start = perf_counter()
        self.world.comm.Bcast(statistics.values, root=0)  # it comes when all have pushed
        arrived = perf_counter()
        self.clock.wait += arrived - start
        self.batches.exchange()
        for server, part in enumerate(self.ranges):
            broadcast_vector(self.world.comm, self.parameters[part], server)
        self.clock.communication += perf_counter() - arrived

    def close(self) -> None:
        """Free the servers' communicator."""
        if self.server_comm is not None:
            self.server_comm.Free()
            self.server_comm = None


class _Route(NamedTuple):
    """How a worker and a server send each other a range."""

    part: slice
    #: Bytes of a push as it is; 0 if the server reads it in memory.
    raw_bytes: int
    push: np.ndarray
    reply: np.ndarray
    #: Of the push, and of the reply.
    encoder: Feedback | None
    decoder: Codec | None


class Worker(Participant):
    """A rank that computes gradients."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        options, layout = context.options, context.layout
        self._overlaps, self._injection = options.overlap, context.injection
        self._rate_power = rate_power(options, context.optimizer)
        #: Where servers of this node read this rank's gradient.
        self._push = layout.zeros() if self.pushes is None else self.pushes[context.world.rank - self.servers]
        self.gradient = layout.zeros() if self._overlaps else self._push
        self._routes = [self._route(context, server) for server in range(self.servers)]
        sent, received = [route.push for route in self._routes], [route.reply for route in self._routes]
        self._outbox = Outbox(context.world.comm, range(self.servers), NUMBERS, sent, received)
        self.replica = ServedReplica(
            context.world.comm,
            self.parameters,
            self.gradient,
            {},
            {},
            ranges=self.ranges,
            residual=("", self.residual),
            residuals=self.residuals([route.encoder for route in self._routes]),
            noted=[self.batches],
            notes=context.notes,
            complete=self.complete,
        )
        self.telemetry.include(self.batches)
        self._change = np.empty(len(self.residual), layout.dtype)
        self._under_way, self._began = False, 0.0

    def _route(self, context: Context, server: int) -> _Route:
        """Return how this rank and a server send each other a range."""
        part = self.ranges[server]
        near = self.same_node(server, context.world.rank - self.servers)
        push, parameters = self._push[part], self.parameters[part]
        # Parameters that are computed with must stay as they are.
        reply = np.empty_like(parameters) if self._overlaps else parameters
        raw = 0 if near else push.nbytes
        encoder, decoder = None, None
        if context.codec is not None:
            piece = Part.of(context.layout, part)
            decoder = without_feedback(context.codec, piece, context.seed)
            reply = np.empty(decoder.nbytes, np.uint8)
            if not near:
                encoder = build(context.codec, piece, context.seed)
        message = push[:0] if near else push if encoder is None else np.empty(encoder.nbytes, np.uint8)
        return _Route(part, raw, message, reply, encoder, decoder)

    def close(self) -> None:
        """Free what MPI holds."""
        super().close()
        self._outbox.close()

    def step(
        self, learning_rate: float, number: int, samples: int, statistics: StepStatistics, *, synchronize: bool
    ) -> None:
        """Push, and wait until this rank may go on.  *Collective*."""
        if not _finite(self.gradient):
            statistics.gradient_squares = math.nan
        self._finish()
        synchronize |= self.exchange_due()
        stops = synchronize or self._outbox.replies[0, LAST] == number
        rate = learning_rate * (statistics.samples / samples) ** self._rate_power
        self._fill(rate, number, statistics, synchronize=synchronize)
        statistics.clear()
        self._began = perf_counter()
        if synchronize:
            self._outbox.send()
            self.clock.communication += perf_counter() - self._began
        else:
            self._outbox.start()
            self._under_way = True
            if stops or not self._overlaps:
                self._finish()
                stops = self._outbox.replies[0, LAST] == number
        if stops:
            self.synchronize(statistics)

    def _fill(self, rate: float, number: int, statistics: StepStatistics, *, synchronize: bool) -> None:
        """Make the push."""
        numbers = self._outbox.numbers
        numbers[[NUMBER, RATE, MEETS]] = number, rate, synchronize
        numbers[TALLY] = statistics.values
        if self._overlaps:
            self._push[:] = self.gradient
        for route in self._routes:
            # A push of no rows leads to no update, unless it is a part of a sum: what is left to be sent stays.
            if route.encoder is not None and (self.synchronous or statistics.samples):
                route.encoder.encode(self._push[route.part], route.push)
            self.traffic.add(route.raw_bytes, route.push.nbytes)

    def _finish(self) -> None:
        """Wait for the replies to the last push, if they are not there, and take them."""
        if not self._under_way:
            return
        start = perf_counter()
        self.clock.hidden += start - self._began
        sent = self._outbox.sent()
        self._injection.inject_latency(self._began)
        self._outbox.finish()
        self._under_way = False
        for route in self._routes:
            parameters = self.parameters[route.part]
            if route.decoder is not None:
                add_message(route.decoder, route.reply, self._change[: len(parameters)], parameters)
            elif self._overlaps:
                parameters[:] = route.reply
        seconds = perf_counter() - start
        # The server took its time while this rank computed, if the push had gone: over TCP a long one may go only now.
        parked = float(self._outbox.replies[:, PARKED].max()) - (start - self._began if sent else 0.0)
        waited = min(seconds, max(0.0, parked))
        self.clock.wait += waited
        self.clock.communication += seconds - waited


def _finite(vector: np.ndarray) -> bool:
    """Whether all elements are finite; the product is ten times as fast to find out that they are."""
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(np.dot(vector, vector)) or bool(np.isfinite(vector).all())

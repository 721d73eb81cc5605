"""Parameter server: some ranks hold the parameters and update them, the others compute gradients.

Ranks ``0..k-1`` are servers, each of one range of the flat vector and of the optimiser's state that belongs to it, and
compute no rows; the others are workers, and cut every global batch among themselves.  One batch::

    worker                                    each server
    g = gradient of its slice
    push g[range], tally            ----->    staleness 0: when all have pushed, one update with the sum of g
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
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import NamedTuple

import numpy as np

from onotrain.data.batches import Batch
from onotrain.memory import check_memory
from onotrain.nn import Model
from onotrain.parallel.collectives import broadcast_vector, split
from onotrain.parallel.mailbox import Outbox
from onotrain.parallel.shared_memory import allocate
from onotrain.strategies.balance import BALANCED_STEPS
from onotrain.strategies.base import BatchShape, Job
from onotrain.strategies.codecs import Codec, Feedback, Part, build, without_feedback
from onotrain.strategies.parameter_server.compensation import rate_power
from onotrain.strategies.parameter_server.replies import add_message
from onotrain.strategies.sliced import Sliced
from onotrain.strategies.sums.coded_sum import Residuals
from onotrain.strategies.tally import Tally

#: Where the numbers of a push are: of the batch, its learning rate, whether the worker meets all after it, its tally.
NUMBER, RATE, MEETS, TALLY = 0, 1, 2, slice(3, 3 + Tally().values.size)
#: Those of a reply: the last batch, 0 while there is none, and how long the server kept the push waiting [s].
LAST, PARKED = 0, 1
#: How many numbers there are in a push and in a reply.
NUMBERS = (TALLY.stop, 2)


class Participant(Sliced):
    """What servers and workers have in common.

    Parameters
    ----------
    job
        Communicators, layout, optimiser and options.  *Collective*: the same job on all ranks.
    """

    def __init__(self, job: Job) -> None:
        world, layout, options = job.world, job.layout, job.options
        super().__init__(job, idle=options.servers)
        self.servers, self.workers = options.servers, world.size - options.servers
        #: One update for a batch, made of all pushes.
        self.lockstep = options.staleness == 0
        self.settled = self.lockstep and self.servers == 1 and job.codec is None
        #: Steps after which all meet to tell each other their throughput, where slices follow it.
        self._distance = BALANCED_STEPS
        self.finished: Callable[[int], None] | None = None
        self.ranges = [layout.shard(server, self.servers) for server in range(self.servers)]
        # First, for all ranks meet here: later, one may have failed to allocate and be gone.
        self.fellows = split(world.comm, world.rank < self.servers) if self.servers > 1 else None
        self._homes = world.comm.allgather(world.node_index)
        #: Gradients of all workers, in memory of a node that has servers and workers; None on others.
        self.pushes: np.ndarray | None = None
        hosts = world.node_index in self._homes[: self.servers]
        if hosts and world.node_index in self._homes[self.servers :]:
            shape = ((self.workers, layout.size), layout.dtype)
            self.pushes = allocate(world.node, {"pushes": shape})["pushes"]
        check_memory(
            world.node.size * (2 if job.codec is None else 5) * layout.size * layout.dtype.itemsize,
            f"parameters and gradients of {world.node.size} ranks",
            hint="use strategy: allreduce, which shares the parameters",
        )
        self.parameters = layout.zeros()
        #: What all workers' messages to the servers leave to be sent, and how it is shared among them.
        self.residual = np.zeros(0 if job.codec is None else layout.size, layout.dtype)
        self._residuals: list[Residuals] = []

    def near(self, server: int, worker: int) -> bool:
        """Return whether a server and a worker, counted from 0, are on one node."""
        return self._homes[server] == self._homes[self.servers + worker]

    def keep_residuals(self, codecs: Sequence[Feedback | None]) -> None:
        """Make residuals part of the state, of the messages of this rank to each server."""
        for server, codec in enumerate(codecs):
            far = sum(not self.near(server, worker) for worker in range(self.workers))
            part = self.residual[self.ranges[server]]
            streams = [] if codec is None else [(slice(0, len(part)), codec)]
            if len(self.residual) and far:
                self._residuals.append(Residuals(self.world.comm, part, streams, far))

    def weight(self, samples: int) -> float:
        """Return what makes a push, or in lockstep the sum of all, the gradient of a mean loss."""
        return 1.0 / (samples if self.lockstep else max(1, len(self.part(Batch(0, samples)))))

    def computed(self, rows: int, seconds: float) -> None:
        """Count it until the next meeting."""
        self._slices.computed(rows, seconds)

    def meets_to_tell(self) -> bool:
        """Return whether to meet after this step, so that slices soon follow throughput; to be asked in each step.

        At distances that grow, for who is ahead waits there.
        """
        due = self._slices.steps == self._distance
        if due:
            self._distance *= 2
        return due

    def meet(self, tally: Tally) -> None:
        """Give everybody rank 0's tally and all parameters, and cut the batches to come anew.  *Collective*."""
        start = perf_counter()
        self.world.comm.Bcast(tally.values, root=0)  # it comes when all have pushed
        met = perf_counter()
        self.clock.wait += met - start
        self._slices.tell()
        for server, part in enumerate(self.ranges):
            broadcast_vector(self.world.comm, self.parameters[part], server)
        self.clock.communication += perf_counter() - met

    def collect(self) -> None:
        """Sum what messages have left to send.  *Collective*."""
        for residuals in self._residuals:
            residuals.share()

    def synchronize(self) -> None:
        """Copy rank 0's parameters to all ranks, and share what it has of residuals.  *Collective*."""
        for vector in (self.parameters, self.residual):
            broadcast_vector(self.world.comm, vector)
        for residuals in self._residuals:
            residuals.take()

    def close(self) -> None:
        """Give back the servers' communicator."""
        if self.fellows is not None:
            self.fellows.Free()
            self.fellows = None


class _Way(NamedTuple):
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

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        options, layout = job.options, job.layout
        self._overlaps, self._injection = options.overlap, job.injection
        self._rate_power = rate_power(options, job.optimizer)
        #: Where servers of this node read this rank's gradient.
        self._push = layout.zeros() if self.pushes is None else self.pushes[job.world.rank - self.servers]
        self.gradient = layout.zeros() if self._overlaps else self._push
        self._ways = [self._way(job, server) for server in range(self.servers)]
        sent, received = [way.push for way in self._ways], [way.reply for way in self._ways]
        self._outbox = Outbox(job.world.comm, range(self.servers), NUMBERS, sent, received)
        self.keep_residuals([way.encoder for way in self._ways])
        self._change = np.empty(len(self.residual), layout.dtype)
        self._under_way, self._began = False, 0.0

    def _way(self, job: Job, server: int) -> _Way:
        """Return how this rank and a server send each other a range."""
        part = self.ranges[server]
        near = self.near(server, job.world.rank - self.servers)
        push, parameters = self._push[part], self.parameters[part]
        # Parameters that are computed with must stay as they are.
        reply = np.empty_like(parameters) if self._overlaps else parameters
        raw = 0 if near else push.nbytes
        encoder, decoder = None, None
        if job.codec is not None:
            piece = Part.of(job.layout, part)
            decoder = without_feedback(job.codec, piece, job.seed)
            reply = np.empty(decoder.nbytes, np.uint8)
            if not near:
                encoder = build(job.codec, piece, job.seed)
        message = push[:0] if near else push if encoder is None else np.empty(encoder.nbytes, np.uint8)
        return _Way(part, raw, message, reply, encoder, decoder)

    def prepare(self, model: Model, batch: BatchShape) -> None:
        """Give the model memory of its own, and this rank's gradient."""
        model.reserve(batch.rows)
        model.bind(self.parameters, self.gradient)

    def state(self) -> dict[str, np.ndarray]:
        """Return nothing: servers have it."""
        return {}

    def close(self) -> None:
        """Give back what MPI holds."""
        super().close()
        self._outbox.close()

    def step(self, learning_rate: float, number: int, samples: int, tally: Tally, *, settle: bool) -> None:
        """Push, and wait until this rank may go on.  *Collective*."""
        if not _finite(self.gradient):
            tally.gradient_squares = math.nan
        self._finish()
        settle |= self.meets_to_tell()
        meets = settle or self._outbox.replies[0, LAST] == number
        rate = learning_rate * (tally.samples / samples) ** self._rate_power
        self._fill(rate, number, tally, settle=settle)
        tally.clear()
        self._began = perf_counter()
        if settle:
            self._outbox.send()
            self.clock.communication += perf_counter() - self._began
        else:
            self._outbox.start()
            self._under_way = True
            if meets or not self._overlaps:
                self._finish()
                meets = self._outbox.replies[0, LAST] == number
        if meets:
            self.meet(tally)

    def _fill(self, rate: float, number: int, tally: Tally, *, settle: bool) -> None:
        """Make the push."""
        numbers = self._outbox.numbers
        numbers[[NUMBER, RATE, MEETS]] = number, rate, settle
        numbers[TALLY] = tally.values
        if self._overlaps:
            self._push[:] = self.gradient
        for way in self._ways:
            # A push of no rows leads to no update, unless it is a part of a sum: what is left to be sent stays.
            if way.encoder is not None and (self.lockstep or tally.samples):
                way.encoder.encode(self._push[way.part], way.push)
            self.traffic.add(way.raw_bytes, way.push.nbytes)

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
        for way in self._ways:
            parameters = self.parameters[way.part]
            if way.decoder is not None:
                add_message(way.decoder, way.reply, self._change[: len(parameters)], parameters)
            elif self._overlaps:
                parameters[:] = way.reply
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

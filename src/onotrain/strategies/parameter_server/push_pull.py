"""A worker's side of the messages: it pushes its gradient to the servers, and pulls the parameters that they reply."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from onotrain.parallel.channels import Endpoint, finish
from onotrain.strategies.codecs import Codec, Feedback, Part, build, without_feedback
from onotrain.strategies.context import Context
from onotrain.strategies.parameter_server.messages import PUSH, REPLY
from onotrain.strategies.parameter_server.replies import add_message
from onotrain.strategies.parameter_server.roles import Roles
from onotrain.strategies.statistics import StepStatistics, vectors
from onotrain.strategies.telemetry import Telemetry


class _Link(NamedTuple):
    """How this worker and a server send each other the server's range."""

    gradient: np.ndarray
    parameters: np.ndarray
    #: What is sent: nothing, if the server reads the gradient in memory; and what it stands for [bytes].
    push: np.ndarray
    raw_bytes: int
    reply: np.ndarray
    #: Of the push, and of the reply.
    encoder: Feedback | None
    decoder: Codec | None


class PushPull:
    """Messages to and from all servers.

    Parameters
    ----------
    context
        Of the job.
    roles
        Of its ranks; this one is a worker.
    gradient
        Flat vector that is pushed, where servers of this node read it.
    parameters
        Flat vector that is pulled.
    telemetry
        Counts seconds and bytes.
    """

    def __init__(
        self, context: Context, roles: Roles, gradient: np.ndarray, parameters: np.ndarray, telemetry: Telemetry
    ) -> None:
        self._clock, self._traffic = telemetry.clock, telemetry.traffic
        self._overlap, self._synchronous = context.options.overlap, roles.synchronous
        self._links = [self._link(context, roles, gradient, parameters, server) for server in range(roles.servers)]
        self._endpoint = Endpoint(
            context.world.comm,
            range(roles.servers),
            sent=(PUSH, [link.push for link in self._links]),
            received=(REPLY, [link.reply for link in self._links]),
        )
        self._node_link = context.injection.link(roles.senders)
        self._sent_bytes = sum(link.push.nbytes for link in self._links)
        #: Of replies from other nodes.
        self._received_bytes = sum(link.reply.nbytes for link in self._links if link.raw_bytes)
        # Fields of the headers, found once: it takes longer to find a field by its name than to read it.
        pushes, replies = self._endpoint.sent, self._endpoint.received
        self._batches, self._learning_rates = pushes["batch"], pushes["learning_rate"]
        self._synchronizes, self._statistics = pushes["synchronizes"], vectors(pushes["statistics"])
        self._stop_batches, self._parked_seconds = replies["stop_batch"], replies["parked_seconds"]
        self._link_seconds = replies["link_seconds"]
        self._channels = [*self._endpoint.outgoing, *self._endpoint.incoming]
        self._delta = np.empty(0 if context.codec is None else len(parameters), parameters.dtype)
        self._awaits_replies, self._pushed_at = False, 0.0

    def _link(self, context: Context, roles: Roles, gradient: np.ndarray, parameters: np.ndarray, server: int) -> _Link:
        part, codec = roles.ranges[server], context.codec
        gradient, parameters = gradient[part], parameters[part]
        same_node = roles.same_node(server, roles.worker)
        # Parameters that are computed with must stay as they are.
        reply = np.empty_like(parameters) if self._overlap else parameters
        encoder, decoder = None, None
        if codec is not None:
            coded = Part.of(context.layout, part)
            decoder = without_feedback(codec, coded, context.seed)
            reply = np.empty(decoder.nbytes, np.uint8)
            encoder = None if same_node else build(codec, coded, context.seed)
        push = gradient[:0] if same_node else gradient if encoder is None else np.empty(encoder.nbytes, np.uint8)
        return _Link(gradient, parameters, push, 0 if same_node else gradient.nbytes, reply, encoder, decoder)

    @property
    def encoders(self) -> list[Feedback | None]:
        """What encodes the push to each server; None: nothing."""
        return [link.encoder for link in self._links]

    @property
    def stop_batch(self) -> int:
        """The batch after which all come to rest, as far as rank 0 has said in its last reply; 0: none."""
        return self._stop_batches.item(0)

    def push(self, batch: int, learning_rate: float, statistics: StepStatistics, *, synchronizes: bool) -> None:
        """Push the gradient, to be pulled after; one that synchronizes is waited for, and gets no reply."""
        self._batches.fill(batch)
        self._learning_rates.fill(learning_rate)
        self._synchronizes.fill(synchronizes)
        self._statistics[:] = statistics.values
        for link in self._links:
            # A push of no rows leads to no update, unless it is a part of a sum: what is left to be sent stays.
            if link.encoder is not None and (self._synchronous or statistics.samples):
                link.encoder.encode(link.gradient, link.push)
            self._traffic.add(link.raw_bytes, link.push.nbytes)
        clock = self._clock
        self._pushed_at = clock.now()
        self._node_link.put(self._sent_bytes, self._pushed_at)
        self._awaits_replies = not synchronizes
        if synchronizes:
            self._start(batch)
            finish(self._endpoint.outgoing)
            clock.communicated("push before a synchronisation point", self._pushed_at)
        else:
            for reply in self._endpoint.incoming:
                reply.start()
            self._start(batch)

    def _start(self, batch: int) -> None:
        clock = self._clock
        watched = clock.events is not None
        for server, push in enumerate(self._endpoint.outgoing):
            begin = clock.now() if watched else 0.0
            push.start()
            if watched:
                nbytes = self._links[server].push.nbytes
                clock.message("sent", "push", begin, number=batch, nbytes=nbytes, peer=server)

    def pull(self) -> None:
        """Take the replies to the last push, waiting for those that are not there; nothing if they are taken."""
        if not self._awaits_replies:
            return
        self._awaits_replies = False
        clock = self._clock
        start = clock.now()
        computed = start - self._pushed_at
        sent = self._endpoint.all_sent()
        finish(self._channels)
        if self._node_link.slows:
            self._inject_latency()
        watched = clock.events is not None
        for server, link in enumerate(self._links):
            begin = clock.now() if watched else 0.0
            if link.decoder is not None:
                add_message(link.decoder, link.reply, self._delta[: len(link.parameters)], link.parameters)
            elif self._overlap:
                link.parameters[:] = link.reply
            if watched:
                number, nbytes = self._batches.item(server), link.reply.nbytes
                clock.message("received", "reply", begin, number=number, nbytes=nbytes, peer=server)
        end = clock.now()
        parked = max(self._parked_seconds.tolist())
        waited = waiting_part(end - start, parked, computed if sent else 0.0)
        clock.hidden += computed
        if waited > 0.0:
            clock.waited("reply: for other workers", start, start + waited)
        clock.communicated("reply", start + waited, end)

    def _inject_latency(self) -> None:
        """Sleep until replies would be there: they come after the push, over this node's link and the servers'."""
        link = self._node_link
        link.put(self._received_bytes, self._pushed_at)
        link.put(0, self._pushed_at + max(self._link_seconds.tolist()))
        link.inject_latency()

    def close(self) -> None:
        """Give back what MPI holds."""
        self._endpoint.close()


def waiting_part(seconds: float, parked: float, computed: float) -> float:
    """Return how much of the time that a worker takes for a pull it waits for others [s].

    Parameters
    ----------
    seconds
        That it takes.
    parked
        How long a server kept the push waiting.
    computed
        How long the worker computed after the push had gone, in which the server took its time; 0 for one that may go
        only now, as a long one over TCP.
    """
    return min(seconds, max(0.0, parked - computed))

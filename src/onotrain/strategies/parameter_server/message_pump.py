"""A server's side of the messages: pushes come in whatever order, and are replied to when their workers may go on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from onotrain.parallel.channels import Arrivals, Endpoint, finish
from onotrain.strategies.codecs import Codec, Part, without_feedback
from onotrain.strategies.context import Context
from onotrain.strategies.injection import NodeLink
from onotrain.strategies.parameter_server.messages import PUSH, REPLY
from onotrain.strategies.parameter_server.replies import DeltaReplies, ParameterReplies, Replies
from onotrain.strategies.parameter_server.roles import Roles
from onotrain.strategies.statistics import StepStatistics
from onotrain.strategies.telemetry import Telemetry


@dataclass(slots=True)
class Push:
    """What has come from a worker; valid until the worker is replied to, and then used for its next push."""

    worker: int
    batch: int
    learning_rate: float
    statistics: StepStatistics
    #: This server's range of it; may be overwritten.
    gradient: np.ndarray


class MessagePump:
    """Messages from and to all workers.

    Parameters
    ----------
    context
        Of the job.
    roles
        Of its ranks; this one is a server.
    parameters
        Its range of them.
    pushes
        Gradients of all workers, in memory that this node shares; None where it has no worker.
    telemetry
        Counts seconds and bytes.
    """

    def __init__(
        self, context: Context, roles: Roles, parameters: np.ndarray, pushes: np.ndarray | None, telemetry: Telemetry
    ) -> None:
        workers = range(roles.workers)
        self._clock, self._traffic, self._range_bytes = telemetry.clock, telemetry.traffic, parameters.nbytes
        #: Gradients of the workers' last pushes, a row for each.
        self.gradients = (
            np.zeros((len(workers), len(parameters)), parameters.dtype) if pushes is None else pushes[:, roles.range]
        )
        self._first_worker = roles.servers
        self._same_node = [roles.same_node(roles.rank, worker) for worker in workers]
        received = list(self.gradients)
        self._decoder: Codec | None = None
        self.replies: Replies = ParameterReplies(parameters, len(workers), copies=context.options.overlap)
        if context.codec is not None:
            part = Part.of(context.layout, roles.range)
            codec = partial(without_feedback, context.codec, part, context.seed)
            self._decoder = codec()
            received = [np.empty(self._decoder.nbytes, np.uint8) for _ in workers]
            self.replies = DeltaReplies(parameters, len(workers), codec, all_alike=roles.synchronous)
        #: What a push fills: nothing where the gradient itself is in this memory.
        self._received = [
            message[:0] if same_node else message for message, same_node in zip(received, self._same_node, strict=True)
        ]
        self._endpoint = Endpoint(
            context.world.comm,
            range(roles.servers, context.world.size),
            sent=(REPLY, self.replies.buffers),
            received=(PUSH, self._received),
        )
        #: Both directions of this server's part of its node's link.
        self._incoming, self._outgoing = (context.injection.link(roles.senders) for _ in range(2))
        self._pulse = context.world.pulse
        self._arrivals = Arrivals(self._endpoint.incoming, context.world.failures.check, self._pulse.waiting)
        # Fields of the headers, found once: it takes longer to find a field by its name than to read it.
        pushes, replies = self._endpoint.received, self._endpoint.sent
        self._batches, self._learning_rates = pushes["batch"], pushes["learning_rate"]
        self._synchronizes = pushes["synchronizes"]
        self._pushes = [
            Push(worker, 0, 0.0, StepStatistics(pushes["statistics"][worker, ...]), self.gradients[worker])
            for worker in workers
        ]
        self._stop_batches, self._parked_seconds = replies["stop_batch"], replies["parked_seconds"]
        self._link_seconds = replies["link_seconds"]
        #: When the last push of each worker was found, and when the link had carried it.
        self._found_at, self._arrived_at = [0.0] * len(workers), [0.0] * len(workers)

    def begin(self) -> None:
        """Be ready for all workers, who have the parameters of now."""
        self.replies.synchronized()
        for worker in range(len(self.gradients)):
            self._arrivals.expect(worker)

    def receive(self) -> Iterator[Push]:
        """Yield the pushes that have come, at least one, in the order of the workers."""
        clock = self._clock
        start = clock.now()
        arrived = self._arrivals.wait()
        now = clock.waited("pushes", start)
        self._pulse.advance()
        for worker in arrived:
            self._found_at[worker] = now
            self._arrived_at[worker] = self._carry(self._incoming, worker, self._received[worker].nbytes, now)
        watched = clock.events is not None
        for worker in arrived:
            if self._incoming.limited:
                self._await_push(worker)
            begin, push = clock.now() if watched else 0.0, self._pushes[worker]
            push.batch, push.learning_rate = self._batches.item(worker), self._learning_rates.item(worker)
            if self._decoder is not None and not self._same_node[worker]:
                self._decoder.decode(self._received[worker], push.gradient)
            if watched:
                nbytes, peer = self._received[worker].nbytes, self._first_worker + worker
                clock.message("received", "push", begin, number=push.batch, nbytes=nbytes, peer=peer)
            yield push

    def _carry(self, link: NodeLink, worker: int, nbytes: int, at: float) -> float:
        """Return when a message to or from a worker has left the simulated link; on this node it needs none."""
        return at if self._same_node[worker] else link.put(nbytes, at)

    def _await_push(self, worker: int) -> None:
        """Sleep until the simulated link has carried a push that was found."""
        start = self._clock.now()
        self._incoming.sleep_until(self._arrived_at[worker])
        self._clock.communicated("push on the simulated link", start)

    def awaits_reply(self, worker: int) -> bool:
        """Return whether a worker that has pushed waits for a reply, and not for a synchronisation point."""
        return not self._synchronizes.item(worker)

    def reply(self, worker: int, stop_batch: int) -> None:
        """Begin to send a worker the reply that is made for it, and expect its next push, if any follows.

        `stop_batch` is the batch after which all come to rest, 0 while there is none.
        """
        if self._batches.item(worker) != stop_batch:
            self._arrivals.expect(worker)
        reply = self._endpoint.outgoing[worker]
        reply.finish()  # the worker has the last one, for it has pushed since
        self._stop_batches[worker] = stop_batch
        now, nbytes = self._clock.now(), self.replies.buffers[worker].nbytes
        self._parked_seconds[worker] = now - self._arrived_at[worker]
        if self._outgoing.limited:
            self._link_seconds[worker] = self._carry(self._outgoing, worker, nbytes, now) - self._found_at[worker]
        reply.start()
        if self._clock.events is not None:
            number, peer = self._batches.item(worker), self._first_worker + worker
            self._clock.message("sent", "reply", now, number=number, nbytes=nbytes, peer=peer)
        if not self._same_node[worker]:
            self._traffic.add(self._range_bytes, nbytes)

    def before_update(self) -> None:
        """Wait until no worker is being sent the parameters themselves."""
        if self.replies.in_place:
            self.finish()

    def finish(self) -> None:
        """Wait until all replies are taken."""
        start = self._clock.now()
        finish(self._endpoint.outgoing)
        self._clock.communicated("replies that are under way", start)

    def close(self) -> None:
        """Give back what MPI holds; pushes that were expected in vain are not any longer."""
        self._arrivals.cancel()
        self._endpoint.close()

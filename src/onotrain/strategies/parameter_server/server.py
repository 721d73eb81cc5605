"""A rank that holds a range of the parameters, and updates it."""

from __future__ import annotations

from onotrain.memory import check_memory
from onotrain.nn import Model
from onotrain.strategies.base import BatchShape
from onotrain.strategies.context import Context
from onotrain.strategies.parameter_server.delta_shard import DeltaShard
from onotrain.strategies.parameter_server.drain import Drain
from onotrain.strategies.parameter_server.ledger import WorkerLedger
from onotrain.strategies.parameter_server.message_pump import MessagePump, Push
from onotrain.strategies.parameter_server.participant import Participant
from onotrain.strategies.parameter_server.pending import PendingBatches
from onotrain.strategies.parameter_server.replica import ServedReplica
from onotrain.strategies.parameter_server.roles import Roles
from onotrain.strategies.parameter_server.shard import ServedShard
from onotrain.strategies.statistics import StepStatistics


class Server(Participant):
    """A rank that holds a range of the parameters, and updates it: see the package's text."""

    # None of its parts refers to it or to its telemetry: the memory of all would stay in a cycle.

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        roles, options = self.roles, context.options
        _check_memory(context, roles)
        self._pump = MessagePump(context, roles, self.parameters[roles.range], self.pushes, self.telemetry)
        shard = DeltaShard if options.local_steps else ServedShard
        self._shard = shard(context, roles, self.parameters, self._pump.before_update)
        bound = None if options.staleness == "unbounded" else options.staleness - options.overlap
        self._ledger = WorkerLedger(roles.workers, bound, overlap=options.overlap)
        self._pending = PendingBatches(roles.workers)
        self._drain = Drain(roles, overlap=options.overlap)
        self.replica = ServedReplica(
            context,
            roles,
            self.parameters,
            None,
            self._shard.optimizer_state,
            self._shard.compensation_state,
            noted=[self.batches, self._shard, self._ledger],
        )
        self.telemetry.include(self._ledger, self._shard, self.batches)
        self._at_rest = True

    def bind(self, model: Model, batch: BatchShape) -> None:
        """Give the model the parameters for validation; there are no gradients here."""
        super().bind(model, batch)
        self._shard.bind(batch.samples)

    def step(
        self, learning_rate: float, number: int, samples: int, statistics: StepStatistics, *, synchronize: bool
    ) -> None:
        """Serve until all workers have pushed what this step ends with, if they push after it.  *Collective*."""
        synchronize |= self.synchronization_points.due()
        self._drain.note_request(statistics)
        batch = self.period.push_after(number, synchronize=synchronize)
        if not batch:
            statistics.clear()
            return
        if self._at_rest:
            self._begin(batch)
        self._serve(batch, learning_rate, statistics)
        if self.roles.rank > 0:
            statistics.clear()
        if synchronize or self._drain.stop_batch == batch:
            self._synchronize(statistics)

    def _begin(self, batch: int) -> None:
        """Be ready for the workers after a synchronisation point."""
        self._at_rest = False
        self._shard.begin(batch)
        self._ledger.begin(batch, self._shard.version)
        self._pump.begin()

    def _serve(self, batch: int, learning_rate: float, statistics: StepStatistics) -> None:
        """Take pushes until all workers have pushed `batch`, and give `statistics` the sums of it."""
        self._drain.name_stop_batch(self._ledger.batch_ahead)
        while not self._ledger.complete(batch):
            for push in self._pump.receive():
                self._take(push)
        self._pending.take(batch, statistics)
        squares = statistics.gradient_squares
        if self.roles.synchronous and not self._drain.diverged:
            updated = self._shard.update_with_batch(self._pump.gradients, learning_rate, batch)
            squares += self._drain.note_update(updated)
        statistics.gradient_squares = self._drain.agree(batch, squares)
        self._drain.name_stop_batch(self._ledger.batch_ahead)
        if self.roles.synchronous:
            self._release()

    def _take(self, push: Push) -> None:
        """Take in a push; if each is an update by itself, make it, and reply to whom it lets go on."""
        staleness = self._ledger.push(push.worker, push.batch, self._shard.version)
        finite = self._drain.note_push(push.statistics)
        if finite:
            self._pending.add(push.batch, push.worker, push.statistics)
        if self.roles.synchronous:
            return
        if finite:
            squares = self._shard.apply(push, staleness)
            self._pending.add_squares(push.batch, self._drain.note_update(squares))
        self._drain.name_stop_batch(self._ledger.batch_ahead)
        self._release()

    def _release(self) -> None:
        """Reply to all who may go on; a synchronisation point that a worker knows of is reply enough."""
        released = self._ledger.release(self._shard.version)
        workers = [worker for worker in released if self._pump.awaits_reply(worker)]
        if workers:
            self._pump.replies.make(workers)
        for worker in workers:
            self._shard.sent(worker, self._pump.replies.known(worker))
            self._pump.reply(worker, self._drain.stop_batch)

    def _synchronize(self, statistics: StepStatistics) -> None:
        """Apply what is held back, and come to rest with all ranks.  *Collective*."""
        self._drain.note_update(self._shard.flush())
        self._pump.finish()
        self._drain.conclude(statistics)
        self.synchronization_points.synchronize(statistics)
        self._drain.reset()
        self._at_rest = True

    def close(self) -> None:
        """Free what MPI holds."""
        super().close()
        self._pump.close()


def _check_memory(context: Context, roles: Roles) -> None:
    """Refuse a server whose state, and what its workers have, do not fit in memory.

    Raises
    ------
    ResourceError
        They do not.
    """
    size = roles.range.stop - roles.range.start
    copies = roles.workers * context.options.overlap
    if context.codec is not None:
        copies = 2 * (1 if roles.synchronous else roles.workers)
    # Rank 0 collects the others' state for checkpoints.
    names = len(context.optimizer.state_names) if roles.rank == 0 or not context.options.local_steps else 0
    state = (names + 1) * (size if roles.rank else context.layout.size)
    check_memory(
        (state + copies * size) * context.layout.dtype.itemsize,
        f"the optimiser's state, and what {roles.workers} workers have",
        hint="use more servers, or strategy: allreduce",
    )

"""The server's side of `onotrain.strategies.parameter_server.worker`."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter

import numpy as np

from onotrain.memory import check_memory
from onotrain.nn import Model
from onotrain.optim import Shard
from onotrain.parallel.collectives import all_reduce
from onotrain.parallel.mailbox import Inbox
from onotrain.strategies.base import BatchShape
from onotrain.strategies.codecs import Codec, Part, without_feedback
from onotrain.strategies.context import Context
from onotrain.strategies.parameter_server.compensation import (
    COMPENSATIONS,
    Compensation,
    Place,
    Plain,
    Step,
    vector_names,
)
from onotrain.strategies.parameter_server.ledger import WorkerLedger
from onotrain.strategies.parameter_server.replica import ServedReplica
from onotrain.strategies.parameter_server.replies import Coded, Replies, Whole
from onotrain.strategies.parameter_server.worker import MEETS, NUMBER, NUMBERS, RATE, TALLY, Participant
from onotrain.strategies.statistics import StepStatistics


@dataclass
class _Pushes:
    """What has come of one batch."""

    #: With a row for each worker, so that sums have one order whatever comes first.
    statistics: np.ndarray
    count: int = 0
    #: Of the gradients of the updates that its pushes led to.
    squares: float = 0.0


class Server(Participant):
    """A rank that holds a range of the parameters, and updates it.

    Updates are counted over all workers where each push is one, which Adam's bias corrections go by.  A strategy that
    runs before this one makes an update of every batch.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        layout, rank, options = context.layout, context.world.rank, context.options
        self._optimizer, self._options = context.optimizer, options
        self._range = self.ranges[rank]
        size = self._range.stop - self._range.start
        # Rank 0 collects the others' state for checkpoints.
        length = layout.size if rank == 0 else size
        coded = context.codec is not None
        # What workers have, and messages to them.
        copies = self.workers * options.overlap if not coded else 2 * (1 if self.synchronous else self.workers)
        check_memory(
            ((len(context.optimizer.state_names) + 1) * length + copies * size) * layout.dtype.itemsize,
            f"the optimiser's state, and what {self.workers} workers have",
            hint="use more servers, or strategy: allreduce",
        )
        remembered = vector_names(options.compensation)
        state = {name: np.zeros(length, layout.dtype) for name in context.optimizer.state_names}
        self._remembered = {name: np.zeros(length, layout.dtype) for name in remembered}
        own = self._range if rank == 0 else slice(0, size)
        tensors = [tensor.range for tensor in layout]
        self._shard = replace(
            Shard.of(tensors, self._range, self.parameters, []),
            state=tuple(vector[own] for vector in state.values()),
        )
        self._own_remembered = {name: vector[own] for name, vector in self._remembered.items()}
        self._open(context)
        bound = None if options.staleness == "unbounded" else options.staleness - options.overlap
        self._ledger = WorkerLedger(self.workers, bound, overlap=options.overlap)
        self._compensation: Compensation = Plain()
        self.replica = ServedReplica(
            context.world.comm,
            self.parameters,
            None,
            state,
            self._remembered,
            ranges=self.ranges,
            # Of a synchronous server, what is left to be sent is a part of the sum, as with `allreduce`.
            residual=("gradient_residual" if self.synchronous else "push_residual", self.residual),
            residuals=self.residuals([None] * self.servers),
            noted=[self.batches, self._ledger],
            notes=context.notes,
            complete=self.complete,
        )
        self.telemetry.include(self._ledger, self.batches)
        #: When the last push of each came [s].
        self._came = [0.0] * self.workers
        self._rate = 0.0
        self._begin_anew()

    def _open(self, context: Context) -> None:
        """Make what comes from the workers and what they are answered."""
        part, parameters = Part.of(context.layout, self._range), self._shard.parameters
        if self.pushes is None:
            self._gradients = np.zeros((self.workers, part.size), part.dtype)
        else:
            self._gradients = self.pushes[:, self._range]
        near = [self.same_node(context.world.rank, worker) for worker in range(self.workers)]
        #: What a push fills: nothing where the gradient itself is in this memory.
        self._messages = [
            gradient[:0] if at_hand else gradient for gradient, at_hand in zip(self._gradients, near, strict=True)
        ]
        self._replies: Replies = Whole(parameters, self.workers, copies=self._options.overlap)
        self._decoder: Codec | None = None
        if context.codec is not None:
            self._decoder = without_feedback(context.codec, part, context.seed)
            nbytes = self._decoder.nbytes
            self._messages = [np.empty(0 if at_hand else nbytes, np.uint8) for at_hand in near]
            self._replies = Coded(
                parameters,
                self.workers,
                partial(without_feedback, context.codec, part, context.seed),
                together=self.synchronous,
            )
        workers = range(self.servers, context.world.size)
        self._inbox = Inbox(
            context.world.comm, workers, NUMBERS, self._messages, self._replies.buffers, context.world.failures.check
        )

    def _begin_anew(self) -> None:
        """Forget what a meeting has settled."""
        shape = (
            self.workers,
            StepStatistics().values.size,
        )  # not self: the strategy and its memory would stay in a cycle
        self._pushes: dict[int, _Pushes] = defaultdict(lambda: _Pushes(np.zeros(shape)))
        #: Number of the batch that is a worker's first step; None until a step says which one comes next.
        self._first: int | None = None
        self._wants_stop = self._diverged = False
        self._bad = np.zeros(StepStatistics().values.size)
        #: The batch to meet at, 0 while there is none; servers but rank 0 know it when they have to.
        self._last = 0

    def bind(self, model: Model, batch: BatchShape) -> None:
        """Give the model the parameters for validation; there are no gradients here."""
        super().bind(model, batch)
        parameters = self._shard.parameters
        place = Place(len(parameters), parameters.dtype.name, self.workers, batch.samples, self._own_remembered)
        self._compensation = COMPENSATIONS[self._options.compensation.name](self._options.compensation, place)

    def close(self) -> None:
        """Free what MPI holds."""
        super().close()
        self._inbox.close()

    def step(
        self, learning_rate: float, number: int, samples: int, statistics: StepStatistics, *, synchronize: bool
    ) -> None:
        """Serve until all workers have pushed batch `number`.  *Collective*."""
        synchronize |= self.exchange_due()
        self._enter(number)
        self._wants_stop |= statistics.stop
        self._name_last()
        while self._pushes[number].count < self.workers:
            start = perf_counter()
            whose = self._inbox.wait()
            self.clock.wait += perf_counter() - start
            now = perf_counter()
            for worker in whose:
                self._came[worker] = now
                self._take(worker)
        pushes = self._pushes.pop(number)
        if self.synchronous and not self._diverged:
            self._update(Step(self._gradients), learning_rate, number, pushes)
        self._agree(pushes, number)
        self._answer()
        statistics.clear()
        if self.world.rank == 0:
            np.add.reduce(pushes.statistics, axis=0, out=statistics.values)
            statistics.gradient_squares = pushes.squares
        if synchronize or self._last == number:
            self._synchronize(statistics)

    def _enter(self, number: int) -> None:
        """Be ready for the workers, if this is the first step after a meeting."""
        if self._first is not None:
            return
        self._first = number - self._ledger.clocks.steps[0]
        if self._ledger.updates is None:
            self._ledger.updates = number - 1
        self._ledger.synchronized()
        self._replies.met()
        for worker in range(self.workers):
            self._compensation.sent(worker, self._shard.parameters)
            self._inbox.expect(worker)

    def _take(self, worker: int) -> None:
        """Note a push; without lockstep, make the update, and answer whom it lets go on."""
        numbers = self._inbox.numbers[worker]
        staleness = self._ledger.pushed(worker)
        number, steps = int(numbers[NUMBER]), self._ledger.clocks.steps[worker]
        if self._first is None or number != self._first + steps - 1:
            raise RuntimeError(f"worker {worker} pushed batch {number} after {steps - 1} steps")
        self._rate = float(numbers[RATE])
        if self._decoder is not None and len(self._messages[worker]):
            self._decoder.decode(self._messages[worker], self._gradients[worker])
        pushes, said = self._pushes[number], numbers[TALLY]
        pushes.count += 1
        self._wants_stop |= bool(said[2])
        said[2] = 0.0
        if not np.isfinite(said).all():
            self._diverged = True
            self._bad += said
        else:
            pushes.statistics[worker] = said
            if not self.synchronous:
                self._apply(worker, staleness, int(said[4]), pushes)
        if not self.synchronous:
            self._name_last()
            self._answer()

    def _apply(self, worker: int, staleness: int, rows: int, pushes: _Pushes) -> None:
        """Make the update that a push by itself leads to; one of no rows leads to none."""
        if rows:
            gradient, parameters = self._gradients[worker], self._shard.parameters
            step = self._compensation.push(worker, gradient, parameters, staleness, rows)
            self._ledger.dropped_samples = self._compensation.dropped_samples
            if step is not None:
                self._update(step, self._rate, self._ledger.updates_made + 1, pushes)

    def _update(self, step: Step, learning_rate: float, number: int, pushes: _Pushes) -> None:
        """Change the parameters, when nobody is being sent them."""
        if self._replies.in_place:
            start = perf_counter()
            self._inbox.finish()
            self.clock.communication += perf_counter() - start
        rows = np.atleast_2d(step.gradient)
        squares = self._optimizer.update(self._shard, rows, learning_rate * step.factor, number, self._total)
        self._ledger.updates = number
        if math.isfinite(squares):
            pushes.squares += squares
        else:
            self._diverged = True

    def _name_last(self) -> None:
        """Name the batch to meet at, if there is a reason: one that no worker has left behind."""
        reason = self._wants_stop or self._diverged
        if reason and not (self._last or self.synchronous or self.world.rank) and self._first is not None:
            # With overlap, a worker has begun the batch after the one that it will be told this in answer to.
            self._last = self._first + max(self._ledger.clocks.steps) + self._options.overlap

    def _agree(self, pushes: _Pushes, number: int) -> None:
        """Let all servers know what each has found in a batch.  *Collective* over them.

        A last batch that rank 0 names later than this comes later, for all workers have done this one.
        """
        if self.server_comm is not None:
            first = self.world.rank == 0
            values = np.array([pushes.squares, self._wants_stop, self._diverged, self._last * first], np.float64)
            self._total(values)
            pushes.squares, self._last = float(values[0]), int(values[3])
            self._wants_stop, self._diverged = bool(values[1]), bool(values[2])
        if self.synchronous and (self._wants_stop or self._diverged):
            self._last = number
        self._name_last()

    def _answer(self) -> None:
        """Send parameters to all who may go on; a meeting that a worker knows of is answer enough."""
        released = self._ledger.released()
        answered = [worker for worker in released if not self._inbox.numbers[worker, MEETS]]
        if answered:
            self._replies.answer(answered)
        for worker in answered:
            self._compensation.sent(worker, self._replies.known(worker))
            if self._inbox.numbers[worker, NUMBER] != self._last:
                self._inbox.expect(worker)
            self._inbox.reply(worker, self._last, perf_counter() - self._came[worker])
            if not self.same_node(self.world.rank, worker):
                self.traffic.add(self._shard.parameters.nbytes, self._replies.buffers[worker].nbytes)

    def _synchronize(self, statistics: StepStatistics) -> None:
        """Apply what is held back, and settle everything.  *Collective* over all ranks."""
        step = self._compensation.flush()
        if step is not None:
            self._update(step, self._rate, self._ledger.updates_made + 1, _Pushes(np.empty(0)))
        start = perf_counter()
        self._inbox.finish()
        self.clock.communication += perf_counter() - start
        if self._diverged:
            statistics.values += self._bad
            statistics.gradient_squares = math.nan
        if self._wants_stop:
            statistics.ask_to_stop()
        self.synchronize(statistics)
        self._begin_anew()

    def _total(self, values: np.ndarray) -> None:
        """Sum a small array over the servers.  *Collective* over them."""
        if self.server_comm is not None:
            start = perf_counter()
            all_reduce(self.server_comm, values)
            self.clock.communication += perf_counter() - start

"""The server's side of `onotrain.strategies.parameter_server.worker`."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from onotrain.memory import check_memory
from onotrain.nn import Model
from onotrain.optim import Shard
from onotrain.parallel.collectives import all_reduce, move_vector
from onotrain.parallel.mailbox import Inbox
from onotrain.runs.metadata import OWN
from onotrain.strategies.base import BatchShape, Job
from onotrain.strategies.codecs import Codec, Part, without_feedback
from onotrain.strategies.parameter_server.compensation import (
    COMPENSATIONS,
    Compensation,
    Place,
    Plain,
    Step,
    vector_names,
)
from onotrain.strategies.parameter_server.replies import Coded, Replies, Whole
from onotrain.strategies.parameter_server.staleness import Clocks, Staleness
from onotrain.strategies.parameter_server.worker import MEETS, NUMBER, NUMBERS, RATE, TALLY, Participant
from onotrain.strategies.tally import Tally


@dataclass
class _Pushes:
    """What has come of one batch."""

    #: With a row for each worker, so that sums have one order whatever comes first.
    tallies: np.ndarray
    count: int = 0
    #: Of the gradients of the updates that its pushes led to.
    squares: float = 0.0


class Server(Participant):
    """A rank that holds a range of the parameters, and updates it.

    Updates are counted over all workers where each push is one, which Adam's bias corrections go by.  A strategy that
    runs before this one makes an update of every batch.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        layout, rank, options = job.layout, job.world.rank, job.options
        self._optimizer, self._options = job.optimizer, options
        self._range = self.ranges[rank]
        size = self._range.stop - self._range.start
        # Rank 0 collects the others' state for checkpoints.
        length = layout.size if rank == 0 else size
        coded = job.codec is not None
        # What workers have, and messages to them.
        copies = self.workers * options.overlap if not coded else 2 * (1 if self.lockstep else self.workers)
        check_memory(
            ((len(job.optimizer.state_names) + 1) * length + copies * size) * layout.dtype.itemsize,
            f"the optimiser's state, and what {self.workers} workers have",
            hint="use more servers, or strategy: allreduce",
        )
        self._remembered = vector_names(options.compensation)
        names = (*job.optimizer.state_names, *(OWN + name for name in self._remembered))
        self._state = {name: np.zeros(length, layout.dtype) for name in names}
        own = self._range if rank == 0 else slice(0, size)
        tensors = [tensor.range for tensor in layout]
        self._shard = replace(
            Shard.of(tensors, self._range, self.parameters, {}),
            state={name: vector[own] for name, vector in self._state.items()},
        )
        self._open(job)
        bound = None if options.staleness == "unbounded" else options.staleness - options.overlap
        self._clocks = Clocks(self.workers, bound)
        self._clocks.release()
        self._staleness = Staleness()
        #: How far each worker was ahead of the slowest in the epoch, at most.
        self._leads = [0] * self.workers
        self._compensation: Compensation = Plain()
        #: Updates made, once the first step or a checkpoint has told how many there were before.
        self._count, self._counts = 0, False
        #: Updates that there were when each worker was sent what it computed with, and what it has been sent last.
        self._used, self._sent = [0] * self.workers, [0] * self.workers
        #: When the last push of each came [s].
        self._came = [0.0] * self.workers
        self._rate = 0.0
        self._begin_anew()

    def _open(self, job: Job) -> None:
        """Make what comes from the workers and what they are answered."""
        part, parameters = Part.of(job.layout, self._range), self._shard.parameters
        if self.pushes is None:
            self._gradients = np.zeros((self.workers, part.size), part.dtype)
        else:
            self._gradients = self.pushes[:, self._range]
        near = [self.near(job.world.rank, worker) for worker in range(self.workers)]
        #: What a push fills: nothing where the gradient itself is in this memory.
        self._messages = [
            gradient[:0] if at_hand else gradient for gradient, at_hand in zip(self._gradients, near, strict=True)
        ]
        self._replies: Replies = Whole(parameters, self.workers, copies=self._options.overlap)
        self._decoder: Codec | None = None
        if job.codec is not None:
            self._decoder = without_feedback(job.codec, part, job.seed)
            nbytes = self._decoder.nbytes
            self._messages = [np.empty(0 if at_hand else nbytes, np.uint8) for at_hand in near]
            self._replies = Coded(
                parameters, self.workers, lambda: without_feedback(job.codec, part, job.seed), together=self.lockstep
            )
        workers = range(self.servers, job.world.size)
        self._inbox = Inbox(
            job.world.comm, workers, NUMBERS, self._messages, self._replies.buffers, job.world.failures.check
        )
        self.keep_residuals([None] * self.servers)

    def _begin_anew(self) -> None:
        """Forget what a meeting has settled."""
        shape = (self.workers, Tally().values.size)  # not self: the strategy and its memory would stay in a cycle
        self._pushes: dict[int, _Pushes] = defaultdict(lambda: _Pushes(np.zeros(shape)))
        #: Number of the batch that is a worker's first step; None until a step says which one comes next.
        self._first: int | None = None
        self._wants_stop = self._diverged = False
        self._bad = np.zeros(Tally().values.size)
        #: The batch to meet at, 0 while there is none; servers but rank 0 know it when they have to.
        self._last = 0

    def prepare(self, model: Model, batch: BatchShape) -> None:
        """Give the model the parameters for validation; there are no gradients here."""
        model.reserve(batch.rows)
        model.bind(self.parameters)
        vectors = {name: self._shard.state[OWN + name] for name in self._remembered}
        place = Place(len(self._shard.parameters), self.parameters.dtype.name, self.workers, batch.samples, vectors)
        self._compensation = COMPENSATIONS[self._options.compensation.name](self._options.compensation, place)
        self._all_sent()

    def state(self) -> dict[str, np.ndarray]:
        """Return rank 0's copy of the whole state and of residuals, or this server's range of the former."""
        if self.world.rank > 0 or len(self.residual) == 0:
            return self._state
        # In lockstep what is left to be sent is a part of the sum, as with `allreduce`.
        return self._state | {f"{OWN}{'gradient' if self.lockstep else 'push'}_residual": self.residual}

    def collect(self) -> None:
        """Bring the state to rank 0.  *Collective*."""
        super().collect()
        self._move_state(from_first=False)

    def synchronize(self) -> None:
        """Copy rank 0's parameters to all ranks, and its state to those who keep it.  *Collective*."""
        super().synchronize()
        self._move_state(from_first=True)
        self._all_sent()

    def report(self) -> dict[str, Any]:
        """Return staleness [updates] in the epoch and in the run, the workers' clocks and leads [steps], and drops."""
        histogram = self._staleness.state()["epoch"]
        found: dict[str, Any] = {
            "staleness": {
                **self._staleness.take_epoch(),
                "histogram": histogram,
                "run_histogram": self._staleness.counts.tolist(),
            },
            "worker_steps": self._clocks.steps,
            "worker_leads": self._leads,
        }
        if self._compensation.dropped_samples:
            found["dropped_samples"] = self._compensation.dropped_samples
        self._leads = [0] * self.workers
        return found | super().report()

    def notes(self) -> dict[str, Any]:
        """Return how many updates there were and how stale, and the workers' throughput."""
        updates = {"updates": self._count} if self._counts else {}
        return updates | {"staleness": self._staleness.state()} | super().notes()

    def restore(self, notes: dict[str, Any]) -> None:
        """Count on from there."""
        super().restore(notes)
        if "updates" in notes:
            self._count, self._counts = notes["updates"], True
            self._all_known()
        if "staleness" in notes:
            self._staleness.restore(notes["staleness"])

    def close(self) -> None:
        """Give back what MPI holds."""
        super().close()
        self._inbox.close()

    def step(self, learning_rate: float, number: int, samples: int, tally: Tally, *, settle: bool) -> None:
        """Serve until all workers have pushed batch `number`.  *Collective*."""
        settle |= self.meets_to_tell()
        self._enter(number)
        self._wants_stop |= tally.stop
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
        if self.lockstep and not self._diverged:
            self._update(Step(self._gradients), learning_rate, number, pushes)
        self._agree(pushes, number)
        self._answer()
        tally.clear()
        if self.world.rank == 0:
            np.add.reduce(pushes.tallies, axis=0, out=tally.values)
            tally.gradient_squares = pushes.squares
        if settle or self._last == number:
            self._meet(tally)

    def _enter(self, number: int) -> None:
        """Be ready for the workers, if this is the first step after a meeting."""
        if self._first is None:
            self._first = number - self._clocks.steps[0]
            for worker in range(self.workers):
                self._inbox.expect(worker)
        if not self._counts:
            self._counts, self._count = True, number - 1
            self._all_known()

    def _take(self, worker: int) -> None:
        """Note a push; without lockstep, make the update, and answer whom it lets go on."""
        numbers = self._inbox.numbers[worker]
        self._clocks.advance(worker)
        number, clocks = int(numbers[NUMBER]), self._clocks.steps
        if self._first is None or number != self._first + clocks[worker] - 1:
            raise RuntimeError(f"worker {worker} pushed batch {number} after {clocks[worker] - 1} steps")
        self._leads[worker] = max(self._leads[worker], clocks[worker] - min(clocks))
        self._rate = float(numbers[RATE])
        staleness = self._count - self._used[worker]
        self._staleness.add(staleness)
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
            pushes.tallies[worker] = said
            if not self.lockstep:
                self._apply(worker, staleness, int(said[4]), pushes)
        if not self.lockstep:
            self._name_last()
            self._answer()

    def _apply(self, worker: int, staleness: int, rows: int, pushes: _Pushes) -> None:
        """Make the update that a push by itself leads to; one of no rows leads to none."""
        if rows:
            gradient, parameters = self._gradients[worker], self._shard.parameters
            step = self._compensation.push(worker, gradient, parameters, staleness, rows)
            if step is not None:
                self._update(step, self._rate, self._count + 1, pushes)

    def _update(self, step: Step, learning_rate: float, number: int, pushes: _Pushes) -> None:
        """Change the parameters, when nobody is being sent them."""
        if self._replies.in_place:
            start = perf_counter()
            self._inbox.finish()
            self.clock.communication += perf_counter() - start
        rows = np.atleast_2d(step.gradient)
        squares = self._optimizer.update(self._shard, rows, learning_rate * step.factor, number, self._total)
        self._count = number
        if math.isfinite(squares):
            pushes.squares += squares
        else:
            self._diverged = True

    def _name_last(self) -> None:
        """Name the batch to meet at, if there is a reason: one that no worker has left behind."""
        reason = self._wants_stop or self._diverged
        if reason and not (self._last or self.lockstep or self.world.rank) and self._first is not None:
            # With overlap, a worker has begun the batch after the one that it will be told this in answer to.
            self._last = self._first + max(self._clocks.steps) + self._options.overlap

    def _agree(self, pushes: _Pushes, number: int) -> None:
        """Let all servers know what each has found in a batch.  *Collective* over them.

        A last batch that rank 0 names later than this comes later, for all workers have done this one.
        """
        if self.fellows is not None:
            first = self.world.rank == 0
            values = np.array([pushes.squares, self._wants_stop, self._diverged, self._last * first], np.float64)
            self._total(values)
            pushes.squares, self._last = float(values[0]), int(values[3])
            self._wants_stop, self._diverged = bool(values[1]), bool(values[2])
        if self.lockstep and (self._wants_stop or self._diverged):
            self._last = number
        self._name_last()

    def _answer(self) -> None:
        """Send parameters to all who may go on; a meeting that a worker knows of is answer enough."""
        released = self._clocks.release()
        answered = [worker for worker in released if not self._inbox.numbers[worker, MEETS]]
        if answered:
            self._replies.answer(answered)
        for worker in released:
            # With overlap it has begun its next batch before this answer.
            self._used[worker] = self._sent[worker] if self._options.overlap else self._count
            self._sent[worker] = self._count
        for worker in answered:
            self._compensation.sent(worker, self._replies.known(worker))
            if self._inbox.numbers[worker, NUMBER] != self._last:
                self._inbox.expect(worker)
            self._inbox.reply(worker, self._last, perf_counter() - self._came[worker])
            if not self.near(self.world.rank, worker):
                self.traffic.add(self._shard.parameters.nbytes, self._replies.buffers[worker].nbytes)

    def _meet(self, tally: Tally) -> None:
        """Apply what is held back, and settle everything.  *Collective* over all ranks."""
        step = self._compensation.flush()
        if step is not None:
            self._update(step, self._rate, self._count + 1, _Pushes(np.empty(0)))
        start = perf_counter()
        self._inbox.finish()
        self.clock.communication += perf_counter() - start
        if self._diverged:
            tally.values += self._bad
            tally.gradient_squares = math.nan
        if self._wants_stop:
            tally.ask_to_stop()
        self.meet(tally)
        self._all_sent()
        self._begin_anew()

    def _all_sent(self) -> None:
        """Note that all workers have the parameters of now."""
        self._all_known()
        self._replies.met()
        for worker in range(self.workers):
            self._compensation.sent(worker, self._shard.parameters)

    def _all_known(self) -> None:
        """Note that nobody's parameters are older than those of now."""
        self._used, self._sent = [self._count] * self.workers, [self._count] * self.workers

    def _move_state(self, *, from_first: bool) -> None:
        """Copy the others' ranges of the state from rank 0 or to it.  *Collective* over the servers."""
        rank = self.world.rank
        for server in range(1, self.servers):
            for vector in self._state.values():
                part = vector[self.ranges[server]] if rank == 0 else vector
                if rank in (0, server):
                    ends = (0, server) if from_first else (server, 0)
                    move_vector(self.world.comm, part, *ends)

    def _total(self, values: np.ndarray) -> None:
        """Sum a small array over the servers.  *Collective* over them."""
        if self.fellows is not None:
            start = perf_counter()
            all_reduce(self.fellows, values)
            self.clock.communication += perf_counter() - start

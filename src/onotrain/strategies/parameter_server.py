"""Parameter server: some ranks hold the parameters and update them, the others compute gradients.

Ranks ``0..k-1`` are servers, each of one range of the flat vector and of the optimiser's state that belongs to it, and
compute no rows; the others are workers, and cut every global batch among themselves.  One batch::

    worker                                    each server
    g = gradient of its slice
    push g[range], tally            ----->    staleness 0: when all have pushed, one update with the sum of g
                                              else: one update with each g, as it comes
    w[range] = reply                <-----    w[range], unless the worker is too far ahead: then later

All ranks call `step` for every batch.  A server's returns when every worker has pushed the batch, so servers follow the
slowest worker and the others are ahead of them.  Now and then all *meet*, at the same batch: where the trainer asks for
it (`settle`), which workers know beforehand, so that meeting replaces the reply; and where rank 0 has named a last
batch, because a rank wants to stop or has numbers that are not finite.  That batch is one that no worker has left
behind, and is told with every reply, so that each worker hears of it in time.  When all have pushed the batch of a
meeting nothing is under way, and everybody gets all parameters.

Pushes and replies are whole: a server changes nothing that is being sent.  Updates without locks (Hogwild) would tear
them, and are not offered, for no optimiser with a state is correct under them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter

import numpy as np

from onotrain.data.feed import Batch
from onotrain.data.paths import check_memory
from onotrain.errors import UsageError
from onotrain.nn import Model
from onotrain.parallel.collectives import broadcast_vector, split
from onotrain.parallel.mailbox import Outbox
from onotrain.strategies.base import BatchShape, Clock, Defaults, Job, Tally

#: Where the numbers of a push are: of the batch, its learning rate, whether the worker meets all after it, its tally.
NUMBER, RATE, MEETS, TALLY = 0, 1, 2, slice(3, 3 + Tally().values.size)
#: How many numbers there are in a push and in a reply; the reply's is the last batch, 0 while there is none.
NUMBERS = (TALLY.stop, 1)


class Participant(Defaults):
    """What servers and workers have in common.

    Parameters
    ----------
    job
        Communicators, layout, optimiser and options.  *Collective*: the same job on all ranks.

    Raises
    ------
    UsageError
        There is no rank left to work.
    """

    def __init__(self, job: Job) -> None:
        world, layout, options = job.world, job.layout, job.options
        if world.size <= options.servers:
            raise UsageError(
                f"strategy parameter_server with {options.servers} server{'s' * (options.servers > 1)} needs "
                f"{options.servers + 1} ranks or more (got {world.size})",
                hint=f"start more, as with mpirun -n {options.servers + 1}, or use another strategy",
            )
        self.world = world
        self.servers, self.workers = options.servers, world.size - options.servers
        #: One update for a batch, made of all pushes.
        self.lockstep = options.staleness == 0
        self.settled = self.lockstep and self.servers == 1
        self.clock = Clock()
        self.finished: Callable[[int], None] | None = None
        self.ranges = [layout.shard(server, self.servers) for server in range(self.servers)]
        # First, for all ranks of the job meet here: later, one may have failed to allocate and be gone.
        self.fellows = split(world.comm, world.rank < self.servers) if self.servers > 1 else None
        check_memory(
            world.node.size * 2 * layout.size * layout.dtype.itemsize,
            f"parameters and gradients of {world.node.size} ranks",
            hint="use strategy: allreduce, which shares the parameters",
        )
        self.parameters = layout.zeros()

    def weight(self, samples: int) -> float:
        """Return what makes a push, or in lockstep the sum of all, the gradient of a mean loss."""
        return 1.0 / (samples if self.lockstep else max(1, len(self.part(Batch(0, samples)))))

    def part(self, batch: Batch) -> Batch:
        """Return one of nearly equal slices; nothing on a server."""
        worker = self.world.rank - self.servers
        return batch.part(worker, self.workers) if worker >= 0 else Batch(batch.begin, batch.begin)

    def most_rows(self, samples: int) -> int:
        """Return the length of the largest slice; 0 on a server."""
        return -(-samples // self.workers) if self.world.rank >= self.servers else 0

    def meet(self, tally: Tally) -> None:
        """Give everybody rank 0's tally and all parameters.  *Collective*."""
        self.world.comm.Bcast(tally.values, root=0)
        for server, part in enumerate(self.ranges):
            broadcast_vector(self.world.comm, self.parameters[part], server)

    def synchronize(self) -> None:
        """Copy rank 0's parameters to all ranks.  *Collective*."""
        broadcast_vector(self.world.comm, self.parameters)

    def close(self) -> None:
        """Give back the servers' communicator."""
        if self.fellows is not None:
            self.fellows.Free()
            self.fellows = None


class Worker(Participant):
    """A rank that computes gradients."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.gradient = job.layout.zeros()
        sent, received = ([vector[part] for part in self.ranges] for vector in (self.gradient, self.parameters))
        self._outbox = Outbox(job.world.comm, range(self.servers), NUMBERS, sent, received)

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
        start = perf_counter()
        numbers = self._outbox.numbers
        numbers[[NUMBER, RATE, MEETS]] = number, learning_rate, settle
        numbers[TALLY] = tally.values
        if settle:
            self._outbox.send()
        else:
            self._outbox.exchange()
        tally.clear()
        if settle or self._outbox.replies[0, 0] == number:
            self.meet(tally)
        self.clock.communication += perf_counter() - start


def _finite(vector: np.ndarray) -> bool:
    """Whether all elements are finite; the product is ten times as fast to find out that they are."""
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(np.dot(vector, vector)) or bool(np.isfinite(vector).all())

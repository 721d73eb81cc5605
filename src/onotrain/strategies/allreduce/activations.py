"""Synchronous data parallelism on one node, whose ranks share activations instead of gradients.

The gradient of a dense layer's weight is a product, ``dw = dz^T x`` over the rows of the batch.  One step::

    every rank      x, dz of all layers for its rows of the batch, side by side with those of the others
    barrier
    owner of shard  g = dz^T x of the shard, over all rows, block by block in its caches
                    update parameters[shard] and state[shard] in place with each block
    barrier

It takes as many operations as sharing gradients, and no gradient is ever written to memory or read from another core.
The sum over the rows has one order for any number of ranks.  It needs an update without sums over the whole gradient
(neither clipping nor LAMB) and all rows at a time.

Of a table of which the batch needs some rows, ranks share the codes, and the owner of a shard sums the gradients of its
rows that occur, in the order of the samples: neither time nor memory goes with the size of the table.

Gradients that are no products, as those of a convolution, every rank computes for each block of its rows by itself; the
owner of a shard sums the blocks in their order.  Slices are then of whole blocks, so that these, too, have one order.
"""

from __future__ import annotations

from functools import partial

from onotrain._kernels.recording import Program, place
from onotrain.nn import Model
from onotrain.nn.blocks import BLOCKS
from onotrain.nn.workspace import SharedWorkspace
from onotrain.optim import Gradient, RecordedUpdate, Shard
from onotrain.parallel.shared_memory import allocate
from onotrain.strategies.allreduce.arena import Arena
from onotrain.strategies.allreduce.replica import ArenaReplica
from onotrain.strategies.allreduce.timing import AllReduceTiming
from onotrain.strategies.balance import LocalSlices
from onotrain.strategies.base import BatchShape, Strategy
from onotrain.strategies.context import Context
from onotrain.strategies.memory import Job, Memory
from onotrain.strategies.recorded_step import RecordedStep
from onotrain.strategies.statistics import StepStatistics
from onotrain.strategies.telemetry import Telemetry

#: More gradients of blocks would take longer to be written and read than they save [bytes].
MOST_BLOCK_BYTES = 64 << 20


class SharedActivations(Strategy):
    """The node arena with the activations of the whole batch: see the module's text; only where it is `possible`."""

    outlives_ranks = True
    timing = AllReduceTiming

    def __init__(self, context: Context) -> None:
        world = context.world
        self._node, self._layout, self._optimizer = world.node, context.layout, context.optimizer
        self._injection, self._one_by_one = context.injection, context.one_by_one
        self.telemetry = Telemetry(context.now, context.events)
        in_blocks = bool(_elements_in_blocks(context))
        self.batches = LocalSlices(world, context.make_balance, self.telemetry.clock, in_blocks=in_blocks)
        self.telemetry.include(self.batches)
        self._arena = Arena(context, self.telemetry.clock, {})
        self.replica = ArenaReplica(self._arena, None, None, noted=[self.batches], notes=context.notes)
        #: Memory of the activations, made by `bind`.
        self.workspace: SharedWorkspace
        #: What this rank updates with the rows of a whole batch and of an epoch's last one, and for which slices.
        self._updates: dict[int, tuple[RecordedUpdate, Program]] = {}
        self._repartitions = 0

    @staticmethod
    def possible(context: Context) -> bool:
        """Whether ranks can share activations.

        On one node, if a parameter's step depends on its gradient alone, and all gradients are products over the rows,
        or small; with the latter, slices must be nearly even.
        """
        elements, layout, world = _elements_in_blocks(context), context.layout, context.world
        if elements and (
            context.make_balance is not None
            or world.size > BLOCKS // 2
            or elements * BLOCKS * layout.dtype.itemsize > MOST_BLOCK_BYTES
        ):
            return False
        return world.nodes == 1 and context.optimizer.elementwise and context.micro_batches == 1

    @classmethod
    def memory(cls, job: Job) -> Memory:
        """Return parameters, state and what gradients are made of once, and a rank's other activations."""
        shared = {
            "parameters": job.vector, "state": job.state, "activations": job.shared_activations,
            **job.kept(job.vector + job.state),
        }  # fmt: skip
        return Memory(shared, {"activations": job.activations(shared=True)})

    def bind(self, model: Model, batch: BatchShape) -> None:
        """Give the model memory that all ranks read.  *Collective*."""
        self.workspace = SharedWorkspace(
            model.plan, batch.rows, batch.samples, partial(allocate, self._node), self._arena.record_barrier
        )
        model.use(self.workspace)
        model.bind(self.replica.parameters)
        self._updates = {}

    def record(self, samples: int, rows: int, steps: int, statistics: StepStatistics) -> RecordedStep | None:
        """Multiply, update and publish, unless what each rank computes is to be observed or slowed down."""
        if self._one_by_one:
            return None
        return self._arena.record(self._optimizer.record(self._updates_of(samples), steps), rows, steps, statistics)

    def step(
        self, learning_rate: float, number: int, samples: int, statistics: StepStatistics, *, synchronize: bool
    ) -> None:
        """Multiply, update and publish.  *Collective*."""
        if self._repartitions != self.batches.repartitions:
            self._repartitions, self._updates = self.batches.repartitions, {}
        if samples not in self._updates:
            self._updates[samples] = self._update_of(samples)
        update, program = self._updates[samples]
        self._arena.begin(number, statistics)
        now = self.telemetry.clock.now
        start = now()
        update.prepare([learning_rate], number)
        program.run(number - 1)
        self._injection.inject_delay(number, now() - start)
        self._arena.end(number, sum(update.squares.tolist()), statistics)

    def _update_of(self, samples: int) -> tuple[RecordedUpdate, Program]:
        update = self._optimizer.record(self._updates_of(samples), 1)
        assert update is not None  # noqa: S101 - for the type checker: `possible` asks for an update of elements
        return update, self._optimizer.kernels.program(place(update.updates, "update"))

    def _updates_of(self, samples: int) -> list[tuple[Gradient, Shard]]:
        """Return what this rank updates of each tensor, and with which rows of the batch's activations.

        Its share of the parameters is that of its slice in a batch.  All of them lie in memory that all ranks share, so
        that a change of the slices moves nothing, and no bit depends on who owns what.
        """
        layout = self._layout.trained_only()
        share = self.batches.share(layout.size)
        owned = layout.rows_within(share.begin, share.end)
        factors = dict(self.workspace.factors(samples))
        updates = []
        for tensor, kept in zip(layout, (tensor for tensor in self._layout if tensor.trained), strict=True):
            whole = tensor.range
            begin, end = max(whole.start, owned.start), min(whole.stop, owned.stop)
            if begin < end:
                dz, x, codes = factors[tensor.name]
                moved = kept.offset - tensor.offset
                width = 1 if x is None else x.shape[1]
                outputs = slice((begin - whole.start) // width, (end - whole.start) // width)
                shard = self._arena.shard([kept], slice(begin + moved, end + moved))
                if codes is not None:
                    gradient = Gradient(dz, codes=codes, first=(begin - whole.start) // tensor.row)
                else:
                    gradient = Gradient(dz[:, outputs], x)
                updates.append((gradient, shard))
        return updates


def _elements_in_blocks(context: Context) -> int:
    """Return how many elements the trained tensors have whose gradients are no products."""
    return sum(tensor.size for tensor in context.layout if tensor.trained and not tensor.is_product)

"""How much memory a run takes, before anything is allocated: each strategy says what its ranks have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any, NamedTuple

from onotrain.config import Config
from onotrain.evaluation.forward_pass import PASS_ROWS
from onotrain.nn import Model
from onotrain.nn.plan import Plan
from onotrain.nn.workspace import place, private_bytes, shared_bytes
from onotrain.optim import Optimizer
from onotrain.parallel.world import World
from onotrain.strategies.balance import LocalSlices
from onotrain.strategies.context import Context
from onotrain.strategies.telemetry import Clock

#: Bytes by what they are for: parameters, state, gradients, messages, activations, checkpoint, copy.
Bytes = Mapping[str, int]


class Memory(NamedTuple):
    """What a rank uses [bytes]."""

    #: Once on its node, with the other ranks of it.
    shared: Bytes
    #: Of its own.
    own: Bytes
    #: State of the strategy's own in a checkpoint, for which the first rank of the job has as much once more.
    saved: int = 0


@dataclass(frozen=True)
class Job:
    """What memory follows from, seen from one rank: ``context.world`` need not exist, and has no communicators."""

    context: Context
    plan: Plan
    #: Largest batch.
    samples: int

    @classmethod
    def ranks(cls, config: Config, model: Model, nodes: int, ranks: int, samples: int) -> Iterator[Job]:
        """Yield the job as each rank of the first node sees it.

        Parameters
        ----------
        config
            Of the run.
        model
            Its network.
        nodes, ranks
            Nodes, and ranks on each of them.
        samples
            Those to train on.
        """
        optimizer = Optimizer(config.optimizer, config.training.clip_norm, model.kernels)
        for rank in range(ranks):
            node, sizes = SimpleNamespace(rank=rank, size=ranks), (ranks,) * nodes
            world: Any = SimpleNamespace(
                rank=rank, size=nodes * ranks, node=node, nodes=nodes, node_sizes=sizes, shards=ranks
            )
            context = Context.of(config, world, model.layout, optimizer)
            yield cls(context, model.plan, min(config.training.batch_size, samples))

    @property
    def world(self) -> World:
        """Ranks and nodes."""
        return self.context.world

    @cached_property
    def vector(self) -> int:
        """Bytes of a flat vector of all parameters."""
        return self.context.layout.size * self.context.layout.dtype.itemsize

    @property
    def state(self) -> int:
        """Bytes of the optimiser's state of all parameters."""
        return len(self.context.optimizer.state_names) * self.vector

    def kept(self, nbytes: int) -> Bytes:
        """Return what a copy of so many bytes takes, where the state outlives ranks."""
        return {"copy": nbytes} if self.context.outlives_ranks else {}

    def with_options(self, options: Any) -> Job:
        """Return the same job with other options of the strategy."""
        return replace(self, context=replace(self.context, options=options))

    def activations(self, servers: int = 0, *, shared: bool = False) -> int:
        """Return the bytes of the activations of this rank.

        Parameters
        ----------
        servers
            Ranks, the first ones, that compute no rows.
        shared
            Without those that ranks share.
        """
        in_blocks = shared and bool(self.plan.in_blocks)
        slices = LocalSlices(self.world, self.context.make_balance, Clock(), servers, in_blocks=in_blocks)
        rows = -(-slices.capacity(self.samples) // self.context.micro_batches)
        return private_bytes(self.plan, rows, shared=shared)

    @property
    def shared_activations(self) -> int:
        """Bytes of the activations of a batch that ranks share."""
        return shared_bytes(self.plan, self.samples)


def evaluation_bytes(plan: Plan) -> int:
    """Return what each rank computes metrics in."""
    return place(plan.prediction, PASS_ROWS).nbytes


def on_node(ranks: list[Memory]) -> Counter[str]:
    """Return what all ranks of a node use, by what it is for [bytes]."""
    total = Counter(ranks[0].shared)
    for each in ranks:
        total.update(each.own)
    return total

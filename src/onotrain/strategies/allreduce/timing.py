"""How long steps of all-reduce take: `onotrain.strategies.timing`."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from onotrain.simulation.epoch import Epoch
from onotrain.strategies.timing import Timing, by_node, bytes_of_sum


class AllReduceTiming(Timing):
    """All ranks of a node wait for each other, all nodes for each other, and each owner of a part updates it.

    There are as many parts as the smallest node has ranks.  Owners encode and decode theirs: what other nodes send, and
    the sum.
    """

    def epoch(self, number: int) -> Epoch:
        """Return what epoch `number` comes to."""
        machine, shards = self.machine, self.job.world.shards
        crowd = machine.crowding(machine.ranks)
        computing = self.computing(number) * crowd
        added = self.memory_seconds((machine.ranks_per_node - 1) * self.vector)
        update = crowd * (self.update + added) / shards
        exchange = self._exchange(crowd)
        nodes = by_node(computing, machine)
        slowest = nodes.max(axis=1)
        seconds = float((slowest + exchange + update).sum())
        owns = np.arange(machine.ranks) % machine.ranks_per_node < shards
        alone = computing.sum(axis=0)
        compute = alone + self.steps * update * owns
        wait = nodes.sum(axis=0)[machine.node_of] - alone
        raw, sent = np.zeros((2, machine.ranks), np.int64)
        if machine.nodes > 1:
            for array, nbytes in ((raw, self.vector), (sent, self.message)):
                array[owns] = round(self.steps * bytes_of_sum(nbytes / shards, machine.nodes))
        return Epoch(seconds, compute, wait, seconds - compute - wait, raw, sent)

    def parts(self) -> Iterable[slice]:
        """Return each rank's part of each bucket, as `onotrain.strategies.allreduce.nodes` sends them."""
        layout, shards = self.job.context.layout, self.job.world.shards
        for layers in layout.buckets(int(self.job.context.options.bucket_mib * 2**20)):
            yield from (layout.shard(rank, shards, layers) for rank in range(shards))

    def _exchange(self, crowd: float) -> float:
        """Return how long the gradients of all nodes are under way in a step [s]."""
        nodes, costs = self.machine.nodes, self.machine.costs
        if nodes == 1:
            return 0.0
        coding = costs.encode * (1 + 1 / nodes) + costs.decode * (1 + (nodes - 1) / nodes)
        added = self.memory_seconds(3 * (nodes - 1) / nodes * self.vector)
        return self.sum_over_nodes(self.message) + crowd * (coding + added) / self.job.world.shards

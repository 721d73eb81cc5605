"""Who serves what, who computes, and who shares a node."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onotrain.parallel.exchange import bytes_of_sum
from onotrain.parallel.world import World
from onotrain.strategies.context import Context
from onotrain.strategies.sums.small_sum import SmallSum
from onotrain.strategies.telemetry import Clock


class RoleCommunicator:
    """Sums over the ranks of a role.

    Parameters
    ----------
    world
        *Collective*: constructed by all ranks of the job.
    ranks
        Those of the role.
    clock
        Counts the seconds of sums.
    """

    def __init__(self, world: World, ranks: range, clock: Clock) -> None:
        self._comm = world.split(world.rank in ranks) if len(ranks) > 1 else None
        self._sum = None if self._comm is None else SmallSum(self._comm, clock)

    @property
    def several(self) -> bool:
        """Whether this rank has the role, with others."""
        return self._comm is not None

    def sum(self, values: np.ndarray) -> None:
        """Sum an array over these ranks, in place.  *Collective* over them."""
        if self._sum is not None:
            self._sum(values)

    def bytes_of_sum(self, values: np.ndarray) -> int:
        """Return what this rank sends for `sum`."""
        return 0 if self._comm is None else bytes_of_sum(values, self._comm)

    def close(self) -> None:
        """Free it."""
        if self._comm is not None:
            self._comm.Free()
            self._comm = self._sum = None


@dataclass(frozen=True)
class Roles:
    """Servers, which are the first ranks, and workers, both counted from 0."""

    rank: int
    servers: int
    workers: int
    #: Whether an update is made of all pushes of a batch.
    synchronous: bool
    #: Which range of the flat vector each server has.
    ranges: tuple[slice, ...]
    #: Index of the node of each rank.
    nodes: tuple[int, ...]
    server_communicator: RoleCommunicator
    worker_communicator: RoleCommunicator

    @classmethod
    def of(cls, context: Context, clock: Clock) -> Roles:
        """Return the roles in a job, the seconds of whose sums `clock` counts.  *Collective*."""
        world, layout, servers = context.world, context.layout, context.options.servers
        return cls(
            rank=world.rank,
            servers=servers,
            workers=world.size - servers,
            synchronous=context.options.bulk_synchronous,
            ranges=tuple(layout.shard(server, servers) for server in range(servers)),
            server_communicator=RoleCommunicator(world, range(servers), clock),
            worker_communicator=RoleCommunicator(world, range(servers, world.size), clock),
            nodes=tuple(world.comm.allgather(world.node_index)),
        )

    @property
    def range(self) -> slice:
        """That of this rank, as a server."""
        return self.ranges[self.rank]

    @property
    def worker(self) -> int:
        """Number of this rank as a worker."""
        return self.rank - self.servers

    def same_node(self, server: int, worker: int) -> bool:
        """Return whether a server and a worker share memory."""
        return self.nodes[server] == self.nodes[self.servers + worker]

    @property
    def senders(self) -> int:
        """How many ranks of this rank's node send anything to other nodes."""
        node, boundary = self.nodes[self.rank], self.servers
        servers, workers = self.nodes[:boundary].count(node), self.nodes[boundary:].count(node)
        return servers * (workers < self.workers) + workers * (servers < self.servers)

    @property
    def share_memory(self) -> bool:
        """Whether this rank's node has both servers and workers."""
        node = self.nodes[self.rank]
        return node in self.nodes[: self.servers] and node in self.nodes[self.servers :]

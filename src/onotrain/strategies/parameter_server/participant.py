"""What servers and workers have in common."""

from __future__ import annotations

import numpy as np

from onotrain.memory import check_memory
from onotrain.parallel.shared_memory import allocate
from onotrain.strategies.balance import LocalSlices
from onotrain.strategies.base import Strategy
from onotrain.strategies.context import Context
from onotrain.strategies.memory import Job, Memory
from onotrain.strategies.parameter_server.push_period import PushPeriod
from onotrain.strategies.parameter_server.roles import Roles
from onotrain.strategies.parameter_server.synchronization import SynchronizationPoints
from onotrain.strategies.parameter_server.timing import ServerTiming
from onotrain.strategies.telemetry import Telemetry


class Participant(Strategy):
    """A server or a worker.  The loss of any rank but the first can be outlived.

    Parameters
    ----------
    context
        *Collective*: the same on all ranks.
    """

    outlives_ranks = True
    timing = ServerTiming

    def __init__(self, context: Context) -> None:
        world, layout = context.world, context.layout
        self.telemetry = Telemetry(context.now, context.events)
        # First, for it is collective over the job: later, a rank may have failed to allocate and be gone.
        self.roles = Roles.of(context, self.telemetry.clock)
        self.batches = LocalSlices(
            world,
            context.make_balance,
            self.telemetry.clock,
            self.roles.servers,
            bulk_synchronous=self.roles.synchronous,
            local_mean=context.options.local_steps or not self.roles.synchronous,
            exchange_every=None,
        )
        #: After which steps workers push.
        self.period = PushPeriod(context.options.push_every)
        #: Gradients of all workers, in memory that this rank's node shares; None where it has no server or no worker.
        self.pushes: np.ndarray | None = None
        if self.roles.share_memory:
            shape = ((self.roles.workers, layout.size), layout.dtype)
            self.pushes = allocate(world.node, {"pushes": shape})["pushes"]
        check_memory(
            world.node.size * (2 if context.codec is None else 5) * layout.size * layout.dtype.itemsize,
            f"parameters and gradients of {world.node.size} ranks",
            hint="use strategy: allreduce, which shares the parameters",
        )
        self.parameters = layout.zeros()
        self.synchronization_points = SynchronizationPoints(
            self.batches, self.parameters, self.roles.ranges, self.telemetry.clock
        )

    @classmethod
    def memory(cls, job: Job) -> Memory:
        """Return parameters on each rank, the pushes that a node shares, and what this side has besides."""
        world, options, vector = job.world, job.context.options, job.vector
        servers, workers = options.servers, world.size - options.servers
        coded, overlaps, local = job.context.codec is not None, options.overlap, options.local_steps
        shares = servers < world.node.size  # the first node, where the servers are, has workers, too
        shared = {"gradients": workers * vector if shares else 0}
        own = {"parameters": vector, "activations": job.activations(servers)}
        if world.rank >= servers:
            gradients = (0 if shares else vector) + (vector if overlaps else 0)
            messages = (3 * vector if coded else 0) + (vector if overlaps else 0)
            if local:  # parameters that were pulled and, with overlap, those that the steps began from
                own |= {"state": job.state, "parameters": (3 if overlaps else 2) * vector}
            return Memory(shared, {**own, "gradients": gradients, "messages": messages})
        served, compensation = vector // servers, options.compensation
        kept = vector if world.rank == 0 else served  # rank 0 collects the state for checkpoints
        state = (len(job.context.optimizer.state_names) + len(compensation.vector_names)) * kept
        if local and world.rank > 0:  # workers have it
            state = 0
        copies = (workers if overlaps else 0) + (2 * (1 if options.bulk_synchronous else workers) if coded else 0)
        return Memory(
            shared,
            {
                **own,
                "state": state + compensation.other_vectors(workers) * served,
                "gradients": 0 if shares else workers * served,
                **job.kept(vector + state if world.rank == 0 else 0),
                "messages": copies * served + (3 * vector if coded else 0),
            },
            (len(compensation.vector_names) + coded) * vector,
        )

    def close(self) -> None:
        """Free what MPI holds."""
        self.roles.server_communicator.close()
        self.roles.worker_communicator.close()

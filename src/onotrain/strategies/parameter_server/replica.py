"""The replica of a parameter server's ranks: all have parameters, and servers or workers the optimiser's state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onotrain.parallel.collectives import broadcast_vector, move_vector
from onotrain.strategies.codecs import Feedback
from onotrain.strategies.context import Context
from onotrain.strategies.parameter_server.roles import Roles
from onotrain.strategies.replica import Committed, Copy, Noted, Replica
from onotrain.strategies.sums.coded_sum import Residuals


class ServedReplica(Replica):
    """Parameters on every rank, and on servers the state of their ranges, which rank 0 gathers for checkpoints.

    Where workers make updates of their own, each has the whole optimiser's state, which is the same on all of them at a
    synchronisation point, and no server has any but rank 0, for checkpoints.

    Parameters
    ----------
    context
        Of the job.
    roles
        Of its ranks.
    parameters, gradient, optimizer_state, strategy_state, noted
        As of `Replica`; the states of rank 0 are whole vectors, those of other servers their ranges.
    encoders
        Of a worker's pushes, one for each server; None for a push that no codec encodes.
    """

    def __init__(
        self,
        context: Context,
        roles: Roles,
        parameters: np.ndarray,
        gradient: np.ndarray | None = None,
        optimizer_state: Mapping[str, np.ndarray] | None = None,
        strategy_state: Mapping[str, np.ndarray] | None = None,
        *,
        encoders: Sequence[Feedback | None] = (),
        noted: Sequence[Noted],
    ) -> None:
        optimizer_state, strategy_state = optimizer_state or {}, strategy_state or {}
        self._comm, self._roles, self._of_workers = context.world.comm, roles, context.options.local_steps
        self._moved = [*optimizer_state.values(), *strategy_state.values()]
        coded = context.codec is not None
        #: What all workers' messages to the servers leave to be sent, and how it is shared among them.
        self._residual = context.layout.zeros() if coded else np.zeros(0, context.layout.dtype)
        self._residuals = self._residuals_of(encoders or [None] * roles.servers) if coded else []
        if roles.rank == 0 and coded:
            # Of a synchronous server, what is left to be sent is a part of the sum, as with `allreduce`; of local
            # steps a part of their delta, as with `local_sgd`.
            name = "gradient_residual" if roles.synchronous else "push_residual"
            name = "delta_residual" if self._of_workers else name
            strategy_state = {**strategy_state, name: self._residual}
        self._copy = Copy() if roles.rank == 0 else None
        super().__init__(
            parameters,
            gradient,
            optimizer_state,
            strategy_state,
            noted=noted,
            notes=context.notes,
            complete=roles.synchronous and roles.servers == 1 and not coded and not self._of_workers,
        )

    def _residuals_of(self, encoders: Sequence[Feedback | None]) -> list[Residuals]:
        """Return the residuals of the messages to each server that has workers on other nodes."""
        found = []
        for server, encoder in enumerate(encoders):
            senders = sum(not self._roles.same_node(server, worker) for worker in range(self._roles.workers))
            vector = self._residual[self._roles.ranges[server]]
            streams = [] if encoder is None else [(slice(0, len(vector)), encoder)]
            if senders:
                found.append(Residuals(self._comm, vector, streams, senders))
        return found

    def commit(self, steps: int, *, whole: bool) -> bool:
        """Copy the state where it is whole: on rank 0, where it is after every step of a lone synchronous server."""
        return self._copy is not None and self._copy.take(self, steps, whole=whole)

    def committed(self) -> Committed | None:
        """Return rank 0's copy."""
        return self._copy.taken if self._copy is not None else None

    def gather(self) -> None:
        """Bring the servers' states, and what messages have left to send, to rank 0.  *Collective*."""
        for residuals in self._residuals:
            residuals.share()
        self._move_state(from_first=False)

    def broadcast(self) -> None:
        """Copy rank 0's parameters to all ranks, and its state to those who keep it.  *Collective*."""
        for vector in (self.parameters, self._residual):
            broadcast_vector(self._comm, vector)
        for residuals in self._residuals:
            residuals.take()
        self._move_state(from_first=True)

    def _move_state(self, *, from_first: bool) -> None:
        """Copy the other servers' ranges of the state, or all of the workers', from rank 0 or to it.  *Collective*."""
        rank = self._roles.rank
        if self._of_workers:
            first = self._roles.servers
            for worker in range(first, self._comm.size) if from_first else (first,):
                for vector in self._moved if rank in (0, worker) else ():
                    move_vector(self._comm, vector, *((0, worker) if from_first else (worker, 0)))
            return
        for server, part in enumerate(self._roles.ranges):
            if server == 0 or rank not in (0, server):
                continue
            for vector in self._moved:
                own = vector[part] if rank == 0 else vector
                move_vector(self._comm, own, *((0, server) if from_first else (server, 0)))

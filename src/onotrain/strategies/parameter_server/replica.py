"""The replica of a parameter server's ranks: workers have parameters, servers their ranges of the state, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onotrain.parallel.collectives import broadcast_vector, move_vector
from onotrain.parallel.world import Comm
from onotrain.strategies.replica import Noted, Replica
from onotrain.strategies.sums.coded_sum import Residuals


class ServedReplica(Replica):
    """Parameters on every rank, and on servers the state of their ranges, which rank 0 gathers for checkpoints.

    Parameters
    ----------
    comm
        Of all ranks.
    parameters, gradient, optimizer_state, strategy_state, noted, notes, complete
        As of `Replica`; the states of rank 0 are whole vectors, those of other servers their ranges.
    ranges
        Of the servers.
    residual, residuals
        What all workers' messages leave to be sent, empty without a codec; and how it is shared among them.
    """

    def __init__(
        self,
        comm: Comm,
        parameters: np.ndarray,
        gradient: np.ndarray | None,
        optimizer_state: Mapping[str, np.ndarray],
        strategy_state: Mapping[str, np.ndarray],
        *,
        ranges: Sequence[slice],
        residual: tuple[str, np.ndarray],
        residuals: Sequence[Residuals],
        noted: Sequence[Noted],
        notes: Mapping[str, Any],
        complete: bool,
    ) -> None:
        name, self._residual = residual
        self._moved = [*optimizer_state.values(), *strategy_state.values()]
        if comm.rank == 0 and len(self._residual):
            strategy_state = {**strategy_state, name: self._residual}
        super().__init__(
            parameters, gradient, optimizer_state, strategy_state, noted=noted, notes=notes, complete=complete
        )
        self._comm, self._ranges, self._residuals = comm, ranges, residuals
        #: How often the parameters were set from outside.
        self.broadcasts = 0

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
        self.broadcasts += 1

    def _move_state(self, *, from_first: bool) -> None:
        """Copy the other servers' ranges of the state from rank 0 or to it.  *Collective* over the servers."""
        rank = self._comm.rank
        for server, part in enumerate(self._ranges):
            if server == 0 or rank not in (0, server):
                continue
            for vector in self._moved:
                own = vector[part] if rank == 0 else vector
                move_vector(self._comm, own, *((0, server) if from_first else (server, 0)))

"""The replica of strategies whose parameters lie once on each node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onotrain.parallel.collectives import broadcast_vector
from onotrain.parallel.world import Comm
from onotrain.strategies.allreduce.arena import Arena
from onotrain.strategies.allreduce.nodes import NodesSum
from onotrain.strategies.replica import Committed, Noted, Replica


class ArenaReplica(Replica):
    """Parameters and state that lie once on each node.

    Parameters
    ----------
    arena
        Of the node.
    gradient
        This rank's; None where ranks share activations.
    nodes
        Sums gradients over nodes; None for one node.
    noted, notes
        As of `Replica`.
    """

    def __init__(
        self,
        arena: Arena,
        gradient: np.ndarray | None,
        nodes: NodesSum | None,
        *,
        noted: Sequence[Noted],
        notes: Mapping[str, Any],
    ) -> None:
        residual = {} if arena.residual is None else {"gradient_residual": arena.residual}
        super().__init__(
            arena.parameters, gradient, arena.state, residual, noted=noted, notes=notes, complete=not residual
        )
        self._node, self._peers, self._nodes, self._kept = arena.node, arena.peers, nodes, arena.kept

    always_alike = True

    @property
    def copies(self) -> Comm | None:
        """The first rank of each node."""
        return self._peers if self._node.rank == 0 else None

    def commit(self, steps: int, *, whole: bool) -> bool:
        """Copy this rank's part of the state."""
        if self._kept is None:
            return False
        self._kept.commit(steps)
        return True

    def committed(self) -> Committed | None:
        """Return what is whole of the node's, without what messages of a codec had left to send."""
        found = None if self._kept is None else self._kept.whole()
        if found is None:
            return None
        steps, vectors = found
        return Committed(steps, vectors, self.notes())

    def gather(self) -> None:
        """Sum what messages of a codec have left to send.  *Collective*."""
        if self._nodes is not None:
            self._nodes.share_residuals()

    def broadcast(self) -> None:
        """Copy rank 0's parameters and state to the other nodes.  *Collective*."""
        if self._node.rank == 0 and self._peers is not None:
            for vector in (self.parameters, *self.optimizer_state.values(), *self.strategy_state.values()):
                broadcast_vector(self._peers, vector)
        self._node.Barrier()
        if self._nodes is not None:
            self._nodes.take_residuals()

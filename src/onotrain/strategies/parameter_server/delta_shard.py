"""A server's range of the parameters, where workers make updates of their own and push what these have changed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from onotrain.strategies.context import Context
from onotrain.strategies.parameter_server.shard import ServedShard


class DeltaShard(ServedShard):
    """Parameters of a range, from which deltas are subtracted.

    Workers have the optimiser's state; what rank 0 has of it here, checkpoints put in and take out.
    """

    def _new_state(self, context: Context, length: int) -> dict[str, np.ndarray]:
        return super()._new_state(context, length) if self._roles.rank == 0 else {}

    def update_with_batch(self, gradients: np.ndarray, learning_rate: float, number: int) -> float:
        """Subtract the deltas of all workers; return what `update` returns."""
        return self.update(gradients, 1.0, number)

    def update(self, gradients: np.ndarray, learning_rate: float, number: int) -> float:
        """Subtract the sum of some deltas.

        Parameters
        ----------
        gradients
            Shape ``(k, n)``: the deltas; the first is overwritten.
        learning_rate
            Factor on them, but for averaged tensors, which no compensation changes.
        number
            Of the update, counted from 1.

        Returns
        -------
        float
            0, or NaN if a delta is not finite: workers push the squares of their gradients themselves.
        """
        self._before_update()
        kernels, delta = self._optimizer.kernels, gradients[0]
        squares = kernels.sum_gradients(gradients, delta)
        end = len(delta) - self._averaged
        for part, factor in ((slice(0, end), learning_rate), (slice(end, None), 1.0)):
            kernels.add_scaled(delta[part], -factor, self.parameters[part])
        self._updates = number
        return 0.0 if math.isfinite(squares) else math.nan

    def notes(self) -> dict[str, Any]:
        """Return nothing: no rule counts these updates, and one that runs later counts steps before it."""
        return {}

    def restore(self, notes: Mapping[str, Any]) -> None:
        """Do nothing."""

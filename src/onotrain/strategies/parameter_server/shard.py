"""A server's range of the parameters, and its updates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from onotrain.strategies.context import Context
from onotrain.strategies.parameter_server.compensation import (
    COMPENSATIONS,
    Compensation,
    Place,
    Plain,
    Step,
)
from onotrain.strategies.parameter_server.message_pump import Push
from onotrain.strategies.parameter_server.roles import Roles


class ServedShard:
    """Parameters of a range, the optimiser's state of it, and what the compensation remembers.

    Updates are counted over all workers where each push is one, which Adam's bias corrections go by.  A strategy that
    runs before this one makes an update of every batch.

    Parameters
    ----------
    context
        Of the job.
    roles
        Of its ranks; this one is a server.
    parameters
        Flat vector.
    before_update
        Called before the parameters change.
    """

    def __init__(
        self, context: Context, roles: Roles, parameters: np.ndarray, before_update: Callable[[], None]
    ) -> None:
        layout, size = context.layout, roles.range.stop - roles.range.start
        self._optimizer, self._options = context.optimizer, context.options.compensation
        self._roles, self._before_update, self._total = roles, before_update, roles.server_communicator.sum
        # Rank 0 collects the others' state for checkpoints.
        length, own = (layout.size, roles.range) if roles.rank == 0 else (size, slice(0, size))
        #: As `Replica` wants them: whole on rank 0.
        self.optimizer_state = self._new_state(context, length)
        self.compensation_state = {name: np.zeros(length, layout.dtype) for name in self._options.vector_names}
        self._own_compensation_state = {name: vector[own] for name, vector in self.compensation_state.items()}
        state = [vector[own] for vector in self.optimizer_state.values()]
        self._shard = self._optimizer.shard(layout.tensors, roles.range, parameters[roles.range], state)
        self._averaged = layout.averaged_within(roles.range)
        self._compensation: Compensation = Plain()
        #: Updates made; None until a step or a checkpoint says how many there were before.
        self._updates: int | None = None
        #: Of the last push.
        self._learning_rate = 0.0

    def _new_state(self, context: Context, length: int) -> dict[str, np.ndarray]:
        return {name: np.zeros(length, context.layout.dtype) for name in context.optimizer.state_names}

    @property
    def parameters(self) -> np.ndarray:
        """Those of the range."""
        return self._shard.parameters

    @property
    def version(self) -> int:
        """Updates made; 0 as long as nobody has said how many there were before."""
        return self._updates or 0

    def bind(self, batch_size: int) -> None:
        """Make the compensation, for batches of `batch_size` samples.

        Raises
        ------
        ResourceError
            What it remembers does not fit in memory.
        """
        place = Place(
            len(self.parameters),
            self.parameters.dtype.name,
            self._roles.workers,
            batch_size,
            self._own_compensation_state,
            self._averaged,
        )
        self._compensation = COMPENSATIONS[self._options.name](self._options, place)

    def begin(self, batch: int) -> None:
        """Note that all workers have the parameters of now, and push `batch` next."""
        if self._updates is None:
            self._updates = batch - 1
        for worker in range(self._roles.workers):
            self.sent(worker, self.parameters)

    def sent(self, worker: int, parameters: np.ndarray) -> None:
        """Note that a worker computes with `parameters` from now on."""
        self._compensation.sent(worker, parameters)

    def apply(self, push: Push, staleness: int) -> float:
        """Make the update that a push by itself leads to, if any; one of no rows leads to none.

        Returns
        -------
        float
            Sum of squares of the update's gradient; not finite if the gradient is not.
        """
        self._learning_rate = push.learning_rate
        samples = push.statistics.samples
        if not samples:
            return 0.0
        return self._make(self._compensation.push(push.worker, push.gradient, self.parameters, staleness, samples))

    def flush(self) -> float:
        """Make the update that the compensation has held back, if any; return what `apply` returns."""
        return self._make(self._compensation.flush())

    def _make(self, step: Step | None) -> float:
        if step is None:
            return 0.0
        return self.update(step.gradient[np.newaxis], self._learning_rate * step.factor, self.version + 1)

    def update_with_batch(self, gradients: np.ndarray, learning_rate: float, number: int) -> float:
        """Make the update of a batch, which all workers have pushed; as `update`, with the trainer's learning rate."""
        return self.update(gradients, learning_rate, number)

    def update(self, gradients: np.ndarray, learning_rate: float, number: int) -> float:
        """Make an update with the sum of some gradients; return what `apply` returns.

        Parameters
        ----------
        gradients
            Shape ``(k, n)``; may be overwritten.
        learning_rate
            Step size.
        number
            Of the update, counted from 1.
        """
        self._before_update()
        squares = self._optimizer.update(self._shard, gradients, learning_rate, number, self._total)
        self._updates = number
        return squares

    def report(self) -> dict[str, Any]:
        """Return how many samples of the run had gradients that were too stale to be used, if any."""
        dropped = self._compensation.dropped_samples
        return {"dropped_samples": dropped} if dropped else {}

    def notes(self) -> dict[str, Any]:
        """Return how many updates there were."""
        return {} if self._updates is None else {"updates": self._updates}

    def restore(self, notes: Mapping[str, Any]) -> None:
        """Count on from there."""
        self._updates = notes.get("updates", self._updates)

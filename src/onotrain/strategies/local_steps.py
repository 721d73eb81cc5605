"""Steps that a rank makes alone until it meets others: what strategies with such steps have in common."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from onotrain.strategies.blocks import blocks
from onotrain.strategies.context import Context


class WholeUpdate:
    """Updates of all parameters by one rank, as one shard.

    Parameters
    ----------
    context
        Of the job.
    parameters, gradient
        Flat vectors of this rank; the parameters are updated in place, the gradient may be overwritten.
    state
        Flat vectors of the optimiser's state, by its `state_names`; updated in place.
    """

    def __init__(
        self, context: Context, parameters: np.ndarray, gradient: np.ndarray, state: Iterable[np.ndarray]
    ) -> None:
        layout = context.layout
        self._optimizer, self._rows = context.optimizer, gradient[np.newaxis]
        self._shard = context.optimizer.shard(layout.tensors, slice(0, layout.size), parameters, state)

    def __call__(self, learning_rate: float, number: int) -> float:
        """Make update `number`, counted from 1; return the sum of the gradient's squares."""
        return self._optimizer.update(self._shard, self._rows, learning_rate, number, _no_other_shards)


def _no_other_shards(values: np.ndarray) -> None:
    """Leave a sum over shards as it is: the one shard is the whole vector."""


# Parameters that have diverged overflow here too; the run finds that out by its losses, and reports it.
@np.errstate(over="ignore", invalid="ignore")
def write_delta(start: np.ndarray, parameters: np.ndarray, share: float, out: np.ndarray) -> None:
    """Write ``share (start - parameters)``, what a rank has gone down since it met others, to `out`.

    Parameters
    ----------
    start, parameters
        Flat vectors of one length and dtype: where this rank began, and where it is.
    share
        Of the samples that all ranks have seen meanwhile.
    out
        Like them; may be one of them.
    """
    for begin, w, delta in blocks(start, parameters, out):
        np.subtract(begin, w, out=delta)
        delta *= share

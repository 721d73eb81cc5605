"""What all compensations have, and those that need no memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np


class Step(NamedTuple):
    """An update that the server is to make now."""

    #: Flat vector, valid until the next push.
    gradient: np.ndarray
    #: Factor on the learning rate.
    factor: float = 1.0


@dataclass(frozen=True)
class Place:
    """The server that a compensation works for."""

    #: Length of its part of the flat vector.
    size: int
    #: ``float32`` or ``float64``.
    dtype: str
    workers: int
    #: Samples of an update in synchronous training.
    batch_size: int
    #: The vectors of the options' `vector_names`, zero at first, which checkpoints keep.
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)
    #: How many values at the end of the part belong to averaged tensors.
    averaged: int = 0


class Compensation(Protocol):
    """What becomes of stale gradients."""

    def sent(self, worker: int, parameters: np.ndarray) -> None:
        """Note that `parameters` (as they are now) were sent to `worker`."""
        ...

    def push(
        self, worker: int, gradient: np.ndarray, parameters: np.ndarray, staleness: int, samples: int
    ) -> Step | None:
        """Take in a gradient; return the update to make now, if any.

        Parameters
        ----------
        worker
            Who sent it.
        gradient
            Mean over the `samples`, flat, float32 or float64; may be overwritten.
        parameters
            The server's, as they are now; read only.
        staleness
            Updates since the parameters that the gradient belongs to.
        samples
            How many it is the mean of.
        """
        ...

    def flush(self) -> Step | None:
        """Return the update to make of what is held back, if any: at every synchronisation point."""
        ...

    @property
    def dropped_samples(self) -> int:
        """Samples so far whose gradients were too stale to be used."""
        ...


class Plain:
    """Nothing: each gradient is applied as it is.  Also what the other rules are, where they say nothing else."""

    def sent(self, worker: int, parameters: np.ndarray) -> None:
        """Do nothing."""

    def push(
        self, worker: int, gradient: np.ndarray, parameters: np.ndarray, staleness: int, samples: int
    ) -> Step | None:
        """Apply it."""
        return Step(gradient)

    def flush(self) -> Step | None:
        """Nothing is held back."""
        return None

    dropped_samples = 0


#: Of what compensations compute, only gradients that have diverged overflow, which whoever applies them finds out.
quiet = np.errstate(over="ignore", invalid="ignore")


class LearningRate(Plain):
    """A rate divided by the staleness (Zhang et al., arXiv 1511.05950): factor ``1 / max(1, tau)``."""

    def push(
        self, worker: int, gradient: np.ndarray, parameters: np.ndarray, staleness: int, samples: int
    ) -> Step | None:
        """Apply it more gently."""
        return Step(gradient, 1.0 / max(1, staleness))

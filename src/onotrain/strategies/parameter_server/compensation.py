"""What a parameter server does with a gradient that is stale, in place on flat vectors.

A server passes each gradient on its way to the optimiser through `push`, and calls `sent` whenever it sends its
parameters to a worker.  A worker's gradient is the mean over the samples of its push; its staleness is the number of
updates between the parameters that it was computed with and now.  A new rule is a class with the members of
`Compensation` and a line in `COMPENSATIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from onotrain.memory import check_memory
from onotrain.optim import Optimizer
from onotrain.strategies.blocks import BLOCK, blocks, flush_subnormals


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
    #: The vectors of `vector_names`, zero at first, which checkpoints keep.
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)


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
        """Return the update to make of what is held back, if any: whenever all meet."""
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


# In what follows only gradients that have diverged overflow, which whoever applies them finds out and reports.
_quiet = np.errstate(over="ignore", invalid="ignore")


class LearningRate(Plain):
    """A rate divided by the staleness (Zhang et al., arXiv 1511.05950): factor ``1 / max(1, tau)``."""

    def push(
        self, worker: int, gradient: np.ndarray, parameters: np.ndarray, staleness: int, samples: int
    ) -> Step | None:
        """Apply it more gently."""
        return Step(gradient, 1.0 / max(1, staleness))


class Delay(Plain):
    """DC-ASGD (Zheng et al., arXiv 1609.08326, algorithm 2): ``g + lambda g*g*(w - w_sent)``, element by element.

    ``g*g`` stands for the diagonal of the Hessian, so this is the gradient's first-order change from the parameters
    that were sent to the worker to those of now.  Adaptive: ``lambda / sqrt(mean + eps)`` with the running mean
    ``mean <- m mean + (1 - m) g*g``, eps 1e-7 (DC-ASGD-a).  It holds a copy of the server's parameters per worker,
    which no checkpoint keeps, for after a restart all are sent anew.

    Parameters
    ----------
    place
        The server.
    strength
        ``lambda``.
    adaptive
        Whether it is divided by the root of the running mean.
    decay
        ``m``.

    Raises
    ------
    ResourceError
        The copies do not fit in memory.
    """

    EPS = 1e-7

    def __init__(self, place: Place, strength: float, adaptive: bool, decay: float) -> None:
        self._strength, self._decay = strength, decay
        check_memory(
            place.workers * place.size * np.dtype(place.dtype).itemsize,
            f"a copy of the parameters for each of {place.workers} workers",
            hint="use another compensation, or more servers",
        )
        self._sent = np.zeros((place.workers, place.size), place.dtype)
        self._mean = place.vectors["mean_square"] if adaptive else None
        self._scratch = np.empty((2, min(place.size, BLOCK)), place.dtype)

    def sent(self, worker: int, parameters: np.ndarray) -> None:
        """Keep a copy."""
        self._sent[worker] = parameters

    @_quiet
    def push(
        self, worker: int, gradient: np.ndarray, parameters: np.ndarray, staleness: int, samples: int
    ) -> Step | None:
        """Correct it and apply it."""
        if self._mean is None:
            for g, w, sent in blocks(gradient, parameters, self._sent[worker]):
                self._correct(g, w, sent, None)
        else:
            for g, w, sent, mean in blocks(gradient, parameters, self._sent[worker], self._mean):
                self._correct(g, w, sent, mean)
        return Step(gradient)

    def _correct(self, g: np.ndarray, w: np.ndarray, sent: np.ndarray, mean: np.ndarray | None) -> None:
        change, squares = self._scratch[:, : len(g)]
        np.subtract(w, sent, out=change)
        np.multiply(g, g, out=squares)
        change *= squares
        change *= self._strength
        if mean is not None:
            mean *= self._decay
            squares *= 1.0 - self._decay
            mean += squares
            flush_subnormals(mean)
            np.add(mean, self.EPS, out=squares)
            change /= np.sqrt(squares, out=squares)
        g += change


class ConstantBatch(Plain):
    """GBA (Su et al., arXiv 2205.11048): one update per global batch, whoever computed it.

    Pushes are summed until they make `batch_size` samples, and then applied as one gradient, so that the hyper-
    parameters of synchronous training hold.  One that is staler than `limit` gets weight 0: its samples count, for an
    epoch is to have as many updates as in synchronous training, and the divisor is all samples, for every other
    gradient is to weigh what it weighs there.  Where all were too stale there is nothing to apply, and no update.

    The paper's staleness is that of the token which a batch was given when it was handed out, which is the number of
    the update that the batch was meant for; here it is that of the parameters, which is measured anyway.

    Parameters
    ----------
    place
        The server.
    limit
        Largest staleness of a gradient that is used [updates] (``iota``).
    """

    def __init__(self, place: Place, limit: int) -> None:
        self._batch_size, self._limit = place.batch_size, limit
        self._sum = np.zeros(place.size, place.dtype)
        self._scratch = np.empty(min(place.size, BLOCK), place.dtype)
        self._samples = self._used = 0
        #: Samples of the run whose gradients were too stale to be used.
        self.dropped_samples = 0

    @_quiet
    def push(
        self, worker: int, gradient: np.ndarray, parameters: np.ndarray, staleness: int, samples: int
    ) -> Step | None:
        """Add it up, and apply the sum when it is complete."""
        if self._samples == 0:
            self._sum[:] = 0.0  # not earlier: the last update may have used it until now
        self._samples += samples
        if staleness <= self._limit:
            self._used += samples
            for g, total in blocks(gradient, self._sum):
                total += np.multiply(g, samples, out=self._scratch[: len(g)])
        else:
            self.dropped_samples += samples
        return self.flush() if self._samples >= self._batch_size else None

    def flush(self) -> Step | None:
        """Apply the sum as it is, over as many samples as there are."""
        samples, used = self._samples, self._used
        self._samples = self._used = 0
        if used == 0:
            return None
        self._sum /= samples
        return Step(self._sum)


#: By the name in the configuration; options: `strength`, `adaptive`, `decay` of `Delay`, `limit` of `ConstantBatch`.
COMPENSATIONS: dict[str, Callable[[Any, Place], Compensation]] = {
    "none": lambda options, place: Plain(),
    "learning_rate": lambda options, place: LearningRate(),
    "delay": lambda options, place: Delay(place, options.strength, options.adaptive, options.decay),
    "constant_batch": lambda options, place: ConstantBatch(place, options.limit),
}


def vector_names(options: Any) -> tuple[str, ...]:
    """Return the names of the vectors that a compensation remembers, besides what was sent to workers."""
    return ("mean_square",) if options.name == "delay" and options.adaptive else ()


def rate_power(options: Any, optimizer: Optimizer) -> float:
    """Return the power of a push's share of the global batch that its learning rate is multiplied by.

    Parameters
    ----------
    options
        Of the parameter server.
    optimizer
        Decides what `auto` is.
    """
    if options.staleness == 0 or options.compensation.name == "constant_batch":
        return 0.0  # updates are of whole batches
    powers = {"auto": optimizer.rate_power, "none": 0.0, "root": 0.5, "linear": 1.0}
    return powers[options.rate_scaling]

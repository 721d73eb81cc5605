"""Delay compensation: a gradient's first-order change since its parameters were sent."""

from __future__ import annotations

import numpy as np

from onotrain.memory import check_memory
from onotrain.strategies.blocks import BLOCK, blocks, flush_subnormals
from onotrain.strategies.parameter_server.compensation.base import Place, Plain, Step, quiet


class Delay(Plain):
    """DC-ASGD (Zheng et al., arXiv 1609.08326, algorithm 2): ``g + lambda g*g*(w - w_sent)``, element by element.

    ``g*g`` stands for the diagonal of the Hessian, so this is the gradient's first-order change from the parameters
    that were sent to the worker to those of now.  Adaptive: ``lambda / sqrt(mean + eps)`` with the running mean
    ``mean <- m mean + (1 - m) g*g``, eps 1e-7 (DC-ASGD-a).  It holds a copy of the server's parameters per worker,
    which no checkpoint keeps, for after a restart all are sent anew.  Averaged tensors have no loss that could change.

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
        self._strength, self._decay, self._end = strength, decay, place.size - place.averaged
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

    @quiet
    def push(
        self, worker: int, gradient: np.ndarray, parameters: np.ndarray, staleness: int, samples: int
    ) -> Step | None:
        """Correct it and apply it."""
        vectors = [vector[: self._end] for vector in (gradient, parameters, self._sent[worker])]
        if self._mean is None:
            for g, w, sent in blocks(*vectors):
                self._correct(g, w, sent, None)
        else:
            for g, w, sent, mean in blocks(*vectors, self._mean[: self._end]):
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

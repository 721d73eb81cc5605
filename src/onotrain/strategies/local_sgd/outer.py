"""Local SGD: what is made of the mean of the ranks' parameters, in place on flat vectors.

``start`` are the parameters that all ranks left the last average with, ``mean`` is the average of theirs now, and
``delta = start - mean`` is taken for a gradient.  A new rule is a class with the members of `Outer` and a line in
`OUTERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from onotrain.strategies.blocks import BLOCK, blocks, flush_subnormals


class Outer(Protocol):
    """One outer step after each period."""

    def step(self, start: np.ndarray, parameters: np.ndarray) -> None:
        """Turn the mean into the next parameters.

        Parameters
        ----------
        start
            Flat vector, float32 or float64, of the length of the state or the beginning of one that long: parameters at
            the beginning of the period; overwritten with the new ones.
        parameters
            Of the same length and dtype: the mean of the ranks' parameters; overwritten with the new ones.
        """
        ...

    def state(self) -> dict[str, np.ndarray]:
        """Return the flat vectors that a checkpoint must keep, by name; views, which are also written to restore."""
        ...


class Average:
    """The mean itself."""

    def step(self, start: np.ndarray, parameters: np.ndarray) -> None:
        """``w <- mean``."""
        start[...] = parameters

    def state(self) -> dict[str, np.ndarray]:
        """Return nothing: there is none."""
        return {}


# In what follows only parameters that have diverged overflow, which the run finds out by its losses and reports.
_quiet = np.errstate(over="ignore", invalid="ignore")


class Nesterov:
    """Momentum on the difference (DiLoCo: Douillard et al., arXiv 2311.08105, algorithm 1).

    ``u <- mu u + delta; w <- start - lr (delta + mu u)``.  Computed as ``mean + (1 - lr) delta - lr mu u``, which is
    the same and for ``lr = 1, mu = 0`` equals the mean, where ``start - (start - mean)`` would round.

    Parameters
    ----------
    size, dtype
        Of the flat vectors.
    learning_rate, momentum
        ``lr`` and ``mu``; 0.7 and 0.9 in the paper.
    """

    def __init__(self, size: int, dtype: str, learning_rate: float, momentum: float) -> None:
        self._rate, self._momentum = learning_rate, momentum
        self._velocity = np.zeros(size, dtype)

    @_quiet
    def step(self, start: np.ndarray, parameters: np.ndarray) -> None:
        """``w <- start - lr (delta + mu u)``."""
        for delta, w, u in blocks(start, parameters, self._velocity[: len(start)]):
            delta -= w
            u *= self._momentum
            u += delta
            flush_subnormals(u)
            delta *= 1.0 - self._rate
            w += delta
            np.multiply(u, self._rate * self._momentum, out=delta)
            w -= delta
            delta[...] = w

    def state(self) -> dict[str, np.ndarray]:
        """Return ``u``."""
        return {"velocity": self._velocity}


class Adam:
    """FedAdam (Reddi et al., arXiv 2003.00295, algorithm 2), without bias correction, as there.

    ``m <- b1 m + (1 - b1) delta; v <- b2 v + (1 - b2) delta^2; w <- start - lr m / (sqrt(v) + tau)``, with ``m = 0``
    and ``v = tau^2`` at first.

    Parameters
    ----------
    size, dtype
        Of the flat vectors.
    learning_rate
        ``lr``.
    betas
        ``b1`` and ``b2``.
    tau
        Degree of adaptivity, the paper's name for the small number that keeps the divisor from 0.
    """

    def __init__(self, size: int, dtype: str, learning_rate: float, betas: tuple[float, float], tau: float) -> None:
        self._rate, self._betas, self._tau = learning_rate, betas, tau
        self._m = np.zeros(size, dtype)
        self._v = np.full(size, tau * tau, dtype)
        self._scratch = np.empty(min(size, BLOCK), dtype)

    @_quiet
    def step(self, start: np.ndarray, parameters: np.ndarray) -> None:
        """``w <- start - lr m / (sqrt(v) + tau)``."""
        beta1, beta2 = self._betas
        for begin, w, m, v in blocks(start, parameters, self._m[: len(start)], self._v[: len(start)]):
            delta, scratch = w, self._scratch[: len(w)]
            np.subtract(begin, w, out=delta)
            m *= beta1
            m += np.multiply(delta, 1.0 - beta1, out=scratch)
            np.multiply(delta, delta, out=scratch)
            scratch *= 1.0 - beta2
            v *= beta2
            v += scratch
            flush_subnormals(m)
            flush_subnormals(v)
            np.sqrt(v, out=scratch)
            scratch += self._tau
            np.divide(m, scratch, out=scratch)
            scratch *= self._rate
            np.subtract(begin, scratch, out=w)
            begin[...] = w

    def state(self) -> dict[str, np.ndarray]:
        """Return the running means."""
        return {"m": self._m, "v": self._v}


#: By the name in the configuration; options (`learning_rate`, `momentum`, `betas`, `tau`), size and dtype.
OUTERS: dict[str, Callable[[Any, int, str], Outer]] = {
    "none": lambda options, size, dtype: Average(),
    "nesterov": lambda options, size, dtype: Nesterov(size, dtype, options.learning_rate, options.momentum),
    "adam": lambda options, size, dtype: Adam(size, dtype, options.learning_rate, options.betas, options.tau),
}

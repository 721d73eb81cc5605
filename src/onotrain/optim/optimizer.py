"""Update rules on a shard of the flat parameter vector.

A rule is one fused kernel: sum the gradient rows of the ranks in their fixed order, scale, decay, update, write.  Of a
dense layer's weight it also takes the factors of its gradient, and multiplies them on the way.
Formulas are those of PyTorch's optimisers of the same names, so that learning rates carry over.  A new rule is a
function with the signature of `Rule` and a line in `RULES`.

References
----------
Kingma and Ba, arXiv 1412.6980 (Adam); Loshchilov and Hutter, arXiv 1711.05101 (decoupled weight decay); Duchi et al.,
JMLR 12, 2011 (Adagrad); You et al., arXiv 1904.00962 (LAMB).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from onotrain._kernels import Kernels

#: Sums a small float64 array in place over all shards of the parameters.  *Collective* over the owners of the shards.
Total = Callable[[np.ndarray], None]


@dataclass(frozen=True)
class Shard:
    """A contiguous range of the flat vector, with the part of the optimiser state that belongs to it."""

    parameters: np.ndarray
    state: Mapping[str, np.ndarray]
    #: The tensors that reach into the shard: number in the layout, and range within the shard.
    segments: tuple[tuple[int, slice], ...]
    tensor_count: int
    #: Whether ranks on other cores read the parameters.
    shared: bool

    @classmethod
    def of(
        cls,
        tensors: Sequence[slice],
        part: slice,
        parameters: np.ndarray,
        state: Mapping[str, np.ndarray],
        *,
        shared: bool = False,
    ) -> Shard:
        """Return the shard `part` of the flat vectors `parameters` and `state`, in which `tensors` lie."""
        ranges = [slice(max(t.start, part.start) - part.start, min(t.stop, part.stop) - part.start) for t in tensors]
        segments = tuple((index, r) for index, r in enumerate(ranges) if r.start < r.stop)
        return cls(parameters[part], {name: flat[part] for name, flat in state.items()}, segments, len(ranges), shared)


class Gradient(NamedTuple):
    """What the gradient of some parameters is made of."""

    #: Shape ``(k, n)``: rows to be summed in their order; with `inputs`, ``(r, o)``.
    rows: np.ndarray
    #: None; or ``(r, i)``: the gradient is ``rows^T inputs``, n = o i.
    inputs: np.ndarray | None = None


class Update(NamedTuple):
    """What one step of a rule is a function of, besides the gradient."""

    kernels: Kernels
    options: Any
    learning_rate: float
    #: Number of this update, counted from 1.
    number: int
    #: Factor on the gradient, from clipping.
    scale: float
    total: Total

    @property
    def corrections(self) -> tuple[float, float]:
        """Adam's bias corrections of this update."""
        beta1, beta2 = self.options.betas
        return 1.0 - beta1**self.number, 1.0 - beta2**self.number


Rule = Callable[[Update, Gradient, Shard], float]


def _sgd(u: Update, gradient: Gradient, shard: Shard) -> float:
    o = u.options
    return u.kernels.sgd(
        *gradient, u.scale, u.learning_rate, o.momentum, o.nesterov, o.weight_decay, o.decoupled, shard.shared,
        shard.state.get("velocity"), shard.parameters,
    )  # fmt: skip


def _adam(u: Update, gradient: Gradient, shard: Shard) -> float:
    o = u.options
    return u.kernels.adam(
        *gradient, u.scale, u.learning_rate, *o.betas, o.eps, *u.corrections, o.weight_decay, o.decoupled, shard.shared,
        shard.state["m"], shard.state["v"], shard.parameters,
    )  # fmt: skip


def _rmsprop(u: Update, gradient: Gradient, shard: Shard) -> float:
    o = u.options
    return u.kernels.rmsprop(
        *gradient, u.scale, u.learning_rate, o.alpha, o.eps, o.momentum, o.weight_decay, o.decoupled, shard.shared,
        shard.state["square"], shard.state.get("velocity"), shard.parameters,
    )  # fmt: skip


def _adagrad(u: Update, gradient: Gradient, shard: Shard) -> float:
    o = u.options
    return u.kernels.adagrad(
        *gradient, u.scale, u.learning_rate, o.eps, o.weight_decay, o.decoupled, shard.shared,
        shard.state["square"], shard.parameters,
    )  # fmt: skip


def _lamb(u: Update, gradient: Gradient, shard: Shard) -> float:
    """Each tensor's step is scaled by ``|w| / |direction|``; its norms are summed over the shards that it lies in."""
    o, kernels = u.options, u.kernels
    direction = gradient.rows[0]  # read element by element before it is written
    squares = kernels.lamb_direction(
        gradient.rows, u.scale, *o.betas, o.eps, *u.corrections, o.weight_decay, o.decoupled,
        shard.parameters, shard.state["m"], shard.state["v"], direction,
    )  # fmt: skip
    norms = np.zeros((shard.tensor_count, 2))
    for tensor, part in shard.segments:
        norms[tensor] = kernels.sum_of_squares(shard.parameters[part]), kernels.sum_of_squares(direction[part])
    u.total(norms)
    for tensor, part in shard.segments:
        weight, step = np.sqrt(norms[tensor])
        ratio = weight / step if weight > 0 and step > 0 else 1.0
        kernels.add_scaled(direction[part], -u.learning_rate * ratio, shard.parameters[part])
    return squares


def _momentum_state(options: Any) -> tuple[str, ...]:
    return ("velocity",) if options.momentum else ()


#: The rule, and the names of the flat vectors that are its state, by the optimiser's name in the configuration.
RULES: dict[str, tuple[Rule, Callable[[Any], tuple[str, ...]]]] = {
    "sgd": (_sgd, _momentum_state),
    "adam": (_adam, lambda options: ("m", "v")),
    "adamw": (_adam, lambda options: ("m", "v")),
    "rmsprop": (_rmsprop, lambda options: ("square", *_momentum_state(options))),
    "adagrad": (_adagrad, lambda options: ("square",)),
    "lamb": (_lamb, lambda options: ("m", "v")),
}


class Optimizer:
    """An update rule with its options, and clipping by the global norm in front of it.

    Parameters
    ----------
    spec
        The ``optimizer`` section of the configuration.
    clip_norm
        Longest gradient (L2 norm over all parameters), or None.
    kernels
        Kernels of the parameters' dtype.
    """

    def __init__(self, spec: Any, clip_norm: float | None, kernels: Kernels) -> None:
        self._rule, state_names = RULES[spec.name]
        self.state_names = state_names(spec)
        self._options = spec
        self._clip_norm = clip_norm
        self._kernels = kernels
        #: Power of the batch size that the learning rate goes with, for about the same training from fewer rows:
        #: Goyal et al., arXiv 1706.02677 (SGD); Malladi et al., arXiv 2205.10287 (Adam, RMSprop).
        self.rate_power = 1.0 if spec.name == "sgd" else 0.5

    def sum(self, gradients: np.ndarray, out: np.ndarray) -> None:
        """Write the sum of the rows ``(k, n)`` to `out`, which may be row 0."""
        self._kernels.sum_gradients(gradients, out)

    def update(self, shard: Shard, gradients: np.ndarray, learning_rate: float, number: int, total: Total) -> float:
        """Apply one update to a shard.  *Collective* over the owners of the shards: same rate and number.

        Parameters
        ----------
        shard
            Parameters and state, updated in place.
        gradients
            Shape ``(k, n)``: the rows to be summed; row 0 may be overwritten.
        learning_rate
            Step size of this update.
        number
            Number of this update, counted from 1.
        total
            Sums over all shards.

        Returns
        -------
        float
            Sum of squares of the summed gradient in this shard; not finite if the gradient is not.
        """
        scale = 1.0
        if self._clip_norm is not None:
            squares = self._kernels.sum_gradients(gradients, gradients[0])
            gradients = gradients[:1]
            norm = np.array([squares])
            total(norm)
            scale = min(1.0, self._clip_norm / (math.sqrt(norm[0]) + 1e-6))
        step = Update(self._kernels, self._options, learning_rate, number, scale, total)
        return self._rule(step, Gradient(gradients), shard)

    @property
    def elementwise(self) -> bool:
        """Whether no parameter's step depends on the gradients of others: neither clipping nor norms of tensors."""
        return self._clip_norm is None and self._rule is not _lamb

    def update_each(self, parts: Sequence[tuple[Gradient, Shard]], learning_rate: float, number: int) -> float:
        """Apply one update, which must be `elementwise`, to some shards.

        Returns
        -------
        float
            Sum of squares of their gradients, as of `update`.
        """
        step = Update(self._kernels, self._options, learning_rate, number, 1.0, _no_total)
        return math.fsum(self._rule(step, gradient, shard) for gradient, shard in parts)


def _no_total(values: np.ndarray) -> None:
    """Refuse to sum over shards: an elementwise rule does not ask for it."""
    raise AssertionError("an elementwise update has no sums over shards")

"""Update rules on a shard of the flat parameter vector.

An update is one fused kernel: sum the gradient rows of the ranks in their fixed order, scale, decay, apply the rule
(`onotrain.config.optimizer`), write.  Of a dense layer's weight it also takes the factors of its gradient, and
multiplies them on the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from onotrain._kernels import Kernels
from onotrain._kernels.recording import Program
from onotrain.config.optimizer import UpdateRule

#: Sums a small float64 array in place over all shards of the parameters.  *Collective* over the owners of the shards.
Total = Callable[[np.ndarray], None]


@dataclass(frozen=True)
class Shard:
    """A contiguous range of the flat vector, with the part of the optimiser state that belongs to it."""

    parameters: np.ndarray
    #: Its vectors by `Optimizer.state_names`.
    state: tuple[np.ndarray, ...]
    #: The trained tensors that reach into the shard: number in the layout, and range within the shard.
    segments: tuple[tuple[int, slice], ...]
    tensor_count: int
    #: Whether ranks on other cores read the parameters.
    shared: bool
    #: What updates change of it, if not everything: ranges within the shard.
    trained: tuple[slice, ...] | None = None

    @classmethod
    def of(
        cls,
        tensors: Sequence[slice],
        part: slice,
        parameters: np.ndarray,
        state: Iterable[np.ndarray],
        *,
        shared: bool = False,
        frozen: Sequence[slice] = (),
    ) -> Shard:
        """Return the shard `part` of the flat vectors `parameters` and `state`, in which `tensors` lie.

        Those of them that are `frozen` no update changes.
        """
        ranges = [slice(max(t.start, part.start) - part.start, min(t.stop, part.stop) - part.start) for t in tensors]
        segments = tuple(
            (index, r) for index, r in enumerate(ranges) if r.start < r.stop and tensors[index] not in frozen
        )
        trained = tuple(r for _, r in segments) if frozen else None
        return cls(parameters[part], tuple(flat[part] for flat in state), segments, len(ranges), shared, trained)

    def parts(self, gradients: np.ndarray) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, ...], np.ndarray]]:
        """Yield gradients ``(k, n)``, state and parameters of all that updates change, range by range."""
        if self.trained is None:
            yield gradients, self.state, self.parameters
            return
        for part in self.trained:
            yield gradients[:, part], tuple(vector[part] for vector in self.state), self.parameters[part]


class Gradient(NamedTuple):
    """What the gradient of some parameters is made of."""

    #: Shape ``(k, n)``: rows to be summed in their order; with `inputs`, ``(r, o)``.
    rows: np.ndarray
    #: None; or ``(r, i)``: the gradient is ``rows^T inputs``, n = o i.
    inputs: np.ndarray | None = None


@dataclass(frozen=True)
class RecordedUpdate:
    """Updates of some shards; see `Optimizer.record`."""

    program: Program
    #: Gives the scalars of the rule for a learning rate and the number of an update.
    scalars_of: Callable[[float, int], tuple[float, ...]]
    #: float64: those of the step at hand, and the sums of squares of the gradients of the shards.
    scalars: np.ndarray
    squares: np.ndarray

    def run(self, learning_rate: float, number: int) -> float:
        """Apply one update; parameters and result as of `Optimizer.update`."""
        self.scalars[:] = self.scalars_of(learning_rate, number)
        self.program.run(number, 0, 0.0)
        return math.fsum(self.squares.tolist())


class Optimizer:
    """An update rule, and clipping by the global norm in front of it.

    Parameters
    ----------
    rule
        The ``optimizer`` section of the configuration.
    clip_norm
        Longest gradient (L2 norm over all parameters), or None.
    kernels
        Kernels of the parameters' dtype.
    """

    def __init__(self, rule: UpdateRule, clip_norm: float | None, kernels: Kernels) -> None:
        self._rule = rule
        self._clip_norm = clip_norm
        self._kernels = kernels
        self.state_names = rule.state_names
        #: Power of the batch size that the learning rate goes with.
        self.rate_power = rule.rate_power
        #: Whether no parameter's step depends on the gradients of others: neither clipping nor norms of tensors.
        self.elementwise = rule.elementwise and clip_norm is None

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
            squares = sum(self._kernels.sum_gradients(rows, rows[0]) for rows, _, _ in shard.parts(gradients))
            gradients = gradients[:1]
            norm = np.array([squares])
            total(norm)
            scale = min(1.0, self._clip_norm / (math.sqrt(norm[0]) + 1e-6))
        rule, scalars = self._rule, self._scalars(scale, learning_rate, number)
        run, parts = self._kernels.update, shard.parts(gradients)
        if rule.elementwise:
            return sum(
                run(rule, scalars, rows, None, shard.shared, state, None, parameters)
                for rows, state, parameters in parts
            )
        # The direction takes the place of the gradient, which is read element by element before that is written.
        squares = sum(
            run(rule, scalars, rows, None, False, state, parameters, rows[0]) for rows, state, parameters in parts
        )
        self._follow(gradients[0], shard, learning_rate, total)
        return squares

    def record(self, parts: Sequence[tuple[Gradient, Shard]]) -> RecordedUpdate:
        """Return updates, which must be `elementwise`, of some shards, to be run in every step."""
        scalars, squares = np.array(self._scalars(1.0, 1.0, 1)), np.zeros((len(parts), 1))
        calls = [
            self._kernels.record_update(
                self._rule, scalars, *gradient, shard.shared, shard.state, shard.parameters, out
            )
            for (gradient, shard), out in zip(parts, squares, strict=True)
        ]
        return RecordedUpdate(self._kernels.program(calls), partial(self._scalars, 1.0), scalars, squares.reshape(-1))

    def values_moved(self, rows: int) -> int:
        """Return how many values an update of `rows` gradient rows reads and writes for each parameter.

        Gradients, and parameters and state both ways; without `elementwise` in three passes: the direction, the norms
        of direction and parameters, the step.
        """
        return rows + 2 * len(self.state_names) + (2 if self._rule.elementwise else 7)

    def _scalars(self, scale: float, learning_rate: float, number: int) -> tuple[float, ...]:
        return scale, *self._rule.decay(learning_rate), *self._rule.scalars(learning_rate, number)

    def _follow(self, direction: np.ndarray, shard: Shard, learning_rate: float, total: Total) -> None:
        """Step against the direction, in each tensor by `learning_rate` times the norm of its parameters."""
        kernels = self._kernels
        norms = np.zeros((shard.tensor_count, 2))
        for tensor, part in shard.segments:
            norms[tensor] = kernels.sum_of_squares(shard.parameters[part]), kernels.sum_of_squares(direction[part])
        total(norms)
        for tensor, part in shard.segments:
            weight, step = np.sqrt(norms[tensor])
            ratio = weight / step if weight > 0 and step > 0 else 1.0
            kernels.add_scaled(direction[part], -learning_rate * ratio, shard.parameters[part])

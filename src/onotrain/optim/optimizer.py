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
from typing import Any, NamedTuple

import numpy as np

from onotrain._kernels import Kernels
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
    """Updates of some shards, for a program of several steps; see `Optimizer.record`."""

    #: Calls that sum the gradient, and leave its squares, before it is clipped; empty where it is not.
    sums: list[Any]
    #: Calls that apply the updates, and leave the squares of the gradient where it is not clipped.
    updates: list[Any]
    #: float64 ``(shards,)``: sums of squares of the gradients of the shards.
    squares: np.ndarray
    #: float64 ``(steps, n)``: the scalars of each step, the first of which is the scale of the gradient.
    scalars: np.ndarray
    #: Gives the scalars of the rule for a learning rate and the number of an update.
    scalars_of: Callable[[float, int], tuple[float, ...]]

    def prepare(self, learning_rates: Sequence[float], number: int) -> None:
        """Set the scalars of the next steps, the first of which is update `number`, counted from 1."""
        scalars_of = self.scalars_of
        found = [scalars_of(rate, number + index) for index, rate in enumerate(learning_rates)]
        self.scalars[: len(found)] = found


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
        #: Longest gradient, or None.
        self.clip_norm = clip_norm
        #: Of the parameters' dtype.
        self.kernels = kernels
        self.state_names = rule.state_names
        #: Power of the batch size that the learning rate goes with.
        self.rate_power = rule.rate_power
        #: Whether no parameter's step depends on the gradients of others: neither clipping nor norms of tensors.
        self.elementwise = rule.elementwise and clip_norm is None

    def sum(self, gradients: np.ndarray, out: np.ndarray) -> None:
        """Write the sum of the rows ``(k, n)`` to `out`, which may be row 0."""
        self.kernels.sum_gradients(gradients, out)

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
        if self.clip_norm is not None:
            squares = sum(self.kernels.sum_gradients(rows, rows[0]) for rows, _, _ in shard.parts(gradients))
            gradients = gradients[:1]
            norm = np.array([squares])
            total(norm)
            scale = min(1.0, self.clip_norm / (math.sqrt(norm[0]) + 1e-6))
        rule, scalars = self._rule, self._scalars(scale, learning_rate, number)
        run, parts = self.kernels.update, shard.parts(gradients)
        if rule.elementwise:
            squares = 0.0
            for rows, state, parameters in parts:
                squares += run(rule, scalars, rows, None, shard.shared, state, None, parameters)
            return squares
        # The direction takes the place of the gradient, which is read element by element before that is written.
        squares = sum(
            run(rule, scalars, rows, None, False, state, parameters, rows[0]) for rows, state, parameters in parts
        )
        self._follow(gradients[0], shard, learning_rate, total)
        return squares

    def record(self, parts: Sequence[tuple[Gradient, Shard]], steps: int) -> RecordedUpdate | None:
        """Return updates of some shards, for programs of up to `steps` steps; None if Python is needed within a step.

        Where the gradient is clipped, its parts must be rows, and the scale of each step is to be found between the two
        lists of calls.
        """
        if not self._rule.elementwise:
            return None
        kernels, scalars = self.kernels, np.tile(self._scalars(1.0, 1.0, 1), (steps, 1))
        squares = np.zeros(len(parts))
        places = [squares[place : place + 1] for place in range(len(parts))]
        sums: list[Any] = []
        if self.clip_norm is not None:
            sums = [kernels.record_sum(g.rows, g.rows[0], out) for (g, _), out in zip(parts, places, strict=True)]
            parts, places = [(Gradient(g.rows[:1]), shard) for g, shard in parts], [np.zeros(1) for _ in parts]
        updates = [
            kernels.record_update(self._rule, scalars, *gradient, shard.shared, shard.state, shard.parameters, out)
            for (gradient, shard), out in zip(parts, places, strict=True)
        ]
        return RecordedUpdate(sums, updates, squares, scalars, partial(self._scalars, 1.0))

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
        kernels = self.kernels
        norms = np.zeros((shard.tensor_count, 2))
        for tensor, part in shard.segments:
            norms[tensor] = kernels.sum_of_squares(shard.parameters[part]), kernels.sum_of_squares(direction[part])
        total(norms)
        for tensor, part in shard.segments:
            weight, step = np.sqrt(norms[tensor])
            ratio = weight / step if weight > 0 and step > 0 else 1.0
            kernels.add_scaled(direction[part], -learning_rate * ratio, shard.parameters[part])

"""Update rules on a shard of the flat parameter vector.

An update is one fused kernel: sum the gradient rows of the ranks in their fixed order, scale, decay, apply the rule
(`onotrain.config.optimizer`), write.  Of a dense layer's weight it also takes the factors of its gradient, and
multiplies them on the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onotrain._kernels import Kernels
from onotrain.config.optimizer import UpdateRule
from onotrain.optim.average import Average

if TYPE_CHECKING:
    from onotrain.nn.layout import Tensor

#: Sums a small float64 array in place over all shards of the parameters.  *Collective* over the owners of the shards.
Total = Callable[[np.ndarray], None]


class Gradient(NamedTuple):
    """What the gradient of some parameters is made of."""

    #: Shape ``(k, n)``: rows to be summed in their order; with `inputs`, ``(r, o)``.
    rows: np.ndarray
    #: None; or ``(r, i)``: the gradient is ``rows^T inputs``, n = o i, of parameters with one rule.
    inputs: np.ndarray | None = None
    #: None; or int32 ``(r,)``: rows of a table that the rows ``(r, row)`` are gradients of.
    codes: np.ndarray | None = None
    #: Row of the table at which the parameters begin.
    first: int = 0


class Run(NamedTuple):
    """Neighbours in a shard that are updated by one rule, in one call of a kernel."""

    rule: UpdateRule
    #: Within the shard.
    range: slice
    #: Vectors of its state.
    state: tuple[np.ndarray, ...]
    parameters: np.ndarray
    #: Of a table: `onotrain.nn.layout.Tensor.row`, else 0.
    row: int

    def of(self, gradient: Gradient) -> Gradient:
        """Return its part of the gradient of the shard."""
        is_rows = gradient.inputs is None and gradient.codes is None
        return gradient if not is_rows else Gradient(gradient.rows[:, self.range])


@dataclass(frozen=True)
class Shard:
    """A contiguous range of the flat vector, with the part of the optimiser's state that belongs to it.

    See `Optimizer.shard`.
    """

    parameters: np.ndarray
    #: Its vectors by `Optimizer.state_names`.
    state: tuple[np.ndarray, ...]
    #: What updates change of it.
    runs: tuple[Run, ...]
    #: The tensors that the optimiser trains in it: number in the layout, and range within the shard.
    segments: tuple[tuple[int, slice], ...]
    tensor_count: int
    #: Whether ranks on other cores read the parameters.
    shared: bool


@dataclass(frozen=True)
class RecordedUpdate:
    """Updates of some shards, for a program of several steps; see `Optimizer.record`."""

    #: Calls that sum the gradient, and leave its squares, before it is clipped; empty where it is not.
    sums: list[Any]
    #: Calls that apply the updates, and leave the squares of the gradient where it is not clipped.
    updates: list[Any]
    #: float64 ``(runs,)``: sums of squares of the gradients of the shards' runs; of averaged tensors, 0 or NaN.
    squares: np.ndarray
    #: The rules, each with the scalars of each step, float64 ``(steps, n)``, the first of which scales the gradient.
    scalars: list[tuple[UpdateRule, np.ndarray]]

    @property
    def clipped(self) -> list[np.ndarray]:
        """The scalars of the rules whose gradients are clipped."""
        return [scalars for rule, scalars in self.scalars if rule.counts]

    def prepare(self, learning_rates: Sequence[float], number: int) -> None:
        """Set the scalars of the next steps, the first of which is update `number`, counted from 1."""
        for rule, scalars in self.scalars:
            found = [_scalars(rule, 1.0, rate, number + index) for index, rate in enumerate(learning_rates)]
            scalars[: len(found)] = found


class Optimizer:
    """An update rule, and clipping by the global norm in front of it.

    Tensors have that rule, or the same without weight decay, and averaged ones (`onotrain.nn.layers.base.Parameter`)
    one of their own.

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
        no_decay = rule.weight_decay and not rule.decay_norm_and_bias
        self._rule_without_decay = rule.model_copy(update={"weight_decay": 0.0}) if no_decay else rule
        #: Longest gradient, or None.
        self.clip_norm = clip_norm
        #: Of the parameters' dtype.
        self.kernels = kernels
        self.state_names = rule.state_names
        #: Power of the batch size that the learning rate goes with.
        self.rate_power = rule.rate_power
        #: Whether no parameter's step depends on the gradients of others: neither clipping nor norms of tensors.
        self.elementwise = rule.elementwise and clip_norm is None

    def shard(
        self,
        tensors: Sequence[Tensor],
        part: slice,
        parameters: np.ndarray,
        state: Iterable[np.ndarray],
        *,
        shared: bool = False,
    ) -> Shard:
        """Return a shard.

        Parameters
        ----------
        tensors
            The tensors of a layout, or some neighbours among them.
        part
            Range of the flat vector that they lie in.
        parameters, state
            Flat vectors of the range, the latter by `state_names`.
        shared
            Whether ranks on other cores read the parameters.
        """
        vectors, ends = tuple(state), [*(tensor.offset for tensor in tensors[1:]), part.stop]
        runs = []
        # With the gaps behind them: what has one rule is one run.  A table is one by itself, without a gap.
        for (rule, table), group in groupby(zip(tensors, ends, strict=True), key=lambda each: self._kind_of(each[0])):
            members = list(group)
            within = _within(part, members[0][0].offset, members[-1][1] if table is None else table.range.stop)
            if rule is not None and within.start < within.stop:
                of_rule = tuple(vector[within] for vector in vectors) if rule.state_names else ()
                runs.append(Run(rule, within, of_rule, parameters[within], 0 if table is None else table.row))
        ranges = [_within(part, tensor.range.start, tensor.range.stop) for tensor in tensors]
        own = [tensor.trained and tensor.rate is None for tensor in tensors]
        segments = tuple((index, r) for index, r in enumerate(ranges) if own[index] and r.start < r.stop)
        return Shard(parameters, vectors, tuple(runs), segments, len(tensors), shared)

    def _kind_of(self, tensor: Tensor) -> tuple[UpdateRule | None, Tensor | None]:
        """Return what updates a tensor, and the tensor if it is a table: neighbours of the same kind are one run."""
        return self._rule_of(tensor), tensor if tensor.row else None

    def _rule_of(self, tensor: Tensor) -> UpdateRule | None:
        """Return what updates a tensor; None: nothing does."""
        if not tensor.trained:
            return None
        if tensor.rate is not None:
            return Average.model_validate({"learning_rate": tensor.rate})
        return self._rule if tensor.decays else self._rule_without_decay

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
            Sum of squares of the summed gradient in this shard, without averaged tensors; not finite if the gradient of
            any is not.
        """
        whole, scale = Gradient(gradients), 1.0
        parts = [(run, run.of(whole).rows) for run in shard.runs]
        if self.clip_norm is not None:
            clipped = [rows for run, rows in parts if run.rule.counts]
            norm = np.array([sum(self.kernels.sum_gradients(rows, rows[0]) for rows in clipped)], float)
            parts = [(run, rows[:1] if run.rule.counts else rows) for run, rows in parts]
            total(norm)
            scale = min(1.0, self.clip_norm / (math.sqrt(norm[0]) + 1e-6))
        update, squares = self.kernels.update, 0.0
        for run, rows in parts:
            rule, scalars = run.rule, _scalars(run.rule, scale, learning_rate, number)
            if rule.elementwise:
                squares += update(rule, scalars, rows, None, shard.shared, run.state, None, run.parameters, run.row)
            else:  # the direction takes the place of the gradient, which is read element by element before
                squares += update(rule, scalars, rows, None, False, run.state, run.parameters, rows[0], run.row)
        if not self._rule.elementwise:
            self._follow(gradients[0], shard, learning_rate, total)
        return squares

    def record(self, parts: Sequence[tuple[Gradient, Shard]], steps: int) -> RecordedUpdate | None:
        """Return updates of some shards, for programs of up to `steps` steps; None if Python is needed within a step.

        Where the gradient is clipped, its parts must be rows, and the scale of each step is to be found between the two
        lists of calls.
        """
        if not self._rule.elementwise:
            return None
        kernels, clips = self.kernels, self.clip_norm is not None
        runs = [(run, run.of(gradient), shard.shared) for gradient, shard in parts for run in shard.runs]
        squares, rules = np.zeros(len(runs)), list[tuple[UpdateRule, np.ndarray]]()
        sums, updates = list[Any](), list[Any]()
        for place, (run, gradient, shared) in enumerate(runs):
            scalars = next((known for rule, known in rules if rule == run.rule), None)
            if scalars is None:
                scalars = np.tile(_scalars(run.rule, 1.0, 1.0, 1), (steps, 1))
                rules.append((run.rule, scalars))
            out, rows = squares[place : place + 1], gradient.rows
            if clips and run.rule.counts:
                sums.append(kernels.record_sum(rows, rows[0], out))
                gradient, out = Gradient(rows[:1]), np.zeros(1)  # noqa: PLW2901 - what is left of it
            if gradient.codes is not None:
                updates.append(
                    kernels.record_update_rows(
                        run.rule, scalars, gradient.codes, gradient.first, rows, run.state, run.parameters, out
                    )
                )
                continue
            updates.append(
                kernels.record_update(
                    run.rule, scalars, gradient.rows, gradient.inputs, shared, run.state, run.parameters, run.row, out
                )
            )
        return RecordedUpdate(sums, updates, squares, rules)

    def values_moved(self, rows: int) -> int:
        """Return how many values an update of `rows` gradient rows reads and writes for each parameter.

        Gradients, and parameters and state both ways; without `elementwise` in three passes: the direction, the norms
        of direction and parameters, the step.
        """
        return rows + 2 * len(self.state_names) + (2 if self._rule.elementwise else 7)

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


def _scalars(rule: UpdateRule, scale: float, learning_rate: float, number: int) -> tuple[float, ...]:
    """Return what the kernel of a rule gets; a gradient that does not count in the norm is not clipped either."""
    return scale if rule.counts else 1.0, *rule.decay(learning_rate), *rule.scalars(learning_rate, number)


def _within(part: slice, begin: int, end: int) -> slice:
    """Return the elements from `begin` to `end` as far as they lie in a part of the vector, within which they count."""
    return slice(max(begin, part.start) - part.start, min(end, part.stop) - part.start)

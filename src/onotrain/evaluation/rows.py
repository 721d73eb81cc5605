"""What metrics see of some rows: logits, targets and weights, and what several of them need of these, computed once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np

from onotrain.nn.losses import Loss, some_weights


class OutputWeights(NamedTuple):
    """How much each target counts in the loss of some samples, ``(targets,)`` in the logits' dtype; None: all alike."""

    #: Where samples count alike.
    alike: np.ndarray | None = None
    #: Where they count by their weights.
    weighted: np.ndarray | None = None


class Rows:
    """Some rows of a data set with a network's outputs for them; nothing is computed before it is asked for.

    Parameters
    ----------
    loss
        Of the network.
    logits
        Shape ``(r, outputs)``.
    targets
        As the loss takes them: int32 ``(r,)`` for ``multiclass``, else ``(r, targets)`` in the logits' dtype.
    weights
        Of the samples, ``(r,)`` in the logits' dtype; None where they have none.
    threshold
        Probability above which the answer of an output is yes, one or float64 ``(outputs,)``; None: that of a logit
        above 0.  For ``binary`` and ``multilabel``, and for ``multiclass`` of two classes the probability of the second
        one.
    undo
        Brings what a regression learns and gives into the units of the data; None: it is.
    output_weights
        How much each output counts in the loss.
    """

    def __init__(
        self,
        loss: Loss,
        logits: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray | None = None,
        threshold: float | np.ndarray | None = None,
        undo: Callable[[np.ndarray], np.ndarray] | None = None,
        output_weights: OutputWeights | None = None,
    ) -> None:
        self.loss, self.logits, self.targets, self.weights, self.threshold = loss, logits, targets, weights, threshold
        self._undo, self._output_weights = undo, output_weights or OutputWeights()

    def __len__(self) -> int:
        return len(self.logits)

    def counts(self, weighted: bool) -> np.ndarray:
        """Return how much each row counts, float64 ``(r,)``: its weight, or 1."""
        if not weighted:
            return np.ones(len(self))
        if self.weights is None:
            raise ValueError("a weighted metric of samples without weights")
        return self.weights.astype(np.float64)

    def answered(self, weighted: bool) -> float:
        """Return how much all rows count, each by the part of its targets that is measured."""
        counts = self.counts(weighted)
        return float(counts.sum() if self.measured is None else counts @ self.measured.mean(axis=1))

    @cached_property
    def measured(self) -> np.ndarray | None:
        """Which targets were measured, bool ``(r, targets)``; None: all."""
        if self.targets.ndim == 1:
            return None
        missing = np.isnan(self.targets)
        return ~missing if missing.any() else None

    @cached_property
    def loss_sums(self) -> np.ndarray:
        """Sum of the losses and number of right rows, float64 ``(2,)``; rows count alike."""
        sums = np.zeros(2)
        given = some_weights(None, self._output_weights.alike)
        self.loss(self.logits, self.targets, 0.0, None, sums, **given)
        return sums

    @cached_property
    def weighted_loss(self) -> float:
        """Sum of the losses, in which each row counts by its weight; NaN if the loss takes no weights."""
        if not self.loss.weighs_rows:
            return float("nan")
        sums = np.zeros(2)
        given = some_weights(self.weights, self._output_weights.weighted)
        self.loss(self.logits, self.targets, 0.0, None, sums, **given)
        return float(sums[0])

    @cached_property
    def predictions(self) -> np.ndarray:
        """Probabilities ``(r, outputs)``, or values in the units of the data, one for each target, ``(r, targets)``."""
        found = self.loss.point(self.loss.predict(self.logits))
        return found if self._undo is None else self._undo(found)

    @cached_property
    def quantiles(self) -> np.ndarray:
        """Quantiles of each target in the units of the data, float64 ``(r, targets, quantiles)``; of loss quantile."""
        count = len(self.loss.options.quantiles)
        each = [self.logits[:, number::count].astype(np.float64) for number in range(count)]
        return np.stack(each if self._undo is None else [self._undo(values) for values in each], axis=2)

    @cached_property
    def values(self) -> np.ndarray:
        """Targets in the units of the data."""
        return self.targets if self._undo is None else self._undo(self.targets)

    @cached_property
    def yes(self) -> np.ndarray:
        """Whether the answer of each output is yes, bool ``(r, outputs)``; for ``binary`` and ``multilabel``."""
        if self.threshold is None:
            return self.logits > 0
        return self.predictions > np.asarray(self.threshold, np.float64)

    @cached_property
    def wanted(self) -> np.ndarray:
        """Whether the answer of each output should be yes, bool ``(r, outputs)``; of what was not measured: no."""
        return self.targets > 0.5

    @cached_property
    def answers(self) -> np.ndarray:
        """The same as int8: 1 for yes, 0 for no, -1 for what was not measured."""
        answers = self.wanted.astype(np.int8)
        return answers if self.measured is None else np.where(self.measured, answers, np.int8(-1))

    @cached_property
    def predicted(self) -> np.ndarray:
        """Class that each row is taken for, int64 ``(r,)``; of several largest logits the first."""
        if self.logits.shape[1] == 1 or self.threshold is not None:
            return self.yes[:, -1].astype(np.int64)
        return self.logits.argmax(axis=1)

    @cached_property
    def truth(self) -> np.ndarray:
        """Class of each row, int64 ``(r,)``."""
        return self.targets.astype(np.int64) if self.targets.ndim == 1 else self.wanted[:, 0].astype(np.int64)

    @cached_property
    def broken(self) -> np.ndarray:
        """Whether a logit of the row is NaN, so that it is right about nothing, bool ``(r,)``."""
        return np.isnan(self.logits.max(axis=1))

    @cached_property
    def right(self) -> np.ndarray:
        """Part of the row's answers that are right, float64 ``(r,)``; what was not measured is not right."""
        if self.loss.task == "multilabel":
            right = self.yes == self.wanted
            return (right if self.measured is None else right & self.measured).mean(axis=1)
        return ((self.predicted == self.truth) & ~self.broken).astype(np.float64)

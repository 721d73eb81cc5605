"""Metrics as sums over samples: any split of the samples over ranks adds up to the same value.

A metric turns logits and targets of some rows into a few sums, and the sums over all rows into its value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from onotrain.config import metrics as known
from onotrain.config.options import Task
from onotrain.errors import UsageError
from onotrain.nn.losses import Loss


class Metric(Protocol):
    """One metric; ``size`` sums describe any set of rows.

    A metric of another package is a class that is called with the `Loss` and any row of the targets.  It has these
    members, and as attributes of the class ``tasks``, a tuple of what networks must do for it (see `Loss.task`), and
    ``mode``, ``min`` or ``max``; an entry point of the group ``onotrain.metrics`` gives it its name.
    """

    name: str
    size: int

    def sums(self, logits: np.ndarray, targets: np.ndarray, loss_sums: np.ndarray) -> np.ndarray:
        """Return the float64 sums over these rows.

        Parameters
        ----------
        logits
            Shape ``(r, outputs)``; of a regression what is predicted.
        targets
            As the loss takes them.
        loss_sums
            Sum of losses and number of right rows.
        """
        ...

    def value(self, sums: np.ndarray, samples: int) -> float:
        """Return the metric from the sums over `samples` rows."""
        ...


class SampleMean:
    """Mean of what the loss kernels count: the loss itself, or the accuracy."""

    size = 1

    def __init__(self, name: str, entry: int) -> None:
        self.name = name
        self._entry = entry

    def sums(self, logits: np.ndarray, targets: np.ndarray, loss_sums: np.ndarray) -> np.ndarray:
        """Return the entry of the loss sums."""
        return loss_sums[self._entry : self._entry + 1]

    def value(self, sums: np.ndarray, samples: int) -> float:
        """Return the mean over samples."""
        return float(sums[0]) / samples


class TopK:
    """Part of the samples whose class is among the ``k`` largest logits."""

    size = 1

    def __init__(self, k: int) -> None:
        self.name = f"top_{k}"
        self._k = k

    def sums(self, logits: np.ndarray, targets: np.ndarray, loss_sums: np.ndarray) -> np.ndarray:
        """Count rows in which fewer than ``k`` logits are larger than the target's, or not a number."""
        own = np.take_along_axis(logits, targets[:, np.newaxis].astype(np.int64), axis=1)
        return np.array([np.count_nonzero((~(logits <= own)).sum(axis=1) < self._k)], np.float64)

    def value(self, sums: np.ndarray, samples: int) -> float:
        """Return the mean over samples."""
        return float(sums[0]) / samples


class MeanAbsoluteError:
    """Mean of ``|prediction - target|`` over samples and outputs."""

    name = "mae"
    size = 1

    def __init__(self, outputs: int) -> None:
        self._outputs = outputs

    def sums(self, logits: np.ndarray, targets: np.ndarray, loss_sums: np.ndarray) -> np.ndarray:
        """Sum absolute errors."""
        return np.array([np.abs(logits.astype(np.float64) - targets).sum()])

    def value(self, sums: np.ndarray, samples: int) -> float:
        """Return the mean over samples and outputs."""
        return float(sums[0]) / (samples * self._outputs)


class RootMeanSquareError:
    """Square root of the mean of squared errors over samples and outputs."""

    name = "rmse"
    size = 1

    def __init__(self, outputs: int) -> None:
        self._outputs = outputs

    def sums(self, logits: np.ndarray, targets: np.ndarray, loss_sums: np.ndarray) -> np.ndarray:
        """Sum squared errors."""
        return np.array([np.square(logits.astype(np.float64) - targets).sum()])

    def value(self, sums: np.ndarray, samples: int) -> float:
        """Return the root of the mean."""
        return math.sqrt(float(sums[0]) / (samples * self._outputs))


class Determination:
    """R2, the part of the targets' variance that is explained; the mean over the outputs.

    Parameters
    ----------
    origin
        Any target row, such as the first: sums of squares are taken about it, for a large mean would swallow the
        variance.
    """

    name = "r2"

    def __init__(self, origin: np.ndarray) -> None:
        self._origin = np.asarray(origin, np.float64).reshape(-1)
        self._outputs = len(self._origin)
        self.size = 3 * self._outputs

    def sums(self, logits: np.ndarray, targets: np.ndarray, loss_sums: np.ndarray) -> np.ndarray:
        """Sum squared errors, shifted targets and their squares, per output."""
        shifted = targets - self._origin
        errors = np.square(logits.astype(np.float64) - targets)
        return np.concatenate([errors.sum(axis=0), shifted.sum(axis=0), np.square(shifted).sum(axis=0)])

    def value(self, sums: np.ndarray, samples: int) -> float:
        """Return ``1 - residual / total``; NaN where the targets do not vary."""
        errors, first, second = sums.reshape(3, self._outputs)
        total = second - first**2 / samples
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.mean(np.where(total > 0, 1.0 - errors / total, np.nan)))


class Confusion:
    """Counts of (true class, predicted class); its value is the accuracy, its sums are the matrix."""

    name = "confusion"

    def __init__(self, classes: int) -> None:
        self.size = classes * classes
        self._classes = classes

    def sums(self, logits: np.ndarray, targets: np.ndarray, loss_sums: np.ndarray) -> np.ndarray:
        """Count pairs; a binary logit stands for two classes."""
        if logits.shape[1] == 1:
            truth, predicted = (targets[:, 0] > 0.5).astype(np.int64), (logits[:, 0] > 0).astype(np.int64)
        else:
            truth, predicted = targets.astype(np.int64), logits.argmax(axis=1)
        return np.bincount(truth * self._classes + predicted, minlength=self.size).astype(np.float64)

    def value(self, sums: np.ndarray, samples: int) -> float:
        """Return the part of the samples on the diagonal."""
        return float(np.trace(sums.reshape(self._classes, self._classes))) / samples


_BUILT_IN: dict[str, Callable[[Loss, np.ndarray], Metric]] = {
    "loss": lambda loss, origin: SampleMean("loss", 0),
    "accuracy": lambda loss, origin: SampleMean("accuracy", 1),
    "mae": lambda loss, origin: MeanAbsoluteError(loss.outputs),
    "rmse": lambda loss, origin: RootMeanSquareError(loss.outputs),
    "r2": lambda loss, origin: Determination(origin),
    "confusion": lambda loss, origin: Confusion(max(2, loss.outputs)),
}


def make_metrics(names: Sequence[str], loss: Loss, origin: np.ndarray) -> list[Metric]:
    """Return the metrics called `names`, the loss always among them; `origin` is any target row.

    Raises
    ------
    UsageError
        A name is unknown or does not fit the task, or its package does not work.
    """
    return [_metric(name, loss, origin) for name in dict.fromkeys(("loss", *names))]


def has_confusion(task: Task) -> bool:
    """Tell whether a network tells classes apart of which a sample has one."""
    return task in ("multiclass", "binary")


def _metric(name: str, loss: Loss, origin: np.ndarray) -> Metric:
    facts, k = known.facts(name), known.top_k(name)
    fits = has_confusion(loss.task) if name == "confusion" else facts is not None and loss.task in facts.tasks
    if not fits or (k or 0) > loss.outputs:
        broken = known.broken(name)
        if broken is not None:
            raise UsageError(f"metric {name!r}: {broken}")
        fitting = [*known.automatic(loss.task), *(["confusion"] if has_confusion(loss.task) else [])]
        raise UsageError(
            f"metric {name!r} does not fit loss {loss.name!r} with {loss.outputs} output(s)",
            hint=f"use some of: {', '.join(fitting)}"
            + (f", top_1 to top_{loss.outputs}" if loss.task == "multiclass" else ""),
        )
    if k is not None:
        return TopK(k)
    make = _BUILT_IN.get(name) or known.PLUGINS.load(name)
    return make(loss, origin)

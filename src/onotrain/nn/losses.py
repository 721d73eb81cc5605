"""Losses on logits, and what a network with such a loss predicts.

The loss of one sample is the sum over its outputs, the loss of a batch the mean over its samples: gradients are
divided by the number of samples in the global batch and by nothing else (not by classes, outputs, ranks or batches).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onotrain._kernels import Kernels


class Loss:
    """A loss kernel with its options bound, and the task that it stands for.

    Parameters
    ----------
    spec
        The ``loss`` section of the configuration.
    outputs
        Width of the last layer.
    kernels
        Kernels of the model's dtype.
    """

    def __init__(self, spec: Any, outputs: int, kernels: Kernels) -> None:
        self.name: str = spec.name
        self.outputs = outputs
        #: See `task_of`.
        self.task = task_of(spec.name, outputs)
        self._gradient = _LOSSES[spec.name](kernels, spec)
        self._activate = {"multiclass": kernels.softmax, "regression": None}.get(self.task, kernels.sigmoid)

    def __call__(
        self, logits: np.ndarray, targets: np.ndarray, weight: float, dlogits: np.ndarray | None, tally: np.ndarray
    ) -> None:
        """Add the loss of the rows to ``tally[0]`` and the right ones to ``tally[1]``; write the gradient.

        Parameters
        ----------
        logits
            Shape ``(r, outputs)``.
        targets
            int32 ``(r,)`` for ``multiclass``, else the logits' dtype and shape.
        weight
            1 / samples of the global batch.
        dlogits
            Gets ``weight *`` the gradient; None for the loss alone.
        tally
            float64 ``(2,)``: sum of losses, number of right rows.
        """
        self._gradient(logits, targets, weight, dlogits, tally)

    def activate(self, logits: np.ndarray, out: np.ndarray) -> None:
        """Turn logits into what is predicted: probabilities, or the values themselves."""
        if self._activate is None:
            np.copyto(out, logits)
        else:
            self._activate(logits, out)


_Gradient = Callable[[np.ndarray, np.ndarray, float, "np.ndarray | None", np.ndarray], None]


def _cross_entropy(kernels: Kernels, spec: Any) -> _Gradient:
    kernel, smoothing = kernels.softmax_cross_entropy, spec.label_smoothing
    return lambda logits, targets, weight, dlogits, tally: kernel(logits, targets, smoothing, weight, dlogits, tally)


def _huber(kernels: Kernels, spec: Any) -> _Gradient:
    kernel, delta = kernels.huber, spec.delta
    return lambda logits, targets, weight, dlogits, tally: kernel(logits, targets, delta, weight, dlogits, tally)


_LOSSES: dict[str, Callable[[Kernels, Any], _Gradient]] = {
    "cross_entropy": _cross_entropy,
    "binary_cross_entropy": lambda kernels, spec: kernels.binary_cross_entropy,
    "mse": lambda kernels, spec: kernels.squared_error,
    "mae": lambda kernels, spec: kernels.absolute_error,
    "huber": _huber,
}


def task_of(loss: str, outputs: int) -> str:
    """Return what a network with this loss does: ``multiclass``, ``binary``, ``multilabel`` or ``regression``."""
    if loss == "cross_entropy":
        return "multiclass"
    if loss == "binary_cross_entropy":
        return "binary" if outputs == 1 else "multilabel"
    return "regression"

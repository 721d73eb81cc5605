"""Losses on logits, and what a network with such a loss predicts.

The loss of one sample is the sum over its outputs, the loss of a batch the mean over its samples: gradients are
divided by the number of samples in the global batch and by nothing else (not by classes, outputs, ranks or batches).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any, ClassVar, NamedTuple

import numpy as np

from onotrain._kernels import Kernels
from onotrain._kernels.recording import PythonCall
from onotrain.config.loss import PLUGINS
from onotrain.config.options import LossOptions, Task
from onotrain.errors import UsageError

_Activate = Callable[[np.ndarray, np.ndarray], None]


class Loss(ABC):
    """What a network minimises, and what it therefore predicts.

    A loss of another package is a subclass with `Options` and `__call__`; the entry point of the group
    ``onotrain.losses`` that names it has the name of its options.

    Parameters
    ----------
    options
        The ``loss`` section of the configuration.
    outputs
        Width of the last layer.
    kernels
        Kernels of the model's dtype.
    """

    #: Class of its ``loss`` section.
    Options: ClassVar[type[LossOptions]]

    def __init__(self, options: Any, outputs: int, kernels: Kernels) -> None:
        self.options = options
        self.name: str = options.name
        self.outputs = outputs
        #: Number of targets of a sample, or of classes.
        self.targets: int = options.targets(outputs)
        self.task: Task = options.task(outputs)
        if options.activation is None and type(self).activate is Loss.activate:
            raise UsageError(f"loss {self.name}: its options have no activation, so it must have a method activate")
        activations: dict[str, _Activate] = {
            "softmax": kernels.softmax,
            "sigmoid": kernels.sigmoid,
            "exp": kernels.exponential,
            "gaussian": lambda z, out: kernels.mean_and_deviation(z, math.log(options.min_variance), out),
            "identity": _copy,
        }
        self._activate = activations[options.activation or "identity"]

    @abstractmethod
    def __call__(
        self,
        logits: np.ndarray,
        targets: np.ndarray,
        weight: float,
        dlogits: np.ndarray | None,
        loss_sums: np.ndarray,
        row_weights: np.ndarray | None = None,
        output_weights: np.ndarray | None = None,
    ) -> None:
        """Add the loss of the rows to ``loss_sums[0]`` and the right ones to ``loss_sums[1]``; write the gradient.

        Parameters
        ----------
        logits
            Shape ``(r, outputs)``, C-contiguous; `r` may be 0.
        targets
            int32 ``(r,)`` for ``multiclass``, else ``(r, targets)`` in the logits' dtype: one for each output, unless
            the options have several of them `per_target`.
        weight
            1 / samples of the global batch.
        dlogits
            Gets ``weight *`` the gradient; None for the loss alone.
        loss_sums
            float64 ``(2,)``: sum of losses, number of right rows (for ``regression`` nobody reads it).
        row_weights
            ``(r,)`` in the logits' dtype: what loss and gradient of each row are multiplied with, not whether it is
            right.  Passed only where samples have weights: a loss of another package that has no such parameter works
            where they have none (`weighs_rows`).
        output_weights
            ``(targets,)`` in the logits' dtype: what loss and gradient of each output are multiplied with.  Targets
            that are NaN then count for nothing.  Passed only where outputs have weights or targets are missing
            (`weighs_outputs`).
        """
        ...

    def recorded(
        self,
        logits: np.ndarray,
        targets: np.ndarray,
        weight: float,
        dlogits: np.ndarray,
        loss_sums: np.ndarray,
        row_weights: np.ndarray | None,
        output_weights: np.ndarray | None,
    ) -> Any:
        """Return the call of the loss with these arrays, for a program (`onotrain._kernels.Kernels.program`)."""
        weights: dict[str, Any] = some_weights(row_weights, output_weights)
        return PythonCall(partial(self, **weights), logits, targets, weight, dlogits, loss_sums)

    @property
    def weighs_rows(self) -> bool:
        """Whether it takes `row_weights`."""
        return "row_weights" in signature(type(self).__call__).parameters

    @property
    def weighs_outputs(self) -> bool:
        """Whether it takes `output_weights`."""
        return "output_weights" in signature(type(self).__call__).parameters

    def check_weights(self, *, rows: bool, outputs: bool) -> None:
        """Refuse weights of samples (`rows`) or of outputs if the loss takes none.

        Raises
        ------
        UsageError
            There are such weights.
        """
        if outputs and not self.weighs_outputs:
            raise UsageError(
                f"loss {self.name} takes no weights of outputs, without which no target may be missing",
                hint="use data.missing_targets: drop, or give its __call__ a parameter output_weights "
                "(see onotrain.nn.losses.Loss)",
            )
        if rows and not self.weighs_rows:
            raise UsageError(
                f"loss {self.name} takes no weights of samples, and these have some",
                hint="leave out data.weights, or give its __call__ a parameter row_weights "
                "(see onotrain.nn.losses.Loss)",
            )

    def activate(self, logits: np.ndarray, out: np.ndarray) -> None:
        """Turn logits into what is predicted: probabilities, or the values themselves."""
        self._activate(logits, out)

    def predict(self, logits: np.ndarray) -> np.ndarray:
        """Return what is predicted: the logits themselves where that is all there is to it."""
        if self.options.activation == "identity":
            return logits
        out = np.empty_like(logits)
        self.activate(logits, out)
        return out

    def point(self, predictions: np.ndarray) -> np.ndarray:
        """Return the one of the predictions ``(r, outputs)`` of each target that stands for it, ``(r, targets)``."""
        each = self.options.per_target
        return predictions[:, each.point :: len(each.names)]


def some_weights(row_weights: np.ndarray | None, output_weights: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return those weights that there are, by argument of a `Loss`: one of another package may take none."""
    given = {"row_weights": row_weights, "output_weights": output_weights}
    return {name: weights for name, weights in given.items() if weights is not None}


def build(options: LossOptions, outputs: int, kernels: Kernels) -> Loss:
    """Return the loss of a ``loss`` section, for a last layer of `outputs` outputs."""
    make = _KernelLoss if options.name in _KERNELS else PLUGINS.load(options.name)
    loss: Loss = make(options, outputs, kernels)
    return loss


class _KernelLoss(Loss):
    """A loss that is a kernel, with its options among the arguments."""

    def __init__(self, options: Any, outputs: int, kernels: Kernels) -> None:
        super().__init__(options, outputs, kernels)
        known = _KERNELS[self.name]
        self._kernels, self._kernel, self._by_output = kernels, known.kernel, known.by_output
        self._own = known.own(options, kernels.dtype)

    def __call__(
        self,
        logits: np.ndarray,
        targets: np.ndarray,
        weight: float,
        dlogits: np.ndarray | None,
        loss_sums: np.ndarray,
        row_weights: np.ndarray | None = None,
        output_weights: np.ndarray | None = None,
    ) -> None:
        """Run the kernel."""
        own = self._arguments(output_weights)
        getattr(self._kernels, self._kernel)(logits, targets, row_weights, *own, weight, dlogits, loss_sums)

    def recorded(
        self,
        logits: np.ndarray,
        targets: np.ndarray,
        weight: float,
        dlogits: np.ndarray,
        loss_sums: np.ndarray,
        row_weights: np.ndarray | None,
        output_weights: np.ndarray | None,
    ) -> Any:
        """Record the kernel."""
        own = self._arguments(output_weights)
        return self._kernels.record(self._kernel, logits, targets, row_weights, *own, weight, dlogits, loss_sums)

    def _arguments(self, output_weights: np.ndarray | None) -> tuple[Any, ...]:
        """Return what the kernel takes between the weights of the rows and that of the gradient."""
        return (output_weights, *self._own) if self._by_output else self._own


def _copy(logits: np.ndarray, out: np.ndarray) -> None:
    np.copyto(out, logits)


class _Known(NamedTuple):
    """How a built-in loss calls its kernel."""

    kernel: str
    #: Its own arguments, of the options and of the model's dtype.
    own: Callable[[Any, np.dtype], tuple[Any, ...]] = lambda options, dtype: ()
    #: Whether it takes weights of outputs, before these: its outputs are independent.
    by_output: bool = True


_KERNELS = {
    "cross_entropy": _Known("softmax_cross_entropy", lambda options, _: (options.label_smoothing,), by_output=False),
    "binary_cross_entropy": _Known("binary_cross_entropy"),
    "mse": _Known("squared_error"),
    "mae": _Known("absolute_error"),
    "huber": _Known("huber", lambda options, _: (options.delta,)),
    "log_cosh": _Known("log_cosh"),
    "quantile": _Known("pinball", lambda options, dtype: (np.array(options.quantiles, dtype),)),
    "poisson": _Known("poisson"),
    "gaussian_nll": _Known("gaussian_nll", lambda options, _: (math.log(options.min_variance),)),
}

"""The network: layers over one flat parameter vector, and the gradient of its loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from onotrain._kernels import Kernels
from onotrain.nn.layers import KINDS, Draw, Layer, Stack
from onotrain.nn.layout import ParameterLayout
from onotrain.nn.losses import Loss

#: A layer with its parameters and, if there are any, its gradients, by suffix.
_Bound = tuple[Layer, dict[str, np.ndarray], dict[str, np.ndarray] | None]


class Model:
    """A sequence of layers and a loss.

    The model owns its activations and nothing else: parameters and gradients are views of flat vectors that a strategy
    owns and hands over with `bind`.

    Parameters
    ----------
    spec
        The ``model`` section of the configuration.
    loss
        The ``loss`` section of the configuration.
    inputs
        Number of features of a sample.
    kernels
        Kernels of the dtype to compute in.
    """

    def __init__(self, spec: Any, loss: Any, inputs: int, kernels: Kernels) -> None:
        stack = Stack(inputs, spec, kernels)
        for layer in spec.layers:
            KINDS[layer.kind](stack, layer.options)
        self.layers: list[Layer] = stack.layers
        self.inputs = inputs
        self.outputs = stack.width
        self.dtype = kernels.dtype
        self.loss = Loss(loss, self.outputs, kernels)
        self.layout = ParameterLayout(
            ((f"{layer.name}/{suffix}", shape) for layer in self.layers for suffix, shape in layer.shapes()), self.dtype
        )
        self._trained_inputs = next(index for index, layer in enumerate(self.layers) if layer.shapes())
        self._slopes: list[np.ndarray] = []
        self._outputs: list[np.ndarray] = []
        self._gradients: list[np.ndarray] = []

    @property
    def widths(self) -> list[int]:
        """Widths of the layers with parameters."""
        return [layer.outputs for layer in self.layers if layer.shapes()]

    def initialize(self, flat: np.ndarray, seed: int) -> None:
        """Set the first values of all parameters in the flat vector `flat`."""
        for layer, tensors, _ in self._per_layer(flat, None):
            layer.initialize(tensors, seed)

    def bind(self, parameters: np.ndarray, gradients: np.ndarray | None = None) -> None:
        """Read parameters from, and write gradients to, these flat vectors from now on."""
        for layer, tensors, gradient_tensors in self._per_layer(parameters, gradients):
            layer.bind(tensors, gradient_tensors)

    def _per_layer(self, parameters: np.ndarray, gradients: np.ndarray | None) -> Iterator[_Bound]:
        views = self.layout.views(parameters)
        gradient_views = None if gradients is None else self.layout.views(gradients)
        for layer in self.layers:
            names = [(suffix, f"{layer.name}/{suffix}") for suffix, _ in layer.shapes()]
            yield (
                layer,
                {suffix: views[name] for suffix, name in names},
                None if gradient_views is None else {suffix: gradient_views[name] for suffix, name in names},
            )

    @property
    def reserved_per_row(self) -> int:
        """Numbers that `reserve` makes room for, for each row."""
        return 3 * sum(layer.outputs for layer in self.layers)

    def reserve(self, rows: int) -> None:
        """Allocate activations and their gradients for batches of up to `rows` rows."""
        shapes = [(rows, layer.outputs) for layer in self.layers]
        self._slopes = [np.empty(shape, self.dtype) for shape in shapes]
        self._outputs = [np.empty(shape, self.dtype) for shape in shapes]
        self._gradients = [np.empty(shape, self.dtype) for shape in shapes]

    def gradient(
        self, x: np.ndarray, targets: np.ndarray, weight: float, draw: Draw, tally: np.ndarray, *, accumulate: bool
    ) -> None:
        """Compute this rank's part of the gradient of the global batch's mean loss.

        Parameters
        ----------
        x
            Shape ``(r, inputs)``, at most as many rows as reserved; 0 rows make a gradient of zeros.
        targets
            int32 ``(r,)`` for classes, else ``(r, outputs)``.
        weight
            1 / samples of the global batch.
        draw
            Key of the dropout masks.
        tally
            float64 ``(2,)``; the sum of losses and the number of right rows are added to it.
        accumulate
            Add to the gradients of the batch's earlier pieces instead of overwriting them.
        """
        rows = len(x)
        inputs = [x, *(y[:rows] for y in self._outputs)]
        slopes = [slope[:rows] for slope in self._slopes]
        gradients = [dy[:rows] for dy in self._gradients]
        for index, layer in enumerate(self.layers):
            layer.forward(inputs[index], draw, slopes[index], inputs[index + 1])
        self.loss(inputs[-1], targets, weight, gradients[-1], tally)
        for index in range(len(self.layers) - 1, self._trained_inputs - 1, -1):
            dx = gradients[index - 1] if index > self._trained_inputs else None
            self.layers[index].backward(inputs[index], slopes[index], gradients[index], dx, accumulate=accumulate)


class Inference:
    """A model's forward pass with activations of its own, so that several threads may predict with one model.

    Parameters
    ----------
    model
        The model, bound to parameters.
    rows
        Most rows of one call.
    """

    def __init__(self, model: Model, rows: int) -> None:
        self._model = model
        self._buffers = [np.empty((rows, layer.outputs), model.dtype) for layer in model.layers]

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Return the last layer's output for ``x (r, inputs)``: a view that the next call overwrites."""
        for layer, buffer in zip(self._model.layers, self._buffers, strict=True):
            y = buffer[: len(x)]
            layer.predict(x, y)
            x = y
        return x

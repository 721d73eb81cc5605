"""The network: layers over one flat parameter vector, and the gradient of its loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from onotrain._kernels import Kernels, empty
from onotrain._kernels.recording import PythonCall
from onotrain.nn import losses
from onotrain.nn.layers import KINDS, Layer, Stack
from onotrain.nn.layout import ParameterLayout

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
        self.kernels = kernels
        self.loss = losses.build(loss, self.outputs, kernels)
        self.layout = ParameterLayout(
            ((f"{layer.name}/{suffix}", shape) for layer in self.layers for suffix, shape in layer.shapes()),
            self.dtype, spec.frozen_layers,
        )  # fmt: skip
        self._frozen: frozenset[str] = frozenset(spec.frozen_layers)
        #: Of the first layer that is trained.
        self._trained_inputs = next(
            index for index, layer in enumerate(self.layers) if layer.shapes() and layer.name not in self._frozen
        )
        self._offsets = self._begins()
        self._x = np.empty((0, inputs), self.dtype)
        self._slopes: list[np.ndarray] = []
        self._outputs: list[np.ndarray] = []
        self._gradients: list[np.ndarray] = []
        #: Whether the arrays of a pass are rows of those of the whole batch.
        self._packed = False

    def _begins(self) -> list[int]:
        """Return where each layer's parameters begin in the flat vector, or those of the layers behind it."""
        offsets = {tensor.name: tensor.offset for tensor in self.layout}
        begins, begin = [], self.layout.size
        for layer in reversed(self.layers):
            for suffix, _ in layer.shapes()[:1]:
                begin = offsets[f"{layer.name}/{suffix}"]
            begins.append(begin)
        return begins[::-1]

    @property
    def widths(self) -> list[int]:
        """Widths of the layers with parameters."""
        return [layer.outputs for layer in self.layers if layer.shapes()]

    def initialize(self, flat: np.ndarray, seed: int) -> None:
        """Set the first values of all parameters in the flat vector `flat`."""
        for layer, tensors, _ in self._per_layer(flat, None):
            layer.initialize(tensors, seed)

    def bind(self, parameters: np.ndarray, gradients: np.ndarray | None = None, *, shared: bool = False) -> None:
        """Read parameters from, and write gradients to, these flat vectors from now on.

        Gradients of frozen layers are not computed: what they would be written to stays as it is, zeros at first.
        `shared` says that ranks on other cores read the gradients.
        """
        for layer, tensors, gradient_tensors in self._per_layer(parameters, gradients):
            layer.bind(tensors, gradient_tensors, shared=shared)

    def _per_layer(self, parameters: np.ndarray, gradients: np.ndarray | None) -> Iterator[_Bound]:
        views = self.layout.views(parameters)
        gradient_views = None if gradients is None else self.layout.views(gradients)
        for layer in self.layers:
            names = [(suffix, f"{layer.name}/{suffix}") for suffix, _ in layer.shapes()]
            learns = gradient_views is not None and layer.name not in self._frozen
            yield (
                layer,
                {suffix: views[name] for suffix, name in names},
                {suffix: gradient_views[name] for suffix, name in names} if learns and gradient_views else None,
            )

    @property
    def reserved_per_row(self) -> int:
        """Numbers that `reserve` makes room for, for each row."""
        return self.inputs + 3 * sum(layer.outputs for layer in self.layers)

    def factor_shapes(self, rows: int) -> dict[str, tuple[int, int]]:
        """Return the shapes of the arrays, by name, that the gradients of a batch of `rows` rows are made of."""
        shapes = {"x": (rows, self.inputs)}
        for number, layer in enumerate(self.layers):
            shapes |= {f"output/{number}": (rows, layer.outputs), f"dz/{number}": (rows, layer.outputs)}
        return shapes

    def reserve(self, rows: int, factors: Mapping[str, np.ndarray] | None = None) -> None:
        """Make room for passes over up to `rows` rows.

        `factors`, shaped as `factor_shapes` says, are shared by ranks that each compute some rows of a batch: a pass
        then leaves its part of them in its own rows.
        """
        self._packed = factors is not None
        if factors is None:
            factors = {name: empty(shape, self.dtype) for name, shape in self.factor_shapes(rows).items()}
        numbers = range(len(self.layers))
        self._x = factors["x"]
        self._outputs = [factors[f"output/{number}"] for number in numbers]
        self._gradients = [factors[f"dz/{number}"] for number in numbers]
        self._slopes = [empty((rows, layer.outputs), self.dtype) for layer in self.layers]

    def rows(self, begin: int, end: int) -> np.ndarray:
        """Return where rows `begin` to `end` of a batch are to be put for a program of `record`."""
        return self._x[begin:end] if self._packed else self._x[: end - begin]

    def factors(self, rows: int) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
        """Return what the gradient of each tensor is made of, for a batch of `rows` rows: see `Layer.factors`."""
        inputs = [self._x, *self._outputs]
        return {
            f"{layer.name}/{suffix}": made_of
            for layer, x, dz in zip(self.layers, inputs, self._gradients, strict=False)
            for suffix, made_of in layer.factors(x[:rows], dz[:rows]).items()
        }

    def record(
        self,
        x: np.ndarray,
        targets: np.ndarray,
        weight: float,
        loss_sums: np.ndarray,
        *,
        seed: int,
        begin: int = 0,
        accumulate: bool = False,
        gradient_ready: Callable[[int], None] | None = None,
        row_weights: np.ndarray | None = None,
        output_weights: np.ndarray | None = None,
    ) -> list[Any]:
        """Return the calls that compute this rank's part of the gradient of the global batch's mean loss.

        They are for a `onotrain._kernels.Kernels.program`.  They work on the arrays that are given here, and on those
        of `bind` and `reserve`: after another one of these they are of no use any more.

        Parameters
        ----------
        x
            Shape ``(r, inputs)``, at most as many rows as reserved, and the very ones of `rows` if gradients are made
            of factors; 0 rows make a gradient of zeros.
        targets
            int32 ``(r,)`` for classes, else ``(r, outputs)``.
        weight
            1 / samples of the global batch.
        loss_sums
            float64 ``(2,)``; the sum of losses and the number of right rows are added to it.
        seed
            Of the dropout masks.
        begin
            Row of the batch at which these rows begin.
        accumulate
            Add to the gradients of the batch's earlier micro-batches instead of overwriting them.
        gradient_ready
            Called after every layer with where in the flat vector gradients begin that this run will not touch again.
        row_weights
            How much each row counts, ``(r,)`` in the model's dtype; None: all alike.
        output_weights
            How much each output counts, ``(outputs,)``; None: all alike, and no target is missing.
        """
        calls: list[Any] = []

        def record(what: str | Callable[..., Any], *arguments: Any) -> None:
            call = self.kernels.record(what, *arguments) if isinstance(what, str) else PythonCall(what, *arguments)
            calls.append(call)

        rows = slice(begin, begin + len(x)) if self._packed else slice(0, len(x))
        slopes = [slope[: len(x)] for slope in self._slopes]
        inputs, dys = [x, *(y[rows] for y in self._outputs)], [dy[rows] for dy in self._gradients]
        for number, layer in enumerate(self.layers):
            layer.forward(record, inputs[number], seed, begin, slopes[number], inputs[number + 1])
        calls.append(self.loss.recorded(inputs[-1], targets, weight, dys[-1], loss_sums, row_weights, output_weights))
        for number in range(len(self.layers) - 1, self._trained_inputs - 1, -1):
            dx = dys[number - 1] if number > self._trained_inputs else None
            self.layers[number].backward(record, inputs[number], slopes[number], dys[number], dx, accumulate=accumulate)
            if gradient_ready is not None:
                calls.append(PythonCall(gradient_ready, self._offsets[number]))
        return calls

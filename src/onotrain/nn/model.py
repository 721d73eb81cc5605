"""The network: layers over one flat parameter vector, and the gradient of its loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from onotrain._kernels import Kernels, empty
from onotrain.nn import losses
from onotrain.nn.layers import KINDS, Draw, Layer, Stack
from onotrain.nn.layout import ParameterLayout

#: Passes whose arrays are remembered: a run has a few numbers of rows, and more where a load balance changes slices.
_PASSES = 64

#: A layer with its parameters and, if there are any, its gradients, by suffix.
_Bound = tuple[Layer, dict[str, np.ndarray], dict[str, np.ndarray] | None]


class _Stage(NamedTuple):
    """A layer with the arrays of a pass over some number of rows."""

    layer: Layer
    #: Its input; None for the first layer, whose input is the batch.
    x: np.ndarray | None
    slope: np.ndarray
    y: np.ndarray
    dy: np.ndarray
    #: None for the first layer that is trained: nothing in front of it learns.
    dx: np.ndarray | None
    #: Where the layer's parameters begin in the flat vector; those of the layers behind it lie after them.
    offset: int


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
        #: By first reserved row and number of rows.
        self._passes: dict[tuple[int, int], list[_Stage]] = {}

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
        self._passes = {}

    def rows(self, begin: int, end: int) -> np.ndarray:
        """Return where rows `begin` to `end` of a batch are to be put for `gradient`."""
        return self._x[begin:end] if self._packed else self._x[: end - begin]

    def factors(self, rows: int) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
        """Return what the gradient of each tensor is made of, for a batch of `rows` rows: see `Layer.factors`."""
        inputs = [self._x, *self._outputs]
        return {
            f"{layer.name}/{suffix}": made_of
            for layer, x, dz in zip(self.layers, inputs, self._gradients, strict=False)
            for suffix, made_of in layer.factors(x[:rows], dz[:rows]).items()
        }

    def _stages(self, begin: int, rows: int) -> list[_Stage]:
        """Return the layers with their arrays for `rows` rows from row `begin` of the reserved ones on."""
        slopes = [array[:rows] for array in self._slopes]
        outputs, gradients = (
            [array[begin : begin + rows] for array in arrays] for arrays in (self._outputs, self._gradients)
        )
        before = [None if index <= self._trained_inputs else gradients[index - 1] for index in range(len(slopes))]
        return list(map(_Stage, self.layers, [None, *outputs], slopes, outputs, gradients, before, self._offsets))

    def gradient(
        self,
        x: np.ndarray,
        targets: np.ndarray,
        weight: float,
        draw: Draw,
        loss_sums: np.ndarray,
        *,
        accumulate: bool,
        gradient_ready: Callable[[int], None] | None = None,
        row_weights: np.ndarray | None = None,
        output_weights: np.ndarray | None = None,
    ) -> None:
        """Compute this rank's part of the gradient of the global batch's mean loss.

        Parameters
        ----------
        x
            Shape ``(r, inputs)``, at most as many rows as reserved, and the very ones of `rows` if gradients are made
            of factors; 0 rows make a gradient of zeros.
        targets
            int32 ``(r,)`` for classes, else ``(r, outputs)``.
        weight
            1 / samples of the global batch.
        draw
            Key of the dropout masks.
        loss_sums
            float64 ``(2,)``; the sum of losses and the number of right rows are added to it.
        accumulate
            Add to the gradients of the batch's earlier micro-batches instead of overwriting them.
        gradient_ready
            Called after every layer with where in the flat vector gradients begin that this call will not touch again.
        row_weights
            How much each row counts, ``(r,)`` in the model's dtype; None: all alike.
        output_weights
            How much each output counts, ``(outputs,)``; None: all alike, and no target is missing.
        """
        place = draw.first_row if self._packed else 0, len(x)
        stages = self._passes.get(place)
        if stages is None:
            if len(self._passes) == _PASSES:
                self._passes.clear()
            stages = self._passes[place] = self._stages(*place)
        y = x
        for layer, _, slope, out, *_ in stages:
            layer.forward(y, draw, slope, out)
            y = out
        self.loss(y, targets, weight, stages[-1].dy, loss_sums, **losses.some_weights(row_weights, output_weights))
        for layer, inputs, slope, _, dy, dx, offset in reversed(stages[self._trained_inputs :]):
            layer.backward(x if inputs is None else inputs, slope, dy, dx, accumulate=accumulate)
            if gradient_ready is not None:
                gradient_ready(offset)

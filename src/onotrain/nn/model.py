"""The network: layers over one flat parameter vector, and the gradient of its loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from onotrain._kernels import Kernels
from onotrain._kernels.recording import PythonCall
from onotrain.nn import losses
from onotrain.nn.initializers import initialize
from onotrain.nn.layers import Layer
from onotrain.nn.layers.base import Packed, Recorder
from onotrain.nn.layout import ParameterLayout
from onotrain.nn.network import Network
from onotrain.nn.plan import Plan, gradient, saved, value
from onotrain.nn.workspace import Workspace
from onotrain.seeds import generator

#: Arrays by name.
_Arrays = Mapping[str, np.ndarray]


class Model:
    """Layers and a loss.

    Nothing of its memory is the model's own: parameters and gradients are views of flat vectors that a strategy owns
    and hands over with `bind`, activations those of a workspace that is handed over with `use`.

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
        self.kernels, self.dtype = kernels, kernels.dtype
        #: Order and arrays of passes.
        self.plan = Plan(Network(spec, (inputs,)), self.dtype, spec.frozen_layers)
        self.layers: list[Layer] = [node.layer for node in self.plan.nodes]
        self.inputs, self.outputs = inputs, self.layers[-1].outputs
        self.loss = losses.build(loss, self.outputs, kernels)
        shapes = [(f"{each.name}/{name}", p.shape) for each in self.layers for name, p in each.parameters.items()]
        no_products = [name for name, _ in shapes if name not in self.plan.products]
        self.layout = ParameterLayout(shapes, self.dtype, spec.frozen_layers, no_products)
        self._begins = self._find_begins()
        #: Of each layer, by name; set by `bind`.
        self._parameters: list[_Arrays] = []
        self._gradients: list[Mapping[str, np.ndarray | None]] = []
        self._shared = False
        #: The flat vector that parameters are read from; None before `bind`.
        self.bound: np.ndarray | None = None
        self._workspace = Workspace(self.plan.training, 0)

    def _find_begins(self) -> list[int]:
        """Return where each layer's parameters begin in the flat vector, or those of the layers behind it."""
        offsets = {tensor.name: tensor.offset for tensor in self.layout}
        begins, begin = [], self.layout.size
        for layer in reversed(self.layers):
            for name in list(layer.parameters)[:1]:
                begin = offsets[f"{layer.name}/{name}"]
            begins.append(begin)
        return begins[::-1]

    @property
    def widths(self) -> list[int]:
        """Widths of the layers with parameters."""
        return [layer.outputs for layer in self.layers if layer.parameters]

    def initialize(self, flat: np.ndarray, seed: int) -> None:
        """Set the first values of all parameters in the flat vector `flat`."""
        views = self.layout.views(flat)
        for layer in self.layers:
            for name, each in layer.parameters.items():
                tensor = f"{layer.name}/{name}"
                initialize(each.initializer, views[tensor], generator(seed, tensor), each.fans)

    def bind(self, parameters: np.ndarray, gradients: np.ndarray | None = None, *, shared: bool = False) -> None:
        """Read parameters from, and write gradients to, these flat vectors from now on.

        Gradients of frozen layers are not computed: what they would be written to stays as it is, zeros at first.
        `shared` says that ranks on other cores read the gradients.
        """
        self.bound, self._shared = parameters, shared
        views = self.layout.views(parameters)
        made = {} if gradients is None else self.layout.views(gradients)
        self._parameters, self._gradients = [], []
        for layer, trained in zip(self.layers, self.plan.trained, strict=True):
            tensors = {name: f"{layer.name}/{name}" for name in layer.parameters}
            self._parameters.append({name: views[tensor] for name, tensor in tensors.items()})
            self._gradients.append({name: made.get(tensor) if trained else None for name, tensor in tensors.items()})

    def reserve(self, rows: int) -> None:
        """Make room for passes over up to `rows` rows, in memory of this rank."""
        self.use(Workspace(self.plan.training, rows))

    def use(self, workspace: Workspace) -> None:
        """Compute in this memory from now on."""
        self._workspace = workspace

    def rows(self, begin: int, end: int) -> np.ndarray:
        """Return where rows `begin` to `end` of a batch are to be put for a program of `record`."""
        return self._workspace.samples(begin, end)

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
        of `bind` and `use`: after another one of these they are of no use any more.

        Parameters
        ----------
        x
            Shape ``(r, inputs)``, at most as many rows as reserved, and the very ones of `rows` if ranks share
            activations; 0 rows make a gradient of zeros.
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
        arrays = self._workspace.rows(begin, begin + len(x)) | {value(0): x}

        def recorder(number: int, dinputs: tuple[str | None, ...] = ()) -> Recorder:
            layer, inputs, output = self.plan.nodes[number]
            return Recorder(
                self.kernels, calls, number, tuple(arrays[value(tensor)] for tensor in inputs), arrays[value(output)],
                self._parameters[number], {name: arrays[saved(number, name)] for name in layer.saved},
                self._gradients[number], tuple(None if name is None else arrays[name] for name in dinputs),
                arrays.get(gradient(output)), seed, begin, accumulate, self._shared,
            )  # fmt: skip

        for number, layer in enumerate(self.layers):
            layer.forward(recorder(number))
        logits, dlogits = arrays[value(self.plan.output)], arrays[gradient(self.plan.output)]
        calls.append(self.loss.recorded(logits, targets, weight, dlogits, loss_sums, row_weights, output_weights))
        for number, dinputs, added in self.plan.backward:
            self.layers[number].backward(recorder(number, dinputs))
            calls += [
                self.kernels.record("add", arrays[part].reshape(-1), arrays[to].reshape(-1)) for part, to in added
            ]
            if gradient_ready is not None:
                calls.append(PythonCall(gradient_ready, self._begins[number]))
        return calls

    def record_prediction(self, arrays: _Arrays, packed: Packed | None = None) -> list[Any]:
        """Return the calls that compute the outputs of samples after training, without dropout, for a program.

        Parameters
        ----------
        arrays
            Those of ``plan.prediction`` by name, for some rows.
        packed
            Weights that were packed for other numbers of rows, to be used and added to, if parameters do not change
            any more; None: they may, between two runs of the program.
        """
        calls: list[Any] = []
        for number, (layer, inputs, output) in enumerate(self.plan.nodes):
            read, y = tuple(arrays[value(tensor)] for tensor in inputs), arrays[value(output)]
            layer.predict(Recorder(self.kernels, calls, number, read, y, self._parameters[number], packed=packed))
        return calls

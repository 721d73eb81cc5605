"""The network: layers over one flat parameter vector, and the gradient of its loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from onotrain._kernels import Kernels
from onotrain._kernels.recording import PythonCall, place
from onotrain.config import Problem
from onotrain.config.columns import Categories
from onotrain.nn import losses
from onotrain.nn.initializers import initialize
from onotrain.nn.layers import Layer
from onotrain.nn.layers.base import ShapeError
from onotrain.nn.layers.recorder import Packed, Recorder
from onotrain.nn.layout import ParameterLayout
from onotrain.nn.network import Network
from onotrain.nn.plan import Plan, gradient, saved, value
from onotrain.nn.shapes import Shape, as_written, in_words
from onotrain.nn.workspace import Blocks, Workspace
from onotrain.seeds import generator

#: Arrays by name.
_Arrays = Mapping[str, np.ndarray]
_NO_CODES: Mapping[int, Categories] = MappingProxyType({})


class _Part(NamedTuple):
    """Rows that a layer goes through at a time, and the gradients that they make; as of `Recorder`."""

    rows: slice
    gradients: Mapping[str, np.ndarray | None]
    block_rows: int | None = None


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
    shape
        Of a sample, as in the data: ``(features,)``, ``(length, channels)`` or ``(channels, height, width)``.
    kernels
        Kernels of the dtype to compute in.
    categories
        Features that are codes of columns of a table, by number.

    Raises
    ------
    ShapeError
        A layer cannot read samples of the shape that it would get.
    """

    def __init__(
        self, spec: Any, loss: Any, shape: Shape, kernels: Kernels, categories: Mapping[int, Categories] = _NO_CODES
    ) -> None:
        self.kernels, self.dtype = kernels, kernels.dtype
        #: Order and arrays of passes.
        self.plan = Plan(Network(spec, shape, categories), self.dtype, spec.frozen_layers)
        self.layers: list[Layer] = [node.layer for node in self.plan.nodes]
        self.shape, self.inputs, self.outputs = shape, math.prod(shape), self.layers[-1].outputs
        self.loss = losses.build(loss, self.outputs, kernels)
        tensors = {f"{each.name}/{name}": p for each in self.layers for name, p in each.parameters.items()}
        self.layout = ParameterLayout(
            [(name, each.shape) for name, each in tensors.items()],
            self.dtype,
            spec.frozen_layers,
            no_products=tensors.keys() - self.plan.products,
            rows={name for name, each in tensors.items() if each.rows},
            no_decay={name for name, each in tensors.items() if not each.decays},
            rates={name: each.rate for name, each in tensors.items() if each.averaged},
        )
        self._begins = self._find_begins()
        #: Of each layer, by name; set by `bind`.
        self._parameters: list[_Arrays] = []
        self._gradients: list[Mapping[str, np.ndarray | None]] = []
        self._shared = False
        #: The flat vector that parameters are read from; None before `bind`.
        self.bound: np.ndarray | None = None
        self._workspace = Workspace(self.plan.training, 0)

    def _find_begins(self) -> list[int]:
        """Return where each layer's parameters begin in the flat vector, or those of the layers behind it.

        Averaged tensors lie elsewhere.
        """
        offsets = {tensor.name: tensor.offset for tensor in self.layout}
        begins, begin = [], self.layout.averaged.start
        for layer in reversed(self.layers):
            for name in [name for name, each in layer.parameters.items() if not each.averaged][:1]:
                begin = offsets[f"{layer.name}/{name}"]
            begins.append(begin)
        return begins[::-1]

    @classmethod
    def of(cls, config: Any, shape: Shape, kernels: Kernels, categories: Mapping[int, Categories] = _NO_CODES) -> Model:
        """Return the network of a whole configuration.

        Raises
        ------
        ConfigError
            A layer cannot read samples of the shape that it would get; the message has its place in the configuration.
        """
        try:
            return cls(config.model, config.loss, shape, kernels, categories)
        except ShapeError as error:
            raise config.error(Problem(error.path, error.message), error.hint) from None

    @property
    def fewest_samples(self) -> int:
        """Samples that a batch must have to train on."""
        trained = zip(self.layers, self.plan.trained, strict=True)
        return max((layer.fewest_samples for layer, is_trained in trained if is_trained), default=1)

    @property
    def widths(self) -> str:
        """What a sample and the outputs of layers with parameters look like, in words: ``1x28x28-64-10``."""
        outputs = [as_written(layer.out) for layer in self.layers if layer.parameters]
        return "-".join(map(in_words, (self.shape, *outputs)))

    def _as_read(self, arrays: _Arrays) -> _Arrays:
        """Return arrays with the samples, which arrive flat, as the layers read them: the only place that does so."""
        samples = arrays[value(0)]
        return {**arrays, value(0): samples.reshape(len(samples), *self.plan.network.shapes[0])}

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

    def reserve(self, rows: int, all_reduce: Callable[[np.ndarray], None] | None = None) -> None:
        """Make room for passes over up to `rows` rows, in memory of this rank; see `Workspace`."""
        self.use(Workspace(self.plan.training, rows, all_reduce))

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
        samples: int,
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
        samples
            Of the global batch: its mean loss is what the gradient is of.
        loss_sums
            float64 ``(2,)``; the sum of losses and the number of right rows are added to it.
        seed
            Of the dropout masks.
        begin
            Row of the batch at which these rows begin.
        accumulate
            Add to the gradients of the batch's earlier micro-batches instead of overwriting them.
        gradient_ready
            Called after every layer with where in the flat vector gradients begin that this run will not touch again;
            those of averaged tensors are final after the last layer.
        row_weights
            How much each row counts, ``(r,)`` in the model's dtype; None: all alike.
        output_weights
            How much each output counts, ``(outputs,)``; None: all alike, and no target is missing.
        """
        calls: list[Any] = []
        end, workspace = begin + len(x), self._workspace
        whole = self._as_read(workspace.rows(begin, end) | {value(0): x})
        in_blocks = workspace.blocks(begin, end, samples)
        sums = [
            {name: workspace.batch_sums(number, name, begin, end, samples) for name in layer.batch_sums}
            for number, layer in enumerate(self.layers)
        ]

        def recorder(number: int, part: _Part, dinputs: tuple[str | None, ...] = ()) -> Recorder:
            layer, inputs, output = self.plan.nodes[number]
            arrays = {name: array[part.rows] for name, array in whole.items()}
            return Recorder(
                self.kernels, calls, number, tuple(arrays[value(tensor)] for tensor in inputs), arrays[value(output)],
                self._parameters[number], {name: arrays[saved(number, name)] for name in layer.saved}, part.gradients,
                tuple(None if name is None else arrays[name] for name in dinputs), arrays.get(gradient(output)), seed,
                begin + part.rows.start, samples, sums[number], accumulate, part.block_rows,
                self.plan.trained[number], self._shared,
            )  # fmt: skip

        for number, layer in enumerate(self.layers):
            begun = len(calls)
            layer.forward(recorder(number, self._whole(number, len(x))))
            place(calls[begun:], "forward", layer.name, len(x))
        logits, dlogits = whole[value(self.plan.output)], whole[gradient(self.plan.output)]
        calls.append(
            self.loss.recorded(logits, targets, 1.0 / samples, dlogits, loss_sums, row_weights, output_weights)
        )
        place(calls[-1:], "loss", rows=len(x))
        for number, dinputs, added in self.plan.backward:
            for part in self._parts(number, len(x), in_blocks):
                begun = len(calls)
                self.layers[number].backward(recorder(number, part, dinputs))
                place(calls[begun:], "backward", self.layers[number].name, part.rows.stop - part.rows.start)
            begun = len(calls)
            calls += [self.kernels.record("add", whole[part].reshape(-1), whole[to].reshape(-1)) for part, to in added]
            place(calls[begun:], "backward", self.layers[number].name, len(x))
            if gradient_ready is not None:
                calls.append(PythonCall(gradient_ready, self._begins[number]))
        return calls

    def _whole(self, number: int, rows: int) -> _Part:
        return _Part(slice(0, rows), self._gradients[number])

    def _parts(self, number: int, rows: int, blocks: Blocks | None) -> Iterator[_Part]:
        """Yield what the backward pass of a layer is recorded for at a time: all rows, or those of a block."""
        if blocks is None or number not in self.plan.in_blocks or not rows:
            yield self._whole(number, rows)
            return
        gradients = {name: blocks.gradients.get((number, name)) for name in self._gradients[number]}
        if self.layers[number].takes_blocks:
            yield _Part(slice(0, rows), gradients, blocks.rows)
            return
        for block, first in enumerate(range(0, rows, blocks.rows)):
            of_block = {name: None if each is None else each[block] for name, each in gradients.items()}
            yield _Part(slice(first, min(first + blocks.rows, rows)), of_block)

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
        arrays = self._as_read(arrays)
        for number, (layer, inputs, output) in enumerate(self.plan.nodes):
            read, y = tuple(arrays[value(tensor)] for tensor in inputs), arrays[value(output)]
            begun = len(calls)
            layer.predict(Recorder(self.kernels, calls, number, read, y, self._parameters[number], packed=packed))
            place(calls[begun:], "prediction", layer.name, len(y))
        return calls

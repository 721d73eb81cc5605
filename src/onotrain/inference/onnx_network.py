"""The layers of a network and what makes its predictions of their outputs, as nodes of an ONNX graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from onotrain.inference.exported_ports import Port
from onotrain.inference.onnx_builder import GraphBuilder
from onotrain.inference.predictor import Predictor
from onotrain.nn import Model

#: Activations that are one operator of ONNX.
_OPERATORS = {"relu": "Relu", "leaky_relu": "LeakyRelu", "sigmoid": "Sigmoid", "tanh": "Tanh"}
#: Operators that onnxruntime has only in single precision.
_SINGLE_PRECISION = ("AveragePool",)


def add_normalization(graph: GraphBuilder, predictor: Predictor, value: str, dtype: Any) -> str:
    """Add ``(x - shift) * scale`` for features of `dtype`, and return the result in the network's dtype."""
    model = predictor.model
    shift, scale = predictor.metadata.normalization.for_storage(dtype, model.inputs, model.dtype)
    value = graph.node("Sub", [value, graph.constant(shift, shift.dtype, "normalization_shift")])
    value = graph.node("Mul", [value, graph.constant(scale, scale.dtype, "normalization_scale")])
    return value if shift.dtype == model.dtype else graph.cast(value, model.dtype)


def add_network(graph: GraphBuilder, predictor: Predictor, features: str) -> str:
    """Add all layers, and return the probabilities or values of the last; NaN for a sample with a feature that is."""
    model = predictor.model
    views = model.layout.views(predictor.parameters)
    shape = model.plan.network.shapes[0]
    values = {0: features if len(shape) == 1 else graph.reshape(features, shape)}
    for layer, inputs, output in model.plan.nodes:
        of_layer = _LayerGraph(graph, layer.name, views, model.dtype)
        values[output] = layer.export(of_layer, *(values[tensor] for tensor in inputs))
    value = values[model.plan.output]
    last = model.loss.options.activation
    if last == "softmax":
        value = graph.node("Softmax", [value], axis=1)
    elif last == "gaussian":
        value = _mean_and_deviation(graph, value, model.loss.options.min_variance, model)
    else:
        value = graph.node(last.capitalize(), [value])
    # Not every runtime's activations pass NaN on.
    lost = graph.node("ReduceMax", [graph.cast(graph.node("IsNaN", [features]), np.float32)], axes=[1], keepdims=1)
    return graph.node("Where", [graph.cast(lost, np.bool_), graph.constant(np.nan, model.dtype), value])


def _mean_and_deviation(graph: GraphBuilder, value: str, min_variance: float, model: Model) -> str:
    """Add ``sqrt(min_variance + exp(s))`` of every second value s, by its logarithm, which does not overflow."""
    floor = graph.constant(math.log(min_variance), model.dtype)
    above = _softplus(graph, graph.node("Sub", [value, floor]), model.dtype)
    half = graph.node("Mul", [graph.node("Add", [above, floor]), graph.constant(0.5, model.dtype)])
    means = graph.constant([True, False] * (model.outputs // 2), np.bool_)
    return graph.node("Where", [means, value, graph.node("Exp", [half])])


class _LayerGraph:
    """What a layer adds itself to: see `onotrain.nn.layers.base.OperatorGraph`."""

    def __init__(self, graph: GraphBuilder, layer: str, views: Mapping[str, np.ndarray], dtype: np.dtype) -> None:
        self._graph, self._layer, self._views, self._dtype = graph, layer, views, dtype

    def node(self, operator: str, inputs: Sequence[str], **options: Any) -> str:
        """Add an operator; in single precision where runtimes have no other."""
        if operator not in _SINGLE_PRECISION or self._dtype == np.float32:
            return self._graph.node(operator, inputs, **options)
        made = self._graph.node(operator, [self._graph.cast(each, np.float32) for each in inputs], **options)
        return self._graph.cast(made, self._dtype)

    def parameter(self, name: str) -> str:
        """Add one of the layer's parameters, under the name that exported files have."""
        view = self._views[f"{self._layer}/{name}"]
        return self._graph.constant(view, self._dtype, f"{self._layer}.{name}")

    def reshape(self, value: str, shape: tuple[int, ...]) -> str:
        """View samples in another shape."""
        return self._graph.reshape(value, shape)

    def constant(self, values: Any, dtype: Any = None) -> str:
        """Add one or several numbers; None: of the network's dtype."""
        return self._graph.constant(values, self._dtype if dtype is None else dtype)

    def cast(self, value: str, dtype: Any) -> str:
        """Convert to another type."""
        return self._graph.cast(value, dtype)

    def activation(self, name: str, negative_slope: float, value: str) -> str:
        """Add an activation, in one operator or several."""
        if name == "identity":
            return value
        if name in _COMPOSED:
            return _COMPOSED[name](self._graph, value, self._dtype)
        options: dict[str, Any] = {"alpha": negative_slope} if name == "leaky_relu" else {}
        return self.node(_OPERATORS[name], [value], **options)


def _gelu(graph: GraphBuilder, value: str, dtype: np.dtype) -> str:
    """``x (1 + erf(x / sqrt 2)) / 2``; the operator Gelu is only in operator set 20."""
    inner = graph.node("Mul", [value, graph.constant(math.sqrt(0.5), dtype)])
    # onnxruntime has the error function only in single precision.
    erf = graph.node("Erf", [inner if dtype == np.float32 else graph.cast(inner, np.float32)])
    erf = erf if dtype == np.float32 else graph.cast(erf, dtype)
    share = graph.node("Add", [erf, graph.constant(1.0, dtype)])
    return graph.node("Mul", [graph.node("Mul", [value, share]), graph.constant(0.5, dtype)])


def _silu(graph: GraphBuilder, value: str, dtype: np.dtype) -> str:
    return graph.node("Mul", [value, graph.node("Sigmoid", [value])])


def _elu(graph: GraphBuilder, value: str, dtype: np.dtype) -> str:
    """``max(x, 0) + exp(min(x, 0)) - 1``: onnxruntime has the operator only in single precision."""
    zero, one = graph.constant(0.0, dtype), graph.constant(1.0, dtype)
    below = graph.node("Sub", [graph.node("Exp", [graph.node("Min", [value, zero])]), one])
    return graph.node("Add", [graph.node("Max", [value, zero]), below])


def _softplus(graph: GraphBuilder, value: str, dtype: np.dtype) -> str:
    """``max(x, 0) + log(1 + exp(-|x|))``, for the same reason."""
    e = graph.node("Exp", [graph.node("Neg", [graph.node("Abs", [value])])])
    log = graph.node("Log", [graph.node("Add", [e, graph.constant(1.0, dtype)])])
    return graph.node("Add", [graph.node("Max", [value, graph.constant(0.0, dtype)]), log])


#: Activations that are several operators.
_COMPOSED: dict[str, Callable[[GraphBuilder, str, np.dtype], str]] = {
    "gelu": _gelu, "silu": _silu, "elu": _elu, "softplus": _softplus,
}  # fmt: skip


def add_answers(graph: GraphBuilder, predictor: Predictor, value: str, outputs: tuple[Port, ...]) -> None:
    """Add what `outputs` name: probabilities, or values in the units of the data, and the class."""
    scaling = predictor.metadata.codec.output_scaling
    if scaling is not None:
        value = graph.node("Mul", [graph.cast(value, np.float64), graph.constant(scaling.scale, name="target.scale")])
        value = graph.node("Add", [value, graph.constant(scaling.shift, name="target.shift")])
        value = graph.node("Exp", [value]) if scaling.log else value
    graph.node("Identity", [value], output=outputs[0].name)
    if outputs[1:]:
        _add_label(graph, predictor, value, outputs[1].name)


def _add_label(graph: GraphBuilder, predictor: Predictor, value: str, output: str) -> None:
    """Add the name of the class that `Outputs.decide` takes."""
    if predictor.output.task == "binary":
        above = graph.node("Greater", [value, graph.constant(0.5, predictor.model.dtype)])
        number = graph.node("Squeeze", [graph.cast(above, np.int64), graph.constant([1], np.int64)])
    else:
        number = graph.node("ArgMax", [value], axis=1, keepdims=0)
    names = graph.constant(list(predictor.output.shown_names), object, "classes.names")
    graph.node("Gather", [names, number], output=output)

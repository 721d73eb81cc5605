"""The layers of a network and what makes its predictions of their outputs, as nodes of an ONNX graph."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from onotrain.inference.exported_ports import Port
from onotrain.inference.onnx_builder import GraphBuilder
from onotrain.inference.outputs import activation_of
from onotrain.inference.predictor import Predictor
from onotrain.nn.layers import Activation, Dense

#: Activations that are one operator of ONNX.
_OPERATORS = {"relu": "Relu", "leaky_relu": "LeakyRelu", "sigmoid": "Sigmoid", "tanh": "Tanh"}


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
    value = features
    for layer in model.layers:
        if isinstance(layer, Dense):
            names = [f"{layer.name}/{suffix}" for suffix, _ in layer.shapes()]
            operands = [graph.constant(views[name], model.dtype, name.replace("/", ".")) for name in names]
            value = graph.node("Gemm", [value, *operands], transB=1)
        value = _activation(graph, value, activation_of(layer), model.dtype)
    last = model.loss.options.activation.capitalize()
    value = graph.node(last, [value], axis=1) if last == "Softmax" else graph.node(last, [value])
    # Not every runtime's activations pass NaN on.
    lost = graph.node("ReduceMax", [graph.cast(graph.node("IsNaN", [features]), np.float32)], axes=[1], keepdims=1)
    return graph.node("Where", [graph.cast(lost, np.bool_), graph.constant(np.nan, model.dtype), value])


def _activation(graph: GraphBuilder, value: str, activation: Activation, dtype: np.dtype) -> str:
    if activation.name == "identity":
        return value
    if activation.name in _COMPOSED:
        return _COMPOSED[activation.name](graph, value, dtype)
    options: dict[str, Any] = {"alpha": activation.negative_slope} if activation.name == "leaky_relu" else {}
    return graph.node(_OPERATORS[activation.name], [value], **options)


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
    scaling = predictor.metadata.codec.scaling
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

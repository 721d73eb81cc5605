"""A network as an ONNX graph: normalisation, dense layers, activations, and softmax or sigmoid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from onotrain import __version__
from onotrain.inference.outputs import activation_of
from onotrain.inference.predictor import Predictor
from onotrain.nn.layers import Activation, Dense

#: Operator set 17 (2022) and file format 8, which runtimes of the last years read.
OPSET = 17
_IR_VERSION = 8
#: Activations that are one operator of ONNX.
_OPERATORS = {"relu": "Relu", "leaky_relu": "LeakyRelu", "sigmoid": "Sigmoid", "tanh": "Tanh"}


def onnx_bytes(predictor: Predictor, description: str) -> bytes:
    """Return the ONNX file.

    The graph takes ``input`` ``[batch, features]`` in the network's dtype (uint8 pixels divided by 255) and gives
    ``probabilities`` or ``values`` ``[batch, outputs]``.

    Parameters
    ----------
    predictor
        The network.
    description
        Kept as metadata ``onotrain``.
    """
    result = "values" if predictor.output.regression else "probabilities"
    graph = _Graph(predictor.model.dtype)
    graph.network(predictor, result)
    kind = onnx.helper.np_dtype_to_tensor_dtype(predictor.model.dtype)
    make_value = onnx.helper.make_tensor_value_info
    body = onnx.helper.make_graph(
        graph.nodes,
        "network",
        [make_value("input", kind, ["batch", predictor.model.inputs])],
        [make_value(result, kind, ["batch", predictor.outputs])],
        graph.constants,
        doc_string="input: samples before normalisation; uint8 pixels divided by 255",
    )
    model = onnx.helper.make_model(
        body,
        producer_name="onotrain",
        producer_version=__version__,
        ir_version=_IR_VERSION,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
    )
    onnx.helper.set_model_props(model, {"onotrain": description})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


class _Graph:
    """Nodes in order; every method takes the name of a value and returns that of the next."""

    def __init__(self, dtype: np.dtype) -> None:
        self._dtype = dtype
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def network(self, predictor: Predictor, result: str) -> None:
        """Add all of the network."""
        model = predictor.model
        shift, scale = predictor.metadata.normalization.for_storage(model.dtype, model.inputs, model.dtype)
        value = self._node("Sub", ["input", self._constant("normalization_shift", shift)])
        value = self._node("Mul", [value, self._constant("normalization_scale", scale)])
        views = model.layout.views(predictor.parameters)
        for layer in model.layers:
            if isinstance(layer, Dense):
                names = [f"{layer.name}/{suffix}" for suffix, _ in layer.shapes()]
                operands = [self._constant(name.replace("/", "."), views[name]) for name in names]
                value = self._node("Gemm", [value, *operands], transB=1)
            value = self._activation(value, activation_of(layer))
        last = predictor.model.loss.options.activation.capitalize()
        self._node(last, [value], output=result, **({"axis": 1} if last == "Softmax" else {}))

    def _activation(self, value: str, activation: Activation) -> str:
        if activation.name == "identity":
            return value
        if activation.name != "gelu":
            options: dict[str, Any] = {"alpha": activation.negative_slope} if activation.name == "leaky_relu" else {}
            return self._node(_OPERATORS[activation.name], [value], **options)
        # x (1 + erf(x / sqrt 2)) / 2; the operator Gelu is only in operator set 20.
        inner = self._node("Mul", [value, self._number(math.sqrt(0.5))])
        share = self._node("Add", [self._node("Erf", [inner]), self._number(1.0)])
        return self._node("Mul", [self._node("Mul", [value, share]), self._number(0.5)])

    def _node(self, operator: str, inputs: Sequence[str], output: str | None = None, **options: Any) -> str:
        name = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, list(inputs), [name], **options))
        return name

    def _constant(self, name: str, values: np.ndarray) -> str:
        self.constants.append(onnx.numpy_helper.from_array(np.ascontiguousarray(values, self._dtype), name))
        return name

    def _number(self, value: float) -> str:
        return self._constant(f"constant_{len(self.constants)}", np.array(value))

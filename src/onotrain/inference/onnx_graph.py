"""A network as an ONNX file: from the samples as they are in a file to predictions in their units."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx

from onotrain import __version__
from onotrain.inference.exported_ports import Port, Ports
from onotrain.inference.onnx_builder import OPSET, TABLE_DOMAIN, TABLE_OPSET, GraphBuilder
from onotrain.inference.onnx_network import add_answers, add_network, add_normalization
from onotrain.inference.onnx_preparation import add_preparation
from onotrain.inference.predictor import Predictor

#: Format of the file, as old as the operator sets.
_IR_VERSION = 8


def onnx_bytes(predictor: Predictor, ports: Ports, description: str) -> bytes:
    """Return the ONNX file.

    Parameters
    ----------
    predictor
        The network.
    ports
        Its inputs and outputs, from `onotrain.inference.exported_ports.ports_of`.
    description
        Kept as metadata ``onotrain``; beside it ``columns`` (names of inputs to those of columns) and ``classes``.
    """
    graph = GraphBuilder()
    preparation = predictor.metadata.preparation
    if preparation is None:
        features = add_normalization(graph, predictor, ports.inputs[0].name, ports.inputs[0].dtype)
    else:
        features = add_preparation(graph, preparation, [port.name for port in ports.inputs])
        features = features if predictor.model.dtype == np.float64 else graph.cast(features, predictor.model.dtype)
    add_answers(graph, predictor, add_network(graph, predictor, features), ports.outputs)
    body = onnx.helper.make_graph(
        graph.nodes,
        "network",
        [_value_info(port) for port in ports.inputs],
        [_value_info(port) for port in ports.outputs],
        graph.constants,
    )
    opsets = [("", OPSET)]
    if any(port.dtype == "string" for port in ports.inputs):
        opsets.append((TABLE_DOMAIN, TABLE_OPSET))
    model = onnx.helper.make_model(
        body,
        producer_name="onotrain",
        producer_version=__version__,
        ir_version=_IR_VERSION,
        opset_imports=[onnx.helper.make_opsetid(*opset) for opset in opsets],
    )
    onnx.helper.set_model_props(model, {"onotrain": description, **_names(predictor, ports)})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def _value_info(port: Port) -> Any:
    dtype = np.dtype(object if port.dtype == "string" else port.dtype)
    kind = onnx.helper.np_dtype_to_tensor_dtype(dtype)
    return onnx.helper.make_tensor_value_info(port.name, kind, port.shape, doc_string=port.meaning)


def _names(predictor: Predictor, ports: Ports) -> dict[str, str]:
    """Return JSON of what the inputs are called in the table, and of the classes."""
    found: dict[str, str] = {}
    if predictor.metadata.preparation is not None:
        found["columns"] = json.dumps({port.name: port.column for port in ports.inputs}, ensure_ascii=False)
    if not predictor.output.regression:
        found["classes"] = json.dumps(predictor.output.shown_names, ensure_ascii=False)
    return found

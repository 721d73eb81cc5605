"""Nodes and constants of an ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

#: Operator sets of 2022, which runtimes of the last years read: of ONNX itself, and of its part for tables.
OPSET, TABLE_OPSET = 17, 3
TABLE_DOMAIN = "ai.onnx.ml"


class GraphBuilder:
    """Nodes in order; most methods take the names of values and return that of the next.

    Names inside contain a point, which names of inputs and outputs do not.
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(
        self, operator: str, inputs: Sequence[str], *, output: str | None = None, domain: str = "", **options: Any
    ) -> str:
        """Add a node and return the name of its output."""
        name = output or f"{operator.lower()}.{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, list(inputs), [name], domain=domain or None, **options))
        return name

    def constant(self, values: Any, dtype: Any = np.float64, name: str | None = None) -> str:
        """Add one or several numbers of `dtype`, or text (object)."""
        name = name or f"constant.{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.array(values, dtype, order="C"), name))
        return name

    def call(self, operator: str, *operands: str | float, **options: Any) -> str:
        """Add a node; numbers among the operands are constants in double precision."""
        names = [each if isinstance(each, str) else self.constant(each) for each in operands]
        return self.node(operator, names, **options)

    def reshape(self, value: str, shape: Sequence[int]) -> str:
        """View samples in another shape; the axis of the samples stays as it is."""
        return self.node("Reshape", [value, self.constant([0, *shape], np.int64)])

    def cast(self, value: str, dtype: Any) -> str:
        """Convert to a type of NumPy."""
        return self.node("Cast", [value], to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

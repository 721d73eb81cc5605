"""The dense layer: every output is a weighted sum of all inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onotrain._kernels.recording import Live
from onotrain.config import layers_activated as config
from onotrain.config import layers_images
from onotrain.nn.layers.activated import Activated
from onotrain.nn.layers.base import Builder, Description, OperatorGraph, Parameter, Product, Saved
from onotrain.nn.layers.flatten import Flatten
from onotrain.nn.layers.recorder import Recorder
from onotrain.nn.shapes import Shape


class Dense(Activated):
    """``y = dropout(activation(x W^T + b))`` in one pass, with ``x (r, i)``, ``W (o, i)`` and ``b (o,)``.

    Samples of several axes are flattened first.

    The forward pass leaves in ``slope`` the derivative of the output by ``z = x W^T + b``, dropout included; the
    backward pass therefore needs neither z, nor the mask, nor the name of the activation.
    """

    Options = config.Dense
    reads_again = frozenset(("x",))
    needs_axes = False

    def __init__(self, options: Any, shape: Shape, defaults: Any) -> None:
        super().__init__(options, shape, defaults)
        self.out = (options.units,)
        fans = self.outputs, self.inputs
        self.parameters = {"weight": Parameter(fans, fans, options.initializer or defaults.initializer)}
        if options.bias:
            self.parameters["bias"] = Parameter(self.out, fans, defaults.bias_initializer, decays=False)
        self.saved = {"slope": Saved(self.out)}

    @classmethod
    def build(cls, network: Builder, options: Any, x: int) -> int:
        """Add it behind tensor `x`, whose samples are flattened."""
        return super().build(network, options, Flatten.build(network, layers_images.Flatten(), x))

    def forward(self, r: Recorder) -> None:
        """``y`` and ``slope = dy/dz``."""
        r.call(
            "dense_forward", r.x, r.parameters["weight"], r.parameters.get("bias"), self.activation.code,
            self.activation.negative_slope, self.dropout, r.seed, Live.STEP, r.index, r.first_row, r.saved["slope"],
            r.y,
        )  # fmt: skip

    def backward(self, r: Recorder) -> None:
        """``dz = dy * slope``; ``dx = dz W``; ``dw = dz^T x``; ``db`` is the sum of the rows of ``dz``."""
        dw, db = r.gradients["weight"], r.gradients.get("bias")
        r.call(
            "dense_backward", r.x, r.parameters["weight"], r.saved["slope"], r.accumulate, r.shared, r.dy, r.dx, dw, db
        )

    def predict(self, r: Recorder) -> None:
        """``y`` without dropout."""
        r.call(
            "dense_predict", r.x, r.parameters["weight"], r.pack("weight"), r.parameters.get("bias"),
            self.activation.code, self.activation.negative_slope, r.y,
        )  # fmt: skip

    def outer_products(self) -> Mapping[str, Product]:
        """``dw`` and ``db`` are made of the rows of ``dz``, which the backward pass leaves in ``dy``."""
        return {name: Product("dy", "x" if name == "weight" else None) for name in self.parameters}

    def describe(self) -> Description:
        """Return the weighted sum and the activation."""
        sums = {
            "kind": "dense", "name": self.name, "inputs": self.inputs, "outputs": self.outputs,
            "bias": "bias" in self.parameters,
        }  # fmt: skip
        operations = (sums, *self.activation.describe())
        return Description(self.name, operations, self.activation.name, self.dropout)

    def export(self, graph: OperatorGraph, *inputs: str) -> str:
        """Add the weighted sum and the activation."""
        z = graph.node("Gemm", [*inputs, *map(graph.parameter, self.parameters)], transB=1)
        return graph.activation(self.activation.name, self.activation.negative_slope, z)

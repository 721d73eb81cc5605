"""Functions of every value by itself: activations, and layers of one or of dropout that stand alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from onotrain._kernels.recording import Live
from onotrain.config import layers_activated as config
from onotrain.known_names import ACTIVATIONS, ActivationName
from onotrain.nn.layers.base import Description, Layer, OperatorGraph, Saved
from onotrain.nn.layers.recorder import Recorder
from onotrain.nn.shapes import Shape


@dataclass(frozen=True)
class Function:
    """An activation function and its one number."""

    name: ActivationName = "identity"
    #: Of leaky_relu alone.
    negative_slope: float = 0.0

    @cached_property
    def code(self) -> int:
        """The kernels' number for it."""
        return ACTIVATIONS[self.name]

    def describe(self) -> tuple[dict[str, Any], ...]:
        """Return it as an operation of `Description`; nothing for identity."""
        if self.name == "identity":
            return ()
        slope = {"negative_slope": self.negative_slope} if self.name == "leaky_relu" else {}
        return ({"kind": "activation", "name": self.name, **slope},)


class Elementwise(Layer):
    """``y = dropout(activation(x))``; of the two, a layer of the configuration has one.

    The forward pass leaves in ``slope`` the derivative of the output by the input, dropout included; the backward pass
    therefore needs neither the input, nor the mask, nor the name of the activation.
    """

    reads_again = frozenset()
    needs_axes: ClassVar[bool | None] = None

    activation = Function()
    dropout = 0.0

    def __init__(self, options: Any, shape: Shape, defaults: Any) -> None:
        super().__init__(options, shape, defaults)
        self.saved = {"slope": Saved(shape)}

    def forward(self, r: Recorder) -> None:
        """``y`` and ``slope = dy/dx``."""
        r.call(
            "elementwise_forward", flat(r.x), self.activation.code, self.activation.negative_slope, self.dropout,
            r.seed, Live.STEP, r.index, r.first_row, flat(r.saved["slope"]), flat(r.y),
        )  # fmt: skip

    def backward(self, r: Recorder) -> None:
        """``dx = dy * slope``."""
        if r.dx is not None:
            r.call("elementwise_backward", flat(r.saved["slope"]), flat(r.dy), flat(r.dx))

    def predict(self, r: Recorder) -> None:
        """``y`` without dropout."""
        r.call("elementwise_predict", flat(r.x), self.activation.code, self.activation.negative_slope, flat(r.y))

    def describe(self) -> Description:
        """Return the activation; of dropout nothing is left after training."""
        return Description(self.kind, self.activation.describe(), self.activation.name, self.dropout)

    def export(self, graph: OperatorGraph, *inputs: str) -> str:
        """Add the activation."""
        return graph.activation(self.activation.name, self.activation.negative_slope, *inputs)


def flat(array: Any) -> Any:
    """Return the values of each sample in one row, ``(r, n)``; the last axis varies fastest."""
    return array.reshape(len(array), math.prod(array.shape[1:]))


class Activation(Elementwise):
    """``y = activation(x)``."""

    Options = config.Activation

    def __init__(self, options: Any, shape: Shape, defaults: Any) -> None:
        super().__init__(options, shape, defaults)
        self.activation = Function(options.name, options.negative_slope)

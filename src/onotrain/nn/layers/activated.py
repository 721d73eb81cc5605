"""What layers of weighted sums have in common: an activation and a dropout that are computed in the same pass."""

from __future__ import annotations

from typing import Any

from onotrain.nn.layers.activation import Activation, Function
from onotrain.nn.layers.base import Layer
from onotrain.nn.layers.dropout import Dropout
from onotrain.nn.shapes import Shape


class Activated(Layer):
    """A layer whose options have an activation, which is the first of what follows its sums."""

    def __init__(self, options: Any, shape: Shape, defaults: Any) -> None:
        super().__init__(options, shape, defaults)
        self.activation = Function(options.activation, options.negative_slope)
        self.dropout = 0.0

    def absorb(self, following: Layer) -> bool:
        """Take an activation or a dropout into this layer's pass, if the order of operations allows it."""
        if self.dropout or not isinstance(following, Activation | Dropout):
            return False
        if isinstance(following, Dropout):
            self.dropout = following.dropout
        elif self.activation.name == "identity":
            self.activation = following.activation
        else:
            return False
        return True

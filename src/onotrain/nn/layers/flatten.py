"""Flatten and reshape: the same values in another shape, in the order in which data and users have them."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from onotrain.config import layers_images as config
from onotrain.config.options import LayerOptions
from onotrain.nn.layers.base import Builder, Layer, OperatorGraph, ShapeError
from onotrain.nn.layers.recorder import Recorder
from onotrain.nn.shapes import IMAGE_AXES, Shape, as_written, channels_last


class Flatten(Layer):
    """``y`` has the values of each sample in one axis, channel by channel: it is ``x (positions, channels)^T``.

    So weights of a dense layer behind it are those that they are with the channels first.
    """

    Options: ClassVar[type[LayerOptions]] = config.Flatten
    reads_again = frozenset()
    needs_axes = False

    def __init__(self, options: Any, shape: Shape, defaults: Any) -> None:
        super().__init__(options, shape, defaults)
        self.out = (self.inputs,)
        #: Every sample is a matrix of this shape, which is transposed.
        self.matrix = self.inputs // shape[-1], shape[-1]

    @classmethod
    def build(cls, network: Builder, options: Any, x: int) -> int:
        """Add it behind tensor `x`, unless samples have one axis already."""
        return super().build(network, options, x) if len(network.shapes[x]) > 1 else x

    def forward(self, r: Recorder) -> None:
        """``y = x^T``."""
        rows, columns = self.matrix
        r.call("transpose_samples", _matrices(r.x, rows, columns), _matrices(r.y, columns, rows))

    def backward(self, r: Recorder) -> None:
        """``dx = dy^T``."""
        rows, columns = self.matrix
        if r.dx is not None:
            r.call("transpose_samples", _matrices(r.dy, columns, rows), _matrices(r.dx, rows, columns))

    def predict(self, r: Recorder) -> None:
        """``y = x^T``."""
        self.forward(r)

    def export(self, graph: OperatorGraph, *inputs: str) -> str:
        """Bring the channels to the front, and all values to one axis."""
        value, axes = inputs[0], len(self.shape)
        if min(self.matrix) > 1:
            value = graph.node("Transpose", [value], perm=[0, axes, *range(1, axes)])
        return graph.reshape(value, self.out)


def _matrices(array: Any, rows: int, columns: int) -> np.ndarray:
    """Return every sample as a matrix."""
    return array.reshape(len(array), rows, columns)


class Reshape(Flatten):
    """``y`` has the values of each sample in another shape: as NumPy reshapes samples as users have them.

    That of an image has the channels first: ``y`` is ``x (channels, positions)^T`` then.
    """

    Options = config.Reshape

    def __init__(self, options: Any, shape: Shape, defaults: Any) -> None:
        super().__init__(options, shape, defaults)
        wanted = math.prod(options.shape)
        if wanted != self.inputs:
            got = " x ".join(map(str, options.shape))
            raise ShapeError("shape", f"{got} are {wanted} values (got samples of {self.inputs} values)")
        self.out = channels_last(options.shape)
        channels = self.out[-1] if len(self.out) == IMAGE_AXES else 1
        self.matrix = channels, self.inputs // channels

    @classmethod
    def build(cls, network: Builder, options: Any, x: int) -> int:
        """Add it behind tensor `x`, of which images are flattened first."""
        if len(network.shapes[x]) == IMAGE_AXES:
            x = Flatten.build(network, config.Flatten(), x)
        return network.add(cls(options, network.shapes[x], network.defaults), x)

    def export(self, graph: OperatorGraph, *inputs: str) -> str:
        """Give the values their axes, and bring the channels to the end."""
        if min(self.matrix) == 1:
            return graph.reshape(inputs[0], self.out)
        return graph.node("Transpose", [graph.reshape(inputs[0], as_written(self.out))], perm=[0, 2, 3, 1])

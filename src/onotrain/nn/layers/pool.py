"""Pooling: the largest number or the mean of each window of an image, channel by channel."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from onotrain.config import layers_images as config
from onotrain.config.options import LayerOptions
from onotrain.nn.layers.base import Layer, OperatorGraph, Saved, ShapeError
from onotrain.nn.layers.images import channels_first, image, line
from onotrain.nn.layers.recorder import Recorder
from onotrain.nn.layers.windows import POINT, Axis
from onotrain.nn.shapes import Shape


class Pool(Layer):
    """Base: what is written for the windows of a channel is one number each."""

    reads_again = frozenset()
    #: The first axis of the pooled images that the output has.
    first_axis: ClassVar[int] = 0

    def __init__(self, options: Any, shape: Shape, defaults: Any) -> None:
        super().__init__(options, shape, defaults)
        #: Samples as images, ``(height, width, channels)``, and how windows go along height and width.
        self.images, self.axes = self.windows()
        if min(axis.windows for axis in self.axes) < 1:
            window, found = (
                " x ".join(map(str, each)) for each in zip(*((a.reach, a.padded) for a in self.axes), strict=True)
            )
            raise ShapeError("size", f"a window of {window} is larger than the image (got {found} pixels with padding)")
        #: Samples of the output as images.
        self.pooled = (*(axis.windows for axis in self.axes), self.images[2])
        numbers = ((axis.kernel, axis.stride, axis.before) for axis in self.axes)
        #: How windows go over the image, as the kernels take it: sizes, strides, and padding, alike on both sides.
        self.window = tuple(number for pair in zip(*numbers, strict=True) for number in pair)
        self.out = self.pooled[self.first_axis :]

    def windows(self) -> tuple[Shape, list[Axis]]:
        """Return what is pooled, windows of an image: samples as images, and their axes."""
        images, options = image(self.shape), self.options
        numbers = zip(images[:2], options.size, options.stride or options.size, options.padding, strict=True)
        return images, [Axis.of(n, size, stride, 1, padding) for n, size, stride, padding in numbers]

    def read(self, array: Any) -> np.ndarray:
        """Return inputs, or the gradient by them, as images."""
        return array.reshape(len(array), *self.images)

    def written(self, array: Any) -> np.ndarray:
        """Return outputs, or what belongs to them, as images."""
        return array.reshape(len(array), *self.pooled)

    def export_as(self, operator: str, graph: OperatorGraph, value: str, **options: Any) -> str:
        """Add an operator for these windows."""
        value = graph.reshape(value, self.images) if self.shape != self.images else value
        size, stride, padding = self.window[:2], self.window[2:4], self.window[4:]
        options |= {"kernel_shape": size, "strides": stride, "pads": (*padding, *padding)}
        value = channels_first(graph, value, operator, **options)
        return graph.reshape(value, self.out) if self.out != self.pooled else value


class MaxPool2d(Pool):
    """``y`` is the largest number of each window.  The forward pass leaves in ``winner`` where in the window it is."""

    Options: ClassVar[type[LayerOptions]] = config.MaxPool2d

    def __init__(self, options: Any, shape: Shape, defaults: Any) -> None:
        super().__init__(options, shape, defaults)
        self.saved = {"winner": Saved(self.pooled, np.uint8)}

    def forward(self, r: Recorder) -> None:
        """``y`` and ``winner``."""
        r.call("max_pool", self.read(r.x), *self.window, r.saved["winner"], self.written(r.y))

    def backward(self, r: Recorder) -> None:
        """``dx`` is the sum of the ``dy`` of the windows that a pixel has won."""
        if r.dx is not None:
            r.call("max_pool_backward", r.saved["winner"], self.written(r.dy), *self.window, self.read(r.dx))

    def predict(self, r: Recorder) -> None:
        """``y`` alone."""
        r.call("max_pool", self.read(r.x), *self.window, None, self.written(r.y))

    def export(self, graph: OperatorGraph, *inputs: str) -> str:
        """Add the operator."""
        return self.export_as("MaxPool", graph, *inputs)


class AvgPool2d(Pool):
    """``y`` is the mean of each window, in which pixels of the padding count as zeros."""

    Options: ClassVar[type[LayerOptions]] = config.AvgPool2d

    def forward(self, r: Recorder) -> None:
        """``y``."""
        r.call("avg_pool", self.read(r.x), *self.window, self.written(r.y))

    def backward(self, r: Recorder) -> None:
        """``dx`` is the sum of the ``dy`` of the windows that a pixel lies in, by their size."""
        if r.dx is not None:
            r.call("avg_pool_backward", self.written(r.dy), *self.window, self.read(r.dx))

    def predict(self, r: Recorder) -> None:
        """``y``."""
        self.forward(r)

    def export(self, graph: OperatorGraph, *inputs: str) -> str:
        """Add the operator."""
        return self.export_as("AveragePool", graph, *inputs, count_include_pad=1)


class OfSequence(Pool):
    """Windows of a sequence: it is an image of height 1."""

    first_axis = 1

    def windows(self) -> tuple[Shape, list[Axis]]:
        """Return what is pooled."""
        images, options = line(self.shape), self.options
        along = Axis.of(images[1], options.size, options.stride or options.size, 1, options.padding)
        return images, [POINT, along]


class MaxPool1d(OfSequence, MaxPool2d):
    """``y`` is the largest number of each window of a sequence."""

    Options = config.MaxPool1d


class AvgPool1d(OfSequence, AvgPool2d):
    """``y`` is the mean of each window of a sequence, in which positions of the padding count as zeros."""

    Options = config.AvgPool1d


class GlobalAvgPool(AvgPool2d):
    """``y`` is the mean of each channel over all positions."""

    Options = config.GlobalAvgPool
    first_axis = 2

    def windows(self) -> tuple[Shape, list[Axis]]:
        """Return what is pooled: one window, all there is."""
        if len(self.shape) == 1:
            raise ShapeError(None, f"takes means over positions (got samples of {self.inputs} values without axes)")
        channels = self.shape[-1]
        positions = self.inputs // channels
        return (1, positions, channels), [POINT, Axis(positions, positions, positions, 1, 0, 0)]

    def export(self, graph: OperatorGraph, *inputs: str) -> str:
        """Add the mean over the axes of the positions."""
        return graph.node("ReduceMean", inputs, axes=list(range(1, len(self.shape))), keepdims=0)

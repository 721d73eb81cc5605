"""Convolutions of images and of sequences: the same weighted sums over every window."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from onotrain._kernels.recording import Live
from onotrain.config import layers_images as config
from onotrain.config.options import LayerOptions
from onotrain.nn.layers.activated import Activated
from onotrain.nn.layers.base import Description, OperatorGraph, Parameter, Saved, ShapeError
from onotrain.nn.layers.images import channels_first, image, line
from onotrain.nn.layers.recorder import Recorder
from onotrain.nn.layers.windows import Axis
from onotrain.nn.shapes import Shape


class Conv2d(Activated):
    """``y[p, o] = dropout(activation(sum over u, c of x[p stride + u dilation - padding, c] W[o, c, u] + b[o]))``.

    Positions p and u have a height and a width.  x ``(r, h, w, c)`` and y ``(r, ho, wo, o)`` are channels-last, W
    ``(o, c / groups, kh, kw)`` is PyTorch's; with groups, a filter reads the channels of its group alone.  As of a
    dense layer, the forward pass leaves in ``slope`` the derivative of the output by the sum.
    """

    Options: ClassVar[type[LayerOptions]] = config.Conv2d
    reads_again = frozenset(("x",))
    takes_blocks = True
    #: Of a sample, and of a number of ``[height, width]`` options.
    dimensions = 2

    def __init__(self, options: Any, shape: Shape, defaults: Any) -> None:
        super().__init__(options, shape, defaults)
        #: Shape of a sample as an image: a sequence has the height 1.
        self.image = image(shape) if self.dimensions > 1 else line(shape)
        self.height, self.width = self._axes()
        inputs = self._channels_of_a_group()
        kernel = (self.height.kernel, self.width.kernel)[-self.dimensions :]
        pixels = self.height.kernel * self.width.kernel
        fans = options.filters * pixels // options.groups, inputs * pixels
        self.parameters = {
            "weight": Parameter((options.filters, inputs, *kernel), fans, options.initializer or defaults.initializer)
        }
        if options.bias:
            self.parameters["bias"] = Parameter((options.filters,), fans, defaults.bias_initializer, decays=False)
        self.out = (*(self.height.windows, self.width.windows)[-self.dimensions :], options.filters)
        self.saved = {"slope": Saved(self.out)}

    def _axes(self) -> list[Axis]:
        """Return height and width; of a sequence the height is 1."""
        options = (getattr(self.options, name) for name in ("kernel", "stride", "dilation", "padding"))
        pairs = [value if isinstance(value, tuple) else (value, value) for value in options]
        axes = [Axis.of(size, *numbers) for size, *numbers in zip(self.image[:2], *pairs, strict=True)]
        if self.dimensions == 1:
            axes[0] = Axis(1, 1, 1, 1, 0, 0)
        if min(axis.windows for axis in axes) < 1:
            of = axes[-self.dimensions :]
            window, padded = (
                " x ".join(map(str, sizes)) for sizes in zip(*((a.reach, a.padded) for a in of), strict=True)
            )
            what = "image" if self.dimensions > 1 else "sequence"
            raise ShapeError(
                "kernel", f"reaches over {window}, larger than the {what} of {padded}, padding included",
                hint="a smaller kernel or dilation, or padding: same",
            )  # fmt: skip
        return axes

    def _channels_of_a_group(self) -> int:
        channels, groups = self.image[2], self.options.groups
        if channels % groups:
            raise ShapeError("groups", f"must divide the {channels} channels that the layer reads (got {groups})")
        return channels // groups

    @property
    def window(self) -> tuple[int, ...]:
        """How kernels go over the image, as the kernels take it."""
        pairs = ((axis.stride, axis.before, axis.dilation) for axis in (self.height, self.width))
        return tuple(number for pair in zip(*pairs, strict=True) for number in pair)

    def _weight(self, weight: np.ndarray) -> np.ndarray:
        """Return the weight as that of an image."""
        return weight.reshape(*weight.shape[:2], self.height.kernel, self.width.kernel)

    def _gradient(self, r: Recorder, name: str) -> Any:
        """Return where the blocks' gradients by a parameter go, one behind the other, or None."""
        gradients = r.gradients.get(name)
        return None if gradients is None else gradients.reshape(-1, *self.parameters[name].shape[1:])

    def _input(self, x: np.ndarray | None) -> Any:
        return None if x is None else x.reshape(len(x), *self.image)

    def _output(self, y: Any) -> Any:
        return y.reshape(len(y), self.height.windows, self.width.windows, self.options.filters)

    def forward(self, r: Recorder) -> None:
        """``y`` and ``slope = dy/dz``."""
        r.call(
            "conv_forward", self._input(r.x), self._weight(r.parameters["weight"]), r.parameters.get("bias"),
            self.window, self.activation.code, self.activation.negative_slope, self.dropout, r.seed, Live.STEP, r.index,
            r.first_row, self._output(r.saved["slope"]), self._output(r.y),
        )  # fmt: skip

    def backward(self, r: Recorder) -> None:
        """``dz = dy * slope``; what z is made of takes up dz times the other factor of each product."""
        dw = self._gradient(r, "weight")
        r.call(
            "conv_backward", self._input(r.x), self._weight(r.parameters["weight"]), self.window,
            self._output(r.saved["slope"]), r.block_rows or max(1, len(r.x)), r.accumulate, self._output(r.dy),
            self._input(r.dx), None if dw is None else self._weight(dw), self._gradient(r, "bias"),
        )  # fmt: skip

    def predict(self, r: Recorder) -> None:
        """``y`` without dropout."""
        r.call(
            "conv_predict", self._input(r.x), self._weight(r.parameters["weight"]), r.parameters.get("bias"),
            self.window, self.activation.code, self.activation.negative_slope, self._output(r.y),
        )  # fmt: skip

    def describe(self) -> Description:
        """Return the sums and the activation."""
        axes = (self.height, self.width)[-self.dimensions :]
        sums = {
            "kind": self.kind, "name": self.name, "inputs": list(self.shape), "outputs": list(self.out),
            "kernel": [axis.kernel for axis in axes], "stride": [axis.stride for axis in axes],
            "padding": [[axis.before, axis.behind] for axis in axes], "dilation": [axis.dilation for axis in axes],
            "groups": self.options.groups, "bias": "bias" in self.parameters,
        }  # fmt: skip
        operations = (sums, *self.activation.describe())
        return Description(self.name, operations, self.activation.name, self.dropout)

    def export(self, graph: OperatorGraph, *inputs: str) -> str:
        """Add the sums and the activation."""
        axes = self.height, self.width
        weight, *bias = map(graph.parameter, self.parameters)
        weight = graph.reshape(weight, (self.image[2] // self.options.groups, *(axis.kernel for axis in axes)))
        z = channels_first(
            graph, graph.reshape(inputs[0], self.image), "Conv", weight, *bias,
            strides=[axis.stride for axis in axes], dilations=[axis.dilation for axis in axes],
            pads=[*(axis.before for axis in axes), *(axis.behind for axis in axes)], group=self.options.groups,
        )  # fmt: skip
        return graph.activation(self.activation.name, self.activation.negative_slope, graph.reshape(z, self.out))


class Conv1d(Conv2d):
    """The same of sequences, ``(r, length, c)``: images of height 1."""

    Options: ClassVar[type[LayerOptions]] = config.Conv1d
    dimensions = 1

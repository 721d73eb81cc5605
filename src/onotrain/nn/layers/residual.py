"""Residual blocks: layers, and a way past them (He et al., arXiv 1512.03385, equations 1 and 2)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from onotrain.config import layers as config
from onotrain.nn.layers.activation import Elementwise, Function, flat
from onotrain.nn.layers.base import Builder, Description, OperatorGraph, ShapeError
from onotrain.nn.layers.recorder import Recorder
from onotrain.nn.shapes import Shape, as_written, in_words


class Residual(Elementwise):
    """``y = activation(f(x) + p(x))``: `f` are the layers of the block, and `p` is the way past them.

    `p` is nothing, or a projection where `f` changes the shape.  Both are layers of their own; this one is the sum.
    """

    Options = config.Residual
    needs_axes = True

    def __init__(self, options: Any, shape: Shape, defaults: Any) -> None:
        super().__init__(options, shape, defaults)
        self.activation = Function(options.activation)
        if self.activation.name == "identity":
            self.saved = {}

    @classmethod
    def build(cls, network: Builder, options: Any, x: int) -> int:
        """Add the layers, the projection if there is one, and the sum.

        Raises
        ------
        ShapeError
            The layers change the shape, and there is no projection.
        """
        name = network.next_name(options.kind)
        network.fork(x)
        y = x
        for number, layer in enumerate(options.layers):
            y = network.build(layer.kind, layer.options, y, "layers", number)
        past = x
        if network.shapes[y] != network.shapes[x]:
            kind, projection = _projection(network.shapes[x], network.shapes[y], options)
            past = network.build(kind, projection, x, name=name)
        return network.add(cls(options, network.shapes[y], network.defaults), y, past)

    def forward(self, r: Recorder) -> None:
        """``z = a + b``; ``y = activation(z)`` and ``slope = dy/dz``."""
        self._sum(r)
        if self.saved:
            super().forward(replace(r, inputs=(r.y,)))

    def backward(self, r: Recorder) -> None:
        """``da = db = dy * slope``."""
        for dx in r.dinputs:
            if dx is not None:
                slope = flat(r.saved["slope"]) if self.saved else None
                r.call("elementwise_backward", slope, flat(r.dy), flat(dx))

    def predict(self, r: Recorder) -> None:
        """``y`` alone."""
        self._sum(r)
        if self.saved:
            super().predict(replace(r, inputs=(r.y,)))

    def _sum(self, r: Recorder) -> None:
        r.call("sum_of_two", *(each.reshape(-1) for each in (*r.inputs, r.y)))

    def describe(self) -> Description:
        """Return the sum and the activation."""
        return Description("sum", ({"kind": "sum"}, *self.activation.describe()), self.activation.name)

    def export(self, graph: OperatorGraph, *inputs: str) -> str:
        """Add the sum and the activation."""
        return super().export(graph, graph.node("Add", inputs))


def _projection(x: Shape, y: Shape, options: Any) -> tuple[str, Any]:
    """Return kind and options of the layer without a bias that turns samples of shape `x` into such of shape `y`.

    Raises
    ------
    ShapeError
        There is none, or none is wanted.
    """
    before, after = (in_words(as_written(shape)) for shape in (x, y))
    changes = f"the layers turn samples of shape {before} into such of shape {after}"
    if options.projection == "none":
        hint = "leave it out, or give the block layers that keep the shape"
        raise ShapeError("projection", f"is none, but {changes}", hint=hint)
    if len(y) == 1:
        return _options("dense", units=y[0])
    if len(x) == len(y) - 1:  # convolutions read it as one channel
        x = (*x, 1)
    strides = [_stride(n, m) for n, m in zip(x[:-1], y[:-1], strict=False)]
    if len(x) != len(y) or None in strides:
        hint = "give convolutions in the block `padding: same`"
        raise ShapeError(None, f"{changes}, which no convolution of one position with a stride does", hint=hint)
    stride = strides[0] if len(set(strides)) == 1 else strides
    return _options(f"conv{len(strides)}d", filters=y[-1], kernel=1, stride=stride)


def _options(kind: str, **options: Any) -> tuple[str, Any]:
    return kind, config.LAYER_KINDS[kind].model_validate({**options, "bias": False})


def _stride(n: int, m: int) -> int | None:
    """Return the smallest stride that makes `m` positions of `n`; None: there is none."""
    stride = -(-n // m)
    return stride if -(-n // stride) == m else None

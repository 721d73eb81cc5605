"""Group normalisation (Wu and He, ECCV 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from onotrain.config import layers_norm as config
from onotrain.config.options import LayerOptions
from onotrain.nn.layers.base import Layer, OperatorGraph, Parameter, Product, Saved, ShapeError
from onotrain.nn.layers.recorder import Recorder
from onotrain.nn.shapes import Shape


class GroupNorm(Layer):
    """``y = weight x' + bias`` with ``x' = (x - mean) / sqrt(variance + epsilon)``.

    Mean and variance are those of the values of a group of channels, at all positions of a sample; the variance is that
    of these values, and no estimate.  Weight and bias ``(channels,)`` are left out where the layer is not affine.

    The forward pass leaves mean and 1 / sqrt(...) of each group.

    Parameters
    ----------
    options, shape, defaults
        As of every layer.
    groups
        Number of groups of channels.
    positions
        Number of positions that have their moments together; None: all of a sample.
    """

    Options: ClassVar[type[LayerOptions]] = config.GroupNorm
    reads_again = frozenset(("x",))

    def __init__(
        self, options: Any, shape: Shape, defaults: Any, *, groups: int | None = None, positions: int | None = None
    ) -> None:
        super().__init__(options, shape, defaults)
        self.channels = shape[-1]
        self.groups = options.groups if groups is None else groups
        if self.channels % self.groups:
            raise ShapeError("groups", f"must divide the number of channels, {self.channels} (got {self.groups})")
        self.positions = self.inputs // self.channels if positions is None else positions
        sets = self.inputs // self.channels // self.positions
        self.saved = {"statistics": Saved((sets, 2 * self.groups), np.float64)}
        if options.affine:
            self.parameters = affine_parameters(self.channels)
            self.saved |= {f"d{name}": Saved((self.channels,)) for name in self.parameters}

    def forward(self, r: Recorder) -> None:
        """``y``; mean and 1 / sqrt(variance + epsilon) in ``statistics``."""
        self._normalise(r, by_channel(r.saved["statistics"]))

    def backward(self, r: Recorder) -> None:
        """``dx = (weight dy - mean of (weight dy) - x' mean of (weight dy x')) / sqrt(variance + epsilon)``.

        For each sample ``dweight`` is the sum of ``dy x'`` over the positions, and ``dbias`` that of ``dy``.
        """
        trained = self.parameters if r.trained else ()
        r.call(
            "group_norm_backward", by_channel(r.x), self.positions, self.groups, by_channel(r.saved["statistics"]),
            r.parameters.get("weight"), by_channel(r.dy), None if r.dx is None else by_channel(r.dx),
            *(r.saved[f"d{name}"] if name in trained else None for name in ("weight", "bias")),
        )  # fmt: skip
        sum_parameters(r)

    def predict(self, r: Recorder) -> None:
        """``y``."""
        self._normalise(r, None)

    def _normalise(self, r: Recorder, statistics: np.ndarray | None) -> None:
        r.call(
            "group_norm_forward", by_channel(r.x), self.positions, self.groups, self.options.epsilon,
            r.parameters.get("weight"), r.parameters.get("bias"), statistics, by_channel(r.y),
        )  # fmt: skip

    def outer_products(self) -> Mapping[str, Product]:
        """Gradients are sums of what the backward pass leaves for each sample."""
        return {name: Product(f"d{name}") for name in self.parameters}

    def export(self, graph: OperatorGraph, *inputs: str) -> str:
        """Add mean and variance over positions and channels of a group, which get axes of their own for it."""
        size = self.channels // self.groups
        apart = graph.reshape(inputs[0], (-1, self.positions, self.groups, size))
        mean = graph.node("ReduceMean", [apart], axes=[2, 4])
        centred = graph.node("Sub", [apart, mean])
        variance = graph.node("ReduceMean", [graph.node("Mul", [centred, centred])], axes=[2, 4])
        std = graph.node("Sqrt", [graph.node("Add", [variance, graph.constant(self.options.epsilon)])])
        normal = graph.node("Div", [centred, std])
        return export_affine(graph, self, graph.reshape(normal, self.shape))


def by_channel(array: Any) -> Any:
    """Return ``(r, ..., c)`` as a matrix ``(r ..., c)``."""
    return array.reshape(-1, array.shape[-1])


def affine_parameters(channels: int) -> dict[str, Parameter]:
    """Return weight and bias of a normalisation, which change nothing at first."""
    return {
        "weight": Parameter((channels,), (1, 1), 1.0, decays=False),
        "bias": Parameter((channels,), (1, 1), 0.0, decays=False),
    }


def sum_parameters(r: Recorder) -> None:
    """Record the sums of what the backward pass has left for each sample, where gradients are wanted."""
    for name, gradient in r.gradients.items():
        if gradient is not None:
            r.call("sum_rows", r.saved[f"d{name}"], r.accumulate, gradient)


def export_affine(graph: OperatorGraph, layer: Layer, value: str) -> str:
    """Add weight and bias of a normalisation, if it has them."""
    if "weight" not in layer.parameters:
        return value
    return graph.node("Add", [graph.node("Mul", [value, graph.parameter("weight")]), graph.parameter("bias")])

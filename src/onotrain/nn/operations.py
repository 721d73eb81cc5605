"""Floating point operations of the products of a network: 2 for each weight and position that it is read at."""

from __future__ import annotations

import math

from onotrain.nn.layers import Conv2d, Dense
from onotrain.nn.layers.base import Layer
from onotrain.nn.model import Model

#: Kind of layer -> the parts of a step that its products make up, forward and backward.
_PARTS: dict[type[Layer], tuple[str, str]] = {
    Dense: ("forward", "backward"), Conv2d: ("conv forward", "conv backward")
}  # fmt: skip


#: Kernel -> whether it makes those of the forward pass (0) or of the backward pass (1).
_KERNELS = {
    "dense_forward": 0, "dense_predict": 0, "dense_backward": 1,
    "conv_forward": 0, "conv_predict": 0, "conv_backward": 1,
}  # fmt: skip


def of_product(layer: Layer, rows: int) -> int:
    """Return the operations of one product of a layer with weights; a table of vectors is looked up in, 0."""
    weights = sum(math.prod(each.shape) for each in layer.parameters.values() if len(each.shape) > 1 and not each.rows)
    return 2 * rows * math.prod(layer.out[:-1]) * weights


def of_parts(model: Model, rows: int, *, all_gradients: bool) -> dict[str, int]:
    """Return the operations of a rank's `rows` rows, by part of a step.

    Parameters
    ----------
    all_gradients
        Whether the backward pass makes the gradients of all weights; else none that are products over the rows of a
        batch, which the update makes.
    """
    found = dict.fromkeys((part for parts in _PARTS.values() for part in parts), 0)
    for number, layer in enumerate(model.layers):
        parts = next((parts for kind, parts in _PARTS.items() if isinstance(layer, kind)), ())
        for part, operations in zip(parts, of_passes(model, number, rows, all_gradients=all_gradients), strict=False):
            found[part] += operations
    return found


def of_kernel(model: Model, kernel: str, layer: str, rows: int, *, all_gradients: bool) -> int:
    """Return the operations of the products that a kernel makes in one pass of a layer; 0 of kernels without."""
    place = _KERNELS.get(kernel)
    number = next((number for number, each in enumerate(model.layers) if each.name == layer), None)
    if place is None or number is None:
        return 0
    return of_passes(model, number, rows, all_gradients=all_gradients)[place]


def of_passes(model: Model, number: int, rows: int, *, all_gradients: bool) -> tuple[int, int]:
    """Return the operations of the products of a layer, by its number, forward and backward; see `of_parts`."""
    layer = model.layers[number]
    once, in_update = of_product(layer, rows), not all_gradients and f"{layer.name}/weight" in model.plan.products
    dx = next((dinputs[0] is not None for each, dinputs, _ in model.plan.backward if each == number), None)
    return once, 0 if dx is None else once * (dx + (model.plan.trained[number] and not in_update))

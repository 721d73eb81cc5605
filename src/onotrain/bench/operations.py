"""Floating point operations of the products of a network: 2 for each weight and position that it is read at."""

from __future__ import annotations

import math

from onotrain.nn import Model
from onotrain.nn.layers import Conv2d, Dense
from onotrain.nn.layers.base import Layer

#: Kind of layer -> the parts of a step that its products make up, forward and backward.
_PARTS: dict[type[Layer], tuple[str, str]] = {
    Dense: ("forward", "backward"), Conv2d: ("conv forward", "conv backward")
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
    backward = {number: dinputs[0] is not None for number, dinputs, _ in model.plan.backward}
    for number, layer in enumerate(model.layers):
        ahead, back = next((parts for kind, parts in _PARTS.items() if isinstance(layer, kind)), ("", ""))
        if not ahead:
            continue
        once, in_update = of_product(layer, rows), not all_gradients and f"{layer.name}/weight" in model.plan.products
        found[ahead] += once
        if number in backward:
            found[back] += once * (backward[number] + (model.plan.trained[number] and not in_update))
    return found

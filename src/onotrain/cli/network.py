"""What a configuration's network looks like, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from onotrain.config.columns import Categories
    from onotrain.nn import Model


class LayerRow(NamedTuple):
    """One layer, for a table."""

    name: str
    activation: str
    dropout: float
    inputs: int
    outputs: int
    #: Of a sample, as users write it.
    input_shape: list[int]
    output_shape: list[int]
    #: Without averaged tensors.
    parameters: int


def model_of(config: Any, shape: tuple[int, ...], categories: Mapping[int, Categories]) -> Model:
    """Return the network of a configuration for such samples (see `Model`); it is not bound to parameters."""
    from onotrain import _kernels
    from onotrain.nn import Model

    # Nothing is computed, so the kernels that are always there will do.
    return Model.of(config, shape, _kernels.load(config.training.dtype, "reference"), categories)


def layer_rows(model: Any) -> list[LayerRow]:
    """Return the layers of a network in order."""
    from onotrain.nn.shapes import as_written

    rows = []
    for layer, inputs, _ in model.plan.nodes:
        said, trained = layer.describe(), [each for each in layer.parameters.values() if not each.averaged]
        parameters = sum(math.prod(each.shape) for each in trained)
        shape = as_written(layer.shape) if inputs[0] else model.shape  # that of the data is written so
        shapes = list(shape), list(as_written(layer.out))
        sizes = layer.inputs, layer.outputs
        rows.append(LayerRow(said.title, said.activation, said.dropout, *sizes, *shapes, parameters))
    return rows

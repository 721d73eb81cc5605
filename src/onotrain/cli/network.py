"""What a configuration's network looks like, layer by layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from onotrain.nn import Model


class LayerRow(NamedTuple):
    """One layer, for a table."""

    name: str
    activation: str
    dropout: float
    inputs: int
    outputs: int
    #: Without averaged tensors.
    parameters: int


def model_of(config: Any, inputs: int) -> Model:
    """Return the network of a configuration for samples of `inputs` features; it is not bound to parameters."""
    from onotrain import _kernels
    from onotrain.nn import Model

    # Nothing is computed, so the kernels that are always there will do.
    return Model(config.model, config.loss, inputs, _kernels.load(config.training.dtype, "reference"))


def layer_rows(model: Any) -> list[LayerRow]:
    """Return the layers of a network in order."""
    rows = []
    for layer in model.layers:
        said, trained = layer.describe(), [each for each in layer.parameters.values() if not each.averaged]
        parameters = sum(math.prod(each.shape) for each in trained)
        rows.append(LayerRow(said.title, said.activation, said.dropout, layer.inputs, layer.outputs, parameters))
    return rows

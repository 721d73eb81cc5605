"""Layers: one file each; this is their registry, the only place that knows their kinds."""

from __future__ import annotations

from onotrain.config.layers import PLUGINS
from onotrain.nn.layers.activation import Activation
from onotrain.nn.layers.base import Layer
from onotrain.nn.layers.dense import Dense
from onotrain.nn.layers.dropout import Dropout
from onotrain.nn.layers.residual import Residual

__all__ = ["LAYERS", "Activation", "Dense", "Dropout", "Layer", "Residual", "layer_class"]

LAYERS: dict[str, type[Layer]] = {layer.Options.kind: layer for layer in (Dense, Activation, Dropout, Residual)}


def layer_class(kind: str) -> type[Layer]:
    """Return the class of a kind of layer, which may be of another package.

    Raises
    ------
    onotrain.config.plugins.PluginError
        There is none that can be used.
    """
    found: type[Layer] = LAYERS.get(kind) or PLUGINS.load(kind)
    return found

"""Layers: one file each; this is their registry, the only place that knows their kinds."""

from __future__ import annotations

from onotrain.config.layers import PLUGINS
from onotrain.nn.layers.activation import Activation
from onotrain.nn.layers.augmentation import RandomCrop, RandomFlip, RandomShift
from onotrain.nn.layers.base import Layer
from onotrain.nn.layers.batch_norm import BatchNorm
from onotrain.nn.layers.conv import Conv1d, Conv2d
from onotrain.nn.layers.dense import Dense
from onotrain.nn.layers.dropout import Dropout
from onotrain.nn.layers.embedding import Embedding
from onotrain.nn.layers.flatten import Flatten, Reshape
from onotrain.nn.layers.group_norm import GroupNorm
from onotrain.nn.layers.layer_norm import LayerNorm
from onotrain.nn.layers.pool import AvgPool1d, AvgPool2d, GlobalAvgPool, MaxPool1d, MaxPool2d
from onotrain.nn.layers.residual import Residual

__all__ = [
    "LAYERS", "Activation", "BatchNorm", "Conv1d", "Conv2d", "Dense", "Dropout", "Embedding", "GroupNorm", "Layer",
    "LayerNorm", "layer_class",
]  # fmt: skip

LAYERS: dict[str, type[Layer]] = {
    layer.Options.kind: layer
    for layer in (
        Dense, Conv2d, Conv1d, Activation, Dropout, Flatten, Reshape, MaxPool2d, AvgPool2d, MaxPool1d, AvgPool1d,
        GlobalAvgPool, RandomShift, RandomCrop, RandomFlip, LayerNorm, GroupNorm, BatchNorm, Residual,
        Embedding,
    )
}  # fmt: skip


def layer_class(kind: str) -> type[Layer]:
    """Return the class of a kind of layer, which may be of another package.

    Raises
    ------
    onotrain.config.plugins.PluginError
        There is none that can be used.
    """
    found: type[Layer] = LAYERS.get(kind) or PLUGINS.load(kind)
    return found

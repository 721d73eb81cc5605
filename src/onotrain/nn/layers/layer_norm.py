"""Layer normalisation (Ba, Kiros and Hinton, arXiv 1607.06450)."""

from __future__ import annotations

from typing import Any

from onotrain.config import layers_norm as config
from onotrain.nn.layers.group_norm import GroupNorm
from onotrain.nn.shapes import Shape


class LayerNorm(GroupNorm):
    """``y = weight x' + bias`` with mean and variance of the channels of each position by itself.

    A sample of one axis is one position, whose channels are the features.  Of several axes the positions stay apart,
    as in networks of attention and in ConvNeXt (Liu et al., arXiv 2201.03545); with one group, `group_norm` takes all
    values of a sample together.
    """

    Options = config.LayerNorm

    def __init__(self, options: Any, shape: Shape, defaults: Any) -> None:
        super().__init__(options, shape, defaults, groups=1, positions=1)

"""Dropout: values set to zero at random while training (Srivastava et al., JMLR 15, 2014)."""

from __future__ import annotations

from typing import Any

from onotrain.config import layers as config
from onotrain.nn.layers.activation import Elementwise
from onotrain.nn.shapes import Shape


class Dropout(Elementwise):
    """``y = mask x / (1 - rate)``; after training ``y = x``."""

    Options = config.Dropout

    def __init__(self, options: Any, shape: Shape, defaults: Any) -> None:
        super().__init__(options, shape, defaults)
        self.dropout = options.rate

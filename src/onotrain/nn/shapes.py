"""Shapes of samples for people, who write images as (channels, height, width)."""

from __future__ import annotations

from onotrain.nn.layers.base import Shape

#: Of an image.
_IMAGE_AXES = 3


def as_written(shape: Shape) -> Shape:
    """Return a shape inside the network, where channels are last, as users write it."""
    return (shape[-1], *shape[:-1]) if len(shape) == _IMAGE_AXES else shape


def in_words(shape: Shape) -> str:
    """Return a shape that is written as users do in words, such as ``1x28x28``."""
    return "x".join(map(str, shape))

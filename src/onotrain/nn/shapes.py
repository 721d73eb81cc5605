"""Shapes of samples, inside the network and for people: these write images as (channels, height, width)."""

from __future__ import annotations

#: Of a sample: ``(features,)``, ``(length, channels)`` or ``(height, width, channels)``.
Shape = tuple[int, ...]
#: Height, width and channels.
IMAGE_AXES = 3


def as_written(shape: Shape) -> Shape:
    """Return a shape as data and users have it: that of an image with the channels first."""
    return (shape[-1], *shape[:-1]) if len(shape) == IMAGE_AXES else shape


def channels_last(shape: Shape) -> Shape:
    """Return a shape as arrays have it: that of an image with the channels last."""
    return (*shape[1:], shape[0]) if len(shape) == IMAGE_AXES else shape


def in_words(shape: Shape) -> str:
    """Return a shape that is written as users do in words, such as ``1x28x28``."""
    return "x".join(map(str, shape))

"""Shapes of a sample: as arrays have them, with the channels last, and as data and users have them."""

from __future__ import annotations

#: Height, width and channels.
IMAGE_AXES = 3


def as_written(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape as data and users have it: that of an image with the channels first."""
    return (shape[2], *shape[:2]) if len(shape) == IMAGE_AXES else shape


def channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape as arrays have it: that of an image with the channels last."""
    return (*shape[1:], shape[0]) if len(shape) == IMAGE_AXES else shape

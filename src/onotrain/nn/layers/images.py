"""Samples as layers for images read them: ``(height, width, channels)``."""

from __future__ import annotations

from onotrain.nn.layers.base import ShapeError
from onotrain.nn.shapes import IMAGE_AXES, Shape, as_written

_HINT = "data.shape says how the values of a sample are arranged, such as [1, 28, 28]; so does a layer reshape in front"


def image(shape: Shape) -> Shape:
    """Return ``(height, width, channels)``; a sample of two axes is an image of one channel.

    Raises
    ------
    ShapeError
        It is neither.
    """
    if len(shape) == 2:  # noqa: PLR2004 - height and width
        return (*shape, 1)
    if len(shape) != IMAGE_AXES:
        raise ShapeError(None, f"reads images, channels x height x width {_got(shape)}", hint=_HINT)
    return shape


def line(shape: Shape) -> Shape:
    """Return ``(1, length, channels)``; a sample of one axis has one channel.

    Raises
    ------
    ShapeError
        It has three axes.
    """
    if len(shape) > 2:  # noqa: PLR2004 - length and channels
        raise ShapeError(None, f"reads sequences, length x channels {_got(shape)}", hint="use the layer for images")
    return (1, *shape, 1) if len(shape) == 1 else (1, *shape)


def _got(shape: Shape) -> str:
    return f"(got samples of {' x '.join(map(str, as_written(shape)))})"

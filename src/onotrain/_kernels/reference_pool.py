"""Reference implementations of pooling: the largest number or the mean of each window of an image.

Dimensions: ``r`` rows of the batch on this rank, images of ``h`` by ``w`` pixels of ``c`` channels, ``k`` by ``l``
outputs.  Sizes, strides and paddings are numbers of pixels along the height (``_y``) and the width (``_x``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from onotrain._kernels.reference import Array, expect, silent

#: Most pixels of a window whose largest number is to be found again: places are bytes.
MOST_PLACES = 256


class _Place(NamedTuple):
    """One pixel of the window."""

    #: Its number, counted row by row.
    code: int
    #: The outputs in whose windows it is no padding, and the pixels that it is there.
    outputs: tuple[slice, ...]
    pixels: tuple[slice, ...]


def _along(n: int, size: int, stride: int, padding: int, place: int) -> tuple[slice, slice]:
    """Return for one axis the outputs whose windows have the pixel `place` in the image, and these pixels."""
    outputs = [i for i in range((n + 2 * padding - size) // stride + 1) if 0 <= i * stride - padding + place < n]
    if not outputs:
        return slice(0, 0), slice(0, 0)
    first, last = outputs[0] * stride - padding + place, outputs[-1] * stride - padding + place
    return slice(outputs[0], outputs[-1] + 1), slice(first, last + 1, stride)


def _places(x: Array, size: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Iterator[_Place]:
    """Yield the pixels of the window, row by row."""
    everything = slice(None)
    for y in range(size[0]):
        rows, heights = _along(x.shape[1], size[0], stride[0], padding[0], y)
        for z in range(size[1]):
            columns, widths = _along(x.shape[2], size[1], stride[1], padding[1], z)
            yield _Place(y * size[1] + z, (everything, rows, columns), (everything, heights, widths))


def _check(x: Array, y: Array, size: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> None:
    """Raise ValueError unless images and outputs go with each other."""
    expected = [len(x)]
    for n, s, step, border in zip(x.shape[1:3], size, stride, padding, strict=True):
        if s < 1 or step < 1 or border < 0 or 2 * border > s or s > n + 2 * border:
            raise ValueError(f"window: got size {s}, stride {step}, padding {border} for {n} pixels")
        expected.append((n + 2 * border - s) // step + 1)
    expect("x", x, *x.shape, dtype=y.dtype)
    expect("y", y, *expected, x.shape[3], dtype=x.dtype)


def _check_winner(winner: Array, y: Array, size_y: int, size_x: int) -> None:
    expect("winner", winner, *y.shape, dtype=np.uint8)
    if size_y * size_x > MOST_PLACES:
        raise ValueError(f"window: got {size_y} by {size_x} pixels, expected at most {MOST_PLACES} in all")


def max_pool(
    x: Array, size_y: int, size_x: int, stride_y: int, stride_x: int, padding_y: int, padding_x: int,
    winner: Array | None, y: Array,
) -> None:  # fmt: skip
    """Write the largest number of each window, and its place in the window.

    Of equal numbers the first one is taken, row by row; NaN is larger than all.  The padding is never taken.

    Parameters
    ----------
    x
        ``(r, h, w, c)``.
    winner
        uint8 ``(r, k, l, c)``: ``size_x * row + column`` within the window; None if nobody needs it.
    y
        ``(r, k, l, c)``.
    """
    size, stride, padding = (size_y, size_x), (stride_y, stride_x), (padding_y, padding_x)
    _check(x, y, size, stride, padding)
    if winner is not None:
        _check_winner(winner, y, size_y, size_x)
    places, found = np.zeros(y.shape, np.uint8), np.zeros(y.shape, bool)
    for code, outputs, pixels in _places(x, size, stride, padding):
        with np.errstate(invalid="ignore"):
            better = ~found[outputs] | (x[pixels] > y[outputs]) | np.isnan(x[pixels])
        y[outputs] = np.where(better, x[pixels], y[outputs])
        places[outputs] = np.where(better, code % MOST_PLACES, places[outputs])
        found[outputs] = True
    if winner is not None:
        winner[...] = places


@silent
def max_pool_backward(
    winner: Array, dy: Array, size_y: int, size_x: int, stride_y: int, stride_x: int, padding_y: int, padding_x: int,
    dx: Array,
) -> None:  # fmt: skip
    """Write in dx for each pixel the sum of the gradients by the outputs that it is.

    Parameters
    ----------
    winner
        Of `max_pool`.
    dy
        ``(r, k, l, c)``.
    dx
        ``(r, h, w, c)``.
    """
    size, stride, padding = (size_y, size_x), (stride_y, stride_x), (padding_y, padding_x)
    _check(dx, dy, size, stride, padding)
    _check_winner(winner, dy, size_y, size_x)
    dx[...] = 0
    for code, outputs, pixels in reversed(list(_places(dx, size, stride, padding))):  # outputs in their order
        dx[pixels] += np.where(winner[outputs] == code, dy[outputs], 0)


@silent
def avg_pool(
    x: Array, size_y: int, size_x: int, stride_y: int, stride_x: int, padding_y: int, padding_x: int, y: Array
) -> None:
    """Write the mean of each window: its sum by ``size_y * size_x``, also where pixels are padding and count as zeros.

    Arrays are those of `max_pool`.
    """
    size, stride, padding = (size_y, size_x), (stride_y, stride_x), (padding_y, padding_x)
    _check(x, y, size, stride, padding)
    y[...] = 0
    for _, outputs, pixels in _places(x, size, stride, padding):
        y[outputs] += x[pixels]
    y /= size_y * size_x


@silent
def avg_pool_backward(
    dy: Array, size_y: int, size_x: int, stride_y: int, stride_x: int, padding_y: int, padding_x: int, dx: Array
) -> None:
    """Write in dx for each pixel the sum of the gradients by the outputs in whose windows it lies, by their size.

    Arrays are those of `max_pool_backward`.
    """
    size, stride, padding = (size_y, size_x), (stride_y, stride_x), (padding_y, padding_x)
    _check(dx, dy, size, stride, padding)
    dx[...] = 0
    for _, outputs, pixels in reversed(list(_places(dx, size, stride, padding))):
        dx[pixels] += dy[outputs]
    dx /= size_y * size_x

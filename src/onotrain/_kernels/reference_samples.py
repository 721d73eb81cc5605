"""Reference implementations of what puts the values of a sample elsewhere: transposed, or shifted and flipped.

Dimensions: ``r`` rows of the batch on this rank, ``m`` by ``n`` values, or images of ``h`` by ``w`` pixels of ``c``
channels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onotrain._kernels.reference import Array, expect, philox4x32, silent
from onotrain.known_names import BORDERS


def transpose_samples(x: Array, y: Array) -> None:
    """Write ``y (r, n, m)``, every sample of ``x (r, m, n)`` transposed."""
    expect("x", x, *x.shape, dtype=y.dtype)
    expect("y", y, len(x), x.shape[2], x.shape[1], dtype=x.dtype)
    y[...] = x.transpose(0, 2, 1)


def _sources(n: int, shift: int, flip: bool, border: int) -> Array:
    """Return which pixel of an axis comes to each place; -1: the fill."""
    places = np.arange(n) - shift
    if border == BORDERS["constant"]:
        places = np.where((places < 0) | (places >= n), -1, places)
    elif border == BORDERS["edge"]:
        places = places.clip(0, n - 1)
    elif border == BORDERS["reflect"]:
        places = np.where(places < 0, -places, places)
        places = np.where(places >= n, 2 * (n - 1) - places, places)
    else:
        raise ValueError(f"border: got code {border}, expected one of {BORDERS}")
    return np.where(places < 0, -1, n - 1 - places) if flip else places


def _moves(
    x: Array, pixels: int, border: int, horizontal: bool, vertical: bool, seed: int, step: int, layer: int,
    first_row: int,
) -> Iterator[tuple[Array, Array]]:  # fmt: skip
    """Yield for each image which row and which column come to each place.

    The counter of a draw is (0, row, step, layer), its key the seed.  The words of a counter are those of the shifts
    down and to the right, and of the flips upside down and left to right.
    """
    rows, height, width = x.shape[:3]
    if pixels < 0 or (pixels > 0 and pixels >= min(height, width)):
        raise ValueError(
            f"pixels: got {pixels}, expected at least 0 and fewer than the image of {height} by {width} has"
        )
    counter = np.zeros((4, rows), np.uint32)
    counter[1] = (first_row + np.arange(rows)) & 0xFFFFFFFF
    counter[2], counter[3] = step & 0xFFFFFFFF, layer & 0xFFFFFFFF
    words = np.empty_like(counter)
    philox4x32(counter, np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32), words)
    for down, right, over, across in words.T.tolist():
        shifts = [(word * (2 * pixels + 1) >> 32) - pixels for word in (down, right)]
        yield (
            _sources(height, shifts[0], vertical and bool(over & 1), border),
            _sources(width, shifts[1], horizontal and bool(across & 1), border),
        )


def shift_and_flip(
    x: Array, pixels: int, border: int, fill: float, horizontal: bool, vertical: bool,
    seed: int, step: int, layer: int, first_row: int, y: Array,
) -> None:  # fmt: skip
    """Flip every image at random, then shift it.

    Parameters
    ----------
    x
        ``(r, h, w, c)``.
    pixels
        Most pixels of a shift, fewer than the image has; each from ``-pixels`` to ``pixels`` is as likely.
    border
        What comes in at the border, a code of `onotrain.known_names.BORDERS`.
    fill
        The number that comes in where that is ``constant``.
    horizontal, vertical
        Flip half of the images left to right, and upside down.
    seed, step, layer, first_row
        Key of the move: that of row q depends on (seed, step, layer, first_row + q) alone.
    y
        ``(r, h, w, c)``.
    """
    expect("x", x, *x.shape, dtype=y.dtype)
    expect("y", y, *x.shape, dtype=x.dtype)
    moves = list(_moves(x, pixels, border, horizontal, vertical, seed, step, layer, first_row))
    for image, out, (rows, columns) in zip(x, y, moves, strict=True):
        out[...] = image[rows][:, columns]
        out[rows < 0] = fill
        out[:, columns < 0] = fill


@silent
def shift_and_flip_backward(
    dy: Array, pixels: int, border: int, horizontal: bool, vertical: bool,
    seed: int, step: int, layer: int, first_row: int, dx: Array,
) -> None:  # fmt: skip
    """Write in dx for each pixel the sum of the gradients of where it went; arguments are those of `shift_and_flip`."""
    expect("dy", dy, *dx.shape, dtype=dx.dtype)
    expect("dx", dx, *dy.shape, dtype=dy.dtype)
    moves = list(_moves(dy, pixels, border, horizontal, vertical, seed, step, layer, first_row))
    dx[...] = 0
    for image, out, (rows, columns) in zip(dy, dx, moves, strict=True):
        i, j = np.meshgrid(np.flatnonzero(rows >= 0), np.flatnonzero(columns >= 0), indexing="ij")
        np.add.at(out, (rows[i], columns[j]), image[i, j])

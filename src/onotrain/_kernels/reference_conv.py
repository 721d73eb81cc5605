"""The reference implementations of the convolutions.

Dimensions: ``r`` rows of the batch on this rank, images of ``h`` by ``w`` pixels and ``c`` channels, ``g`` groups of
channels, ``o`` filters, and kernels of ``kh`` by ``kw``; the output has ``ho`` by ``wo`` positions.  Images are
channels-last, weights are those of PyTorch: ``(o, c / g, kh, kw)``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onotrain._kernels.reference import Array, elementwise_forward, elementwise_predict, expect, silent

#: How kernels go over an image: (stride y, stride x, padding top, padding left, dilation y, dilation x).  Padding below
#: and at the right is what the output's shape asks for.
Window = tuple[int, int, int, int, int, int]
#: What is multiplied for an array: itself, or its numbers rounded.
Factors = Callable[[Array], Array]


@silent
def conv_forward(
    x: Array, weight: Array, bias: Array | None, window: Window, activation: int, negative_slope: float, dropout: float,
    seed: int, step: int, layer: int, first_row: int, slope: Array, y: Array,
) -> None:  # fmt: skip
    """Write ``y = dropout(activation(z))`` and ``slope = dy/dz``; z is the cross-correlation of x with W, plus b.

    Parameters
    ----------
    x
        ``(r, h, w, c)``.
    weight, bias
        ``(o, c / g, kh, kw)`` and ``(o,)``, or None for no bias.
    window
        See `Window`.
    activation, negative_slope, dropout, seed, step, layer, first_row
        As of `onotrain._kernels.reference.dense_forward`; columns are all values of a sample of the output.
    slope, y
        ``(r, ho, wo, o)``.
    """
    forward(
        _as_they_are, x, weight, bias, window, activation, negative_slope, dropout, seed, step, layer, first_row,
        slope, y,
    )  # fmt: skip


def forward(
    factors: Factors, x: Array, weight: Array, bias: Array | None, window: Window, activation: int,
    negative_slope: float, dropout: float, seed: int, step: int, layer: int, first_row: int, slope: Array, y: Array,
) -> None:  # fmt: skip
    """`conv_forward`, with products of what `factors` makes of x and of the weight."""
    z = _pre_activation(factors, x, weight, bias, window, slope)
    expect("y", y, *z.shape, dtype=x.dtype)
    elementwise_forward(
        _rows(z), activation, negative_slope, dropout, seed, step, layer, first_row, _rows(slope), _rows(y)
    )


@silent
def conv_predict(
    x: Array, weight: Array, bias: Array | None, window: Window, activation: int, negative_slope: float, y: Array
) -> None:
    """Write ``y = activation(z)``; shapes as in `conv_forward`."""
    predict(_as_they_are, x, weight, bias, window, activation, negative_slope, y)


def predict(
    factors: Factors, x: Array, weight: Array, bias: Array | None, window: Window, activation: int,
    negative_slope: float, y: Array,
) -> None:  # fmt: skip
    """`conv_predict`, with products of what `factors` makes of x and of the weight."""
    z = _pre_activation(factors, x, weight, bias, window, y)
    elementwise_predict(_rows(z), activation, negative_slope, _rows(y))


@silent
def conv_backward(
    x: Array, weight: Array, window: Window, slope: Array, block_rows: int, accumulate: bool,
    dy: Array, dx: Array | None, dw: Array | None, db: Array | None,
) -> None:  # fmt: skip
    """Turn dy into ``dz = dy * slope``, and write the gradients by x, W and b, those of W and b for each block of rows.

    Parameters
    ----------
    x, weight, window, slope
        As given to and got from `conv_forward`.
    block_rows
        Rows of a block, of which there are ``b = max(1, ceil(r / block_rows))``.
    accumulate
        Add to dw and db instead of overwriting them.
    dy
        ``(r, ho, wo, o)``.
    dx
        ``(r, h, w, c)``, or None if nobody needs it.
    dw, db
        ``(b o, c / g, kh, kw)`` and ``(b o,)``, or None if nobody needs them.

    Raises
    ------
    ValueError
        Shapes do not fit.
    """
    backward(_as_they_are, x, weight, window, slope, block_rows, accumulate, dy, dx, dw, db)


def backward(
    factors: Factors, x: Array, weight: Array, window: Window, slope: Array, block_rows: int, accumulate: bool,
    dy: Array, dx: Array | None, dw: Array | None, db: Array | None,
) -> None:  # fmt: skip
    """`conv_backward`, with products of what `factors` makes of x, of the weight and of dz."""
    framed, windows, weights = _operands(factors, x, weight, window, dy)
    expect("slope", slope, *dy.shape, dtype=x.dtype)
    expect("dx", dx, *x.shape, dtype=x.dtype)
    if block_rows < 1:
        raise ValueError(f"rows of a block: got {block_rows}, expected a positive number")
    begins = range(0, max(len(x), 1), block_rows)
    expect("dw", dw, len(begins) * len(weight), *weight.shape[1:], dtype=x.dtype)
    expect("db", db, len(begins) * len(weight), dtype=x.dtype)
    dy *= slope
    dz = factors(dy).reshape(*dy.shape[:3], *weights.shape[:2])
    for block, begin in enumerate(begins):
        rows = slice(begin, begin + block_rows)
        filters = slice(block * len(weight), (block + 1) * len(weight))
        if dw is not None:
            sums = np.einsum("nyxuvgi,nyxgo->goiuv", windows[rows], dz[rows], optimize=True).reshape(weight.shape)
            dw[filters] = sums + (dw[filters] if accumulate else 0)
        if db is not None:
            db[filters] = dy[rows].sum(axis=(0, 1, 2)) + (db[filters] if accumulate else 0)
    if dx is not None:
        _, _, top, left, _, _ = window
        dframed = np.zeros_like(framed)
        dwindows = _windows(dframed, weight, window, dy)
        parts = np.einsum("nyxgo,goiuv->nyxuvgi", dz, weights, optimize=True).reshape(dwindows.shape)
        for u, v in np.ndindex(*weight.shape[2:]):  # within one of them no two positions meet
            dwindows[:, :, :, u, v] += parts[:, :, :, u, v]
        dx[...] = dframed[:, top : top + x.shape[1], left : left + x.shape[2]]


def _rows(images: Array) -> Array:
    return images.reshape(len(images), int(np.prod(images.shape[1:])))


def _as_they_are(x: Array) -> Array:
    return x


def _pre_activation(factors: Factors, x: Array, weight: Array, bias: Array | None, window: Window, out: Array) -> Array:
    """Return z, of the shape of `out`."""
    _, windows, weights = _operands(factors, x, weight, window, out)
    expect("bias", bias, len(weight), dtype=x.dtype)
    z = np.einsum("nyxuvgi,goiuv->nyxgo", windows, weights, optimize=True).reshape(out.shape)
    return np.ascontiguousarray(z if bias is None else z + bias)


def _operands(factors: Factors, x: Array, weight: Array, window: Window, out: Array) -> tuple[Array, Array, Array]:
    """Return x in its padding, and what is multiplied for an output of the shape of `out`.

    Windows ``(r, ho, wo, kh, kw, g, c / g)``, and weights ``(g, o / g, c / g, kh, kw)``.
    """
    stride_y, stride_x, top, left, dilation_y, dilation_x = window
    (o, inputs, kh, kw), (r, h, w, c) = weight.shape, x.shape
    ho, wo = out.shape[1:3]
    if min(*weight.shape, *x.shape[1:], ho, wo, stride_y, stride_x, dilation_y, dilation_x) < 1 or min(top, left) < 0:
        raise ValueError(f"sizes: got {x.shape}, {weight.shape}, {window}, {out.shape}, expected positive ones")
    if c % inputs or o % (c // inputs):
        raise ValueError(f"groups: got {c} channels and weights {weight.shape}, expected multiples")
    expect("x", x, *x.shape)
    expect("weight", weight, *weight.shape, dtype=x.dtype)
    expect("output", out, r, ho, wo, o, dtype=x.dtype)
    bottom = max(0, (ho - 1) * stride_y + (kh - 1) * dilation_y + 1 - top - h)
    right = max(0, (wo - 1) * stride_x + (kw - 1) * dilation_x + 1 - left - w)
    framed = np.pad(factors(x), ((0, 0), (top, bottom), (left, right), (0, 0)))
    groups = c // inputs
    windows = _windows(framed, weight, window, out).reshape(r, ho, wo, kh, kw, groups, inputs)
    return framed, windows, factors(weight).reshape(groups, o // groups, inputs, kh, kw)


def _windows(framed: Array, weight: Array, window: Window, out: Array) -> Array:
    """Return a view of the windows, ``(r, ho, wo, kh, kw, c)``."""
    stride_y, stride_x, _, _, dilation_y, dilation_x = window
    next_row, next_line, next_pixel, next_channel = framed.strides
    return np.lib.stride_tricks.as_strided(
        framed,
        (len(framed), *out.shape[1:3], *weight.shape[2:], framed.shape[3]),
        (next_row, next_line * stride_y, next_pixel * stride_x, next_line * dilation_y, next_pixel * dilation_x,
         next_channel),
    )  # fmt: skip

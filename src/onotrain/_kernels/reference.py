"""The reference implementations of the kernels in NumPy: the same names, parameters and in-place contract.

They are the oracle of the tests, and what runs with ``ONOTRAIN_KERNELS=reference``; those of losses, updates and
codecs are in the files beside this one.

Dimensions: ``r`` rows of the batch on this rank, ``i`` inputs, ``o`` outputs, ``n`` parameters of a shard, ``k``
gradient rows.  Arrays of numbers have one dtype, float32 or float64, unless said otherwise, and are C-contiguous;
outputs stand last and belong to the caller.  Zero rows are allowed everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from onotrain.known_names import ACTIVATIONS

Array = np.ndarray[Any, np.dtype[Any]]
#: Multiplies two matrices; sums begin at a third one, or at 0 for None.
Product = Callable[[Array, Array, Array | None], Array]

#: As compiled code does, the reference lets infinities and NaN pass without a word.
silent = np.errstate(all="ignore")


def expect(what: str, array: Array | None, *shape: int, dtype: Any = None) -> None:
    """Raise ValueError unless the array is C-contiguous and has this shape and dtype; None passes."""
    if array is None:
        return
    if array.shape != shape:
        raise ValueError(f"{what}: got shape {array.shape}, expected {shape}")
    if not array.flags.c_contiguous:
        raise ValueError(f"{what}: got an array with gaps, expected a C-contiguous one")
    if dtype is not None and array.dtype != dtype:
        raise ValueError(f"{what}: got dtype {array.dtype}, expected {np.dtype(dtype)}")


# ---------------------------------------------------------------------------------------------------------------- gemm


@silent
def gemm(a: Array, b: Array, transpose_a: bool, transpose_b: bool, alpha: float, beta: float, c: Array) -> None:
    """Write ``c = alpha op(a) op(b) + beta c``; c is not read if beta is 0."""
    left, right = (a.T if transpose_a else a), (b.T if transpose_b else b)
    expect("a", a, *a.shape)
    expect("b", b, *b.shape, dtype=a.dtype)
    if left.shape[1] != right.shape[0]:
        raise ValueError(f"columns of op(a): got {left.shape[1]}, expected {right.shape[0]}")
    expect("c", c, left.shape[0], right.shape[1], dtype=a.dtype)
    product = alpha * (left @ right)
    c[...] = product if beta == 0 else product + beta * c


# -------------------------------------------------------------------------------------------------------------- random

_PHILOX_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_PHILOX_WEYL = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_COUNTERS = 16


def philox4x32(counter: Array, key: Array, out: Array) -> None:
    """Philox4x32-10 (Salmon et al., SC 2011): write four random words for each counter.

    Parameters
    ----------
    counter
        uint32 ``(4, ...)``: one array for each word.
    key
        uint32 ``(2,)``.
    out
        uint32, the counter's shape.
    """
    x = [word.astype(np.uint64) for word in counter]
    key0, key1 = int(key[0]), int(key[1])
    for _ in range(10):
        a, b = _PHILOX_MULTIPLIERS[0] * x[0], _PHILOX_MULTIPLIERS[1] * x[2]
        x = [
            (b >> np.uint64(32)) ^ x[1] ^ np.uint64(key0), b & _LOW,
            (a >> np.uint64(32)) ^ x[3] ^ np.uint64(key1), a & _LOW,
        ]  # fmt: skip
        key0, key1 = (key0 + _PHILOX_WEYL[0]) & 0xFFFFFFFF, (key1 + _PHILOX_WEYL[1]) & 0xFFFFFFFF
    out[...] = np.stack(x)


def _dropout_factors(shape: tuple[int, int], rate: float, seed: int, step: int, layer: int, first_row: int) -> Array:
    """Return 0, or ``1 / (1 - rate)`` where an element is kept, as float64 ``(r, o)``.

    The counter of a draw is (block, row, step, layer), its key the seed.  A counter serves 8 columns with 16 bits each;
    16 counters with neighbouring blocks serve 128 neighbouring columns, column ``16 h + b`` of them with the h-th 16
    bits of the b-th counter.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: got {rate}, expected a rate of at least 0 and below 1")
    rows, columns = shape
    blocks = _COUNTERS * math.ceil(columns / (8 * _COUNTERS))
    counter = np.empty((4, rows, blocks), np.uint32)
    counter[0] = np.arange(blocks)
    counter[1] = ((first_row + np.arange(rows)) & 0xFFFFFFFF)[:, None]
    counter[2] = step & 0xFFFFFFFF
    counter[3] = layer & 0xFFFFFFFF
    words = np.empty_like(counter)
    philox4x32(counter, np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32), words)
    halves = np.stack([words & np.uint32(0xFFFF), words >> np.uint32(16)], axis=1).reshape(
        8, rows, blocks // _COUNTERS, _COUNTERS
    )
    uniform = halves.transpose(1, 2, 0, 3).reshape(rows, 8 * blocks)[:, :columns]
    threshold = min(int(rate * 65536 + 0.5), 65535)
    return np.where(uniform >= threshold, 65536 / (65536 - threshold), 0.0)


# --------------------------------------------------------------------------------------------------------------- dense


def product(a: Array, b: Array, onto: Array | None) -> Array:
    """Return ``a b``, or ``a b + onto``, in the dtype of the arrays; `reference_bf16.product` is the other way."""
    return a @ b if onto is None else a @ b + onto


def pre_activation(product: Product, x: Array, weight: Array, bias: Array | None) -> Array:
    """Return ``z = x W^T + b``."""
    expect("weight", weight, weight.shape[0], x.shape[1], dtype=x.dtype)
    expect("bias", bias, len(weight), dtype=x.dtype)
    z = product(x, weight.T, None)
    return z if bias is None else z + bias


_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _activate(z: Array, activation: int, negative_slope: float) -> tuple[Array, Array]:
    """Return the activation of z and its derivative."""
    if activation == ACTIVATIONS["identity"]:
        return z.copy(), np.ones_like(z)
    if activation == ACTIVATIONS["relu"]:
        return np.where(z <= 0, 0, z), np.where(z <= 0, 0, 1)
    if activation == ACTIVATIONS["leaky_relu"]:
        return np.where(z <= 0, negative_slope * z, z), np.where(z <= 0, negative_slope, 1)
    if activation == ACTIVATIONS["sigmoid"]:
        y = logistic(z)
        return y, y * (1 - y)
    if activation == ACTIVATIONS["tanh"]:
        y = np.tanh(z)
        return y, 1 - y * y
    if activation == ACTIVATIONS["gelu"]:
        cumulative = 0.5 * _erfc(-z / math.sqrt(2))
        return z * cumulative, cumulative + z * np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    if activation == ACTIVATIONS["silu"]:
        share = logistic(z)
        return z * share, share * (1 + z * (1 - share))
    if activation == ACTIVATIONS["elu"]:
        y = np.expm1(np.minimum(z, 0))
        return np.where(z <= 0, y, z), np.where(z <= 0, y + 1, 1)
    if activation == ACTIVATIONS["softplus"]:
        return np.logaddexp(z, 0), logistic(z)
    raise ValueError(f"activation: got code {activation}, expected one of {ACTIVATIONS}")


def logistic(z: Array) -> Array:
    """Return ``1 / (1 + exp(-z))``."""
    return 1 / (1 + np.exp(-z))


@silent
def dense_forward(
    x: Array, weight: Array, bias: Array | None, activation: int, negative_slope: float, dropout: float,
    seed: int, step: int, layer: int, first_row: int, slope: Array, y: Array,
) -> None:  # fmt: skip
    """Write ``y = dropout(activation(z))`` and ``slope = dy/dz`` with ``z = x W^T + b``.

    Parameters
    ----------
    x
        ``(r, i)``.
    weight, bias
        ``(o, i)`` and ``(o,)``, or None for no bias.
    activation, negative_slope
        A code of `ACTIVATIONS`; the slope of leaky_relu below 0.
    dropout
        Rate, at least 0 and below 1; realised in steps of 2^-16.
    seed, step, layer, first_row
        Key of the mask: that of row q and column c depends on (seed, step, layer, first_row + q, c) alone.
    slope, y
        ``(r, o)``.
    """
    expect("slope", slope, len(x), len(weight), dtype=x.dtype)
    z = pre_activation(product, x, weight, bias)
    elementwise_forward(z, activation, negative_slope, dropout, seed, step, layer, first_row, slope, y)


@silent
def dense_backward(
    x: Array, weight: Array, slope: Array, accumulate: bool, shared: bool,
    dy: Array, dx: Array | None, dw: Array | None, db: Array | None,
) -> None:  # fmt: skip
    """Turn dy into ``dz = dy * slope``; write ``dx = dz W``, ``dw = dz^T x``, and in db the sum of the rows of dz.

    Parameters
    ----------
    x, weight, slope
        As given to and got from `dense_forward`.
    accumulate
        Add to dw and db instead of overwriting them.
    shared
        Other ranks read dw: a hint on where to keep it, which changes no value.
    dy
        ``(r, o)``.
    dx
        ``(r, i)``, or None if nobody needs it.
    dw, db
        ``(o, i)`` and ``(o,)``, or None if nobody needs them.
    """
    backward(product, x, weight, slope, accumulate, shared, dy, dx, dw, db)


def backward(
    product: Product, x: Array, weight: Array, slope: Array, accumulate: bool, shared: bool,
    dy: Array, dx: Array | None, dw: Array | None, db: Array | None,
) -> None:  # fmt: skip
    """Do what `dense_backward` does, with this product."""
    expect("weight", weight, slope.shape[1], x.shape[1], dtype=x.dtype)
    expect("slope", slope, len(x), len(weight), dtype=x.dtype)
    expect("dy", dy, *slope.shape, dtype=x.dtype)
    expect("dx", dx, *x.shape, dtype=x.dtype)
    expect("dw", dw, *weight.shape, dtype=x.dtype)
    expect("db", db, len(weight), dtype=x.dtype)
    dy *= slope
    if dx is not None:
        dx[...] = product(dy, weight, None)
    if dw is not None:
        dw[...] = product(dy.T, x, dw if accumulate else None)
    if db is not None:
        db[...] = dy.sum(axis=0) + (db if accumulate else 0)


def packed_size(weight: Array) -> int:
    """Return the length of `packed` in `pack_weight`: 0, as NumPy takes a weight as it lies."""
    return 0


def packing_pays(rows: int, weight: Array) -> bool:
    """Return whether `dense_predict` of so many rows is faster with a weight that is packed once."""
    return False


def pack_weight(weight: Array, packed: Array) -> None:
    """Lay a weight ``(o, i)`` out as `dense_predict` reads it fastest, in ``(packed_size(weight),)``.

    What is in it is the build's own affair.
    """
    expect("packed", packed, packed_size(weight), dtype=weight.dtype)


@silent
def dense_predict(
    x: Array, weight: Array, packed: Array | None, bias: Array | None, activation: int, negative_slope: float, y: Array
) -> None:
    """Write ``y = activation(x W^T + b)``; shapes as in `dense_forward`.

    `packed` is what `pack_weight` made of the weight, or None; it changes no bit.
    """
    expect("packed", packed, packed_size(weight), dtype=x.dtype)
    elementwise_predict(pre_activation(product, x, weight, bias), activation, negative_slope, y)


@silent
def elementwise_forward(
    x: Array, activation: int, negative_slope: float, dropout: float,
    seed: int, step: int, layer: int, first_row: int, slope: Array, y: Array,
) -> None:  # fmt: skip
    """Write ``y = dropout(activation(x))`` and ``slope = dy/dx``; all ``(r, i)``; y may be x."""
    expect("x", x, *slope.shape)
    expect("slope", slope, *x.shape, dtype=x.dtype)
    expect("y", y, *x.shape, dtype=x.dtype)
    value, derivative = _activate(x, activation, negative_slope)
    factor = _dropout_factors((x.shape[0], x.shape[1]), dropout, seed, step, layer, first_row)
    y[...] = value * factor
    slope[...] = derivative * factor


@silent
def elementwise_backward(slope: Array | None, dy: Array, dx: Array) -> None:
    """Write ``dx = dy * slope``; all ``(r, i)``; a slope of None is 1."""
    expect("slope", slope, *dy.shape, dtype=dy.dtype)
    expect("dx", dx, *dy.shape, dtype=dy.dtype)
    np.multiply(dy, 1 if slope is None else slope, out=dx)


@silent
def elementwise_predict(x: Array, activation: int, negative_slope: float, y: Array) -> None:
    """Write ``y = activation(x)``; both ``(r, i)``; y may be x."""
    expect("y", y, *x.shape, dtype=x.dtype)
    y[...] = _activate(x, activation, negative_slope)[0]


@silent
def add(x: Array, y: Array) -> None:
    """Write ``y += x``; both ``(n,)``."""
    expect("x", x, len(y), dtype=y.dtype)
    expect("y", y, len(x))
    y += x


@silent
def sum_of_two(a: Array, b: Array, y: Array) -> None:
    """Write ``y = a + b``; all ``(n,)``."""
    for name, each in (("a", a), ("b", b), ("y", y)):
        expect(name, each, len(a), dtype=a.dtype)
    np.add(a, b, out=y)

"""The reference implementation of products in bfloat16: what AVX-512 BF16 computes, bit by bit.

Both factors are rounded to bfloat16.  A sum takes up its terms in pairs, of a pair the *second* term first, as
VDPBF16PS does (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2; processors of AMD give the same
bits).  Each term is added by a fused multiply-add that rounds to nearest, ties to even.  Subnormal numbers count as
zero, in factors as in sums, whatever the rounding mode of the process is.

Of a convolution, whose sums are NumPy's, the factors alone are those of the compiled kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from onotrain._kernels import reference, reference_conv, reference_update
from onotrain._kernels.reference import Array, expect, silent

if TYPE_CHECKING:
    from onotrain.config.optimizer import UpdateRule

_SMALLEST_NORMAL = 2.0**-126
#: What lies below it is still below the smallest normal float32 when it has been rounded to 24 bits.
_LARGEST_FLUSHED = _SMALLEST_NORMAL - 2.0**-151


def bfloat(x: Array) -> Array:
    """Return float32 numbers rounded to bfloat16, as float64: ties to even, subnormal ones to zero, NaN stays NaN."""
    bits = _flushed(x).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(x), np.float32(np.nan), rounded.view(np.float32)).astype(np.float64)


@silent
def product(a: Array, b: Array, onto: Array | None) -> Array:
    """Return ``a (m, k) b (k, n)``, float32, with sums that begin at `onto` ``(m, n)``, or at 0 for None."""
    left, right = bfloat(a), bfloat(b)
    terms = a.shape[1]
    sums = np.zeros((len(a), b.shape[1]), np.float32) if onto is None else _flushed(onto) if terms else onto
    for first in range(0, terms, 2):
        # A last term that is alone has a pair of zeros beside it, which makes 0 of a sum of -0.
        second = left[:, first + 1, None] * right[first + 1] if first + 1 < terms else np.float64(0.0)
        sums = _added(_added(sums, second), left[:, first, None] * right[first])
    return sums


def _added(sums: Array, terms: Array | np.float64) -> Array:
    """Return the float32 nearest to ``sums + terms``.

    In float64 the products of two numbers of bfloat16 are exact; so is a sum, unless one of the two is so much smaller
    that it does not matter for the float32.
    """
    exact = sums.astype(np.float64) + terms
    return np.where(np.abs(exact) < _LARGEST_FLUSHED, np.copysign(0.0, exact), exact).astype(np.float32)


def _flushed(x: Array) -> Array:
    """Return float32 numbers with zeros, of the same sign, for subnormal ones."""
    return np.where(np.abs(x) < np.float32(_SMALLEST_NORMAL), np.copysign(np.float32(0), x), x)


@silent
def dense_forward(
    x: Array, weight: Array, bias: Array | None, activation: int, negative_slope: float, dropout: float,
    seed: int, step: int, layer: int, first_row: int, slope: Array, y: Array,
) -> None:  # fmt: skip
    """See `reference.dense_forward`."""
    expect("slope", slope, len(x), len(weight), dtype=x.dtype)
    z = reference.pre_activation(product, x, weight, bias)
    reference.elementwise_forward(z, activation, negative_slope, dropout, seed, step, layer, first_row, slope, y)


@silent
def dense_predict(
    x: Array, weight: Array, packed: Array | None, bias: Array | None, activation: int, negative_slope: float, y: Array
) -> None:
    """See `reference.dense_predict`."""
    expect("packed", packed, reference.packed_size(weight), dtype=x.dtype)
    z = reference.pre_activation(product, x, weight, bias)
    reference.elementwise_predict(z, activation, negative_slope, y)


@silent
def dense_backward(
    x: Array, weight: Array, slope: Array, accumulate: bool, shared: bool,
    dy: Array, dx: Array | None, dw: Array | None, db: Array | None,
) -> None:  # fmt: skip
    """See `reference.dense_backward`; with `accumulate` the sums of dw begin at what is there."""
    reference.backward(product, x, weight, slope, accumulate, shared, dy, dx, dw, db)


def _factors(weight: Array) -> reference_conv.Factors:
    """Return what rounds the factors of a convolution: a filter of one channel has no pairs, and nothing is rounded."""
    return (lambda x: bfloat(x).astype(np.float32)) if weight.shape[1] > 1 else lambda x: x


@silent
def conv_forward(x: Array, weight: Array, *others: Any) -> None:
    """See `reference_conv.conv_forward`."""
    reference_conv.forward(_factors(weight), x, weight, *others)


@silent
def conv_predict(x: Array, weight: Array, *others: Any) -> None:
    """See `reference_conv.conv_predict`."""
    reference_conv.predict(_factors(weight), x, weight, *others)


@silent
def conv_backward(x: Array, weight: Array, *others: Any) -> None:
    """See `reference_conv.conv_backward`."""
    reference_conv.backward(_factors(weight), x, weight, *others)


def update(
    rule: UpdateRule, scalars: tuple[float, ...], grads: Array, inputs: Array | None, shared: bool,
    state: tuple[Array, ...], param: Array | None, out: Array, row: int = 0,
) -> float:  # fmt: skip
    """See `reference_update.update`."""
    if inputs is not None and not row:
        reference_update.check_factors(grads, inputs, len(out), out.dtype)
        grads, inputs = product(grads.T, inputs, None).reshape(1, len(out)), None
    return reference_update.update(rule, scalars, grads, inputs, shared, state, param, out, row)


#: The kernels that have products.
KERNELS: dict[str, Callable[..., Any]] = {
    "dense_forward": dense_forward, "dense_backward": dense_backward, "dense_predict": dense_predict,
    "conv_forward": conv_forward, "conv_backward": conv_backward, "conv_predict": conv_predict, "update": update,
}  # fmt: skip

"""The reference implementations of the kernels of codecs; see `onotrain._kernels.reference`.

``n`` values, ``g = ceil(n / 256)`` groups of them.
"""

from __future__ import annotations

import numpy as np

from onotrain._kernels.reference import Array, expect, silent

#: Values that share a scale.
GROUP = 256
_NAN = 0x7FC0
_SMALLEST_SCALE = np.finfo(np.float32).tiny


@silent
def largest_magnitude(values: Array) -> float:
    """Return the largest magnitude of the finite values, 0 if there are none."""
    expect("values", values, values.size)
    return float(np.abs(values).max(where=np.isfinite(values), initial=0.0))


@silent
def encode_half(values: Array, scale: float, halves: Array) -> None:
    """Write ``float16(scale * values)``, rounded once to the nearest, ties to even, as its bits (uint16)."""
    expect("values", values, values.size)
    expect("halves", halves, values.size, dtype=np.uint16)
    halves.view(np.float16)[:] = (values * values.dtype.type(scale)).astype(np.float16)


@silent
def decode_half(halves: Array, scale: float, out: Array) -> None:
    """Write ``scale * halves``."""
    expect("out", out, out.size)
    expect("halves", halves, out.size, dtype=np.uint16)
    np.multiply(halves.view(np.float16).astype(out.dtype), out.dtype.type(scale), out=out)


@silent
def encode_bfloat(values: Array, upper: Array) -> None:
    """Write the upper halves (uint16) of the values as float32, rounded to the nearest, ties to even; NaN is 0x7fc0."""
    expect("values", values, values.size)
    expect("upper", upper, values.size, dtype=np.uint16)
    single = values.astype(np.float32)
    bits = single.view(np.uint32)
    # Half a unit of the last place that is kept, less one if that place is even, carries where it should.
    upper[:] = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    upper[np.isnan(single)] = _NAN


@silent
def decode_bfloat(upper: Array, out: Array) -> None:
    """Write the numbers whose upper halves are given, with zeros below."""
    expect("out", out, out.size)
    expect("upper", upper, out.size, dtype=np.uint16)
    out[:] = (upper.astype(np.uint32) << 16).view(np.float32)


@silent
def encode_int8(values: Array, scales: Array, multiples: Array) -> None:
    """Write ``multiples = round(values / scale)`` (int8) with ``scale = max|values| / 127`` (float32) of each group.

    A scale that would be subnormal is 0, and NaN where a value is not finite or the scale would not be; multiples are 0
    then.
    """
    expect("values", values, values.size)
    expect("multiples", multiples, values.size, dtype=np.int8)
    expect("scales", scales, -(-values.size // GROUP), dtype=np.float32)
    if values.size == 0:
        return
    largest = np.maximum.reduceat(np.abs(values), np.arange(0, values.size, GROUP))
    scales[:] = largest / 127
    scales[scales < _SMALLEST_SCALE] = 0.0
    scales[~np.isfinite(scales)] = np.nan
    # In the dtype of the values: of a less exact inverse the rest would not be exact (strategies/codecs/feedback.py).
    inverse = np.where(scales > 0.0, np.reciprocal(scales, dtype=values.dtype), 0.0)
    inverse = np.repeat(inverse.astype(values.dtype), GROUP)[: values.size]
    multiples[:] = np.where(inverse > 0.0, np.rint(values * inverse), 0.0).astype(np.int8)


@silent
def decode_int8(scales: Array, multiples: Array, out: Array) -> None:
    """Write ``scale * multiples`` with the scale of each group."""
    expect("out", out, out.size)
    expect("multiples", multiples, out.size, dtype=np.int8)
    expect("scales", scales, -(-out.size // GROUP), dtype=np.float32)
    np.multiply(multiples, np.repeat(scales, GROUP)[: out.size].astype(out.dtype), out=out)


@silent
def keep_rest(wanted: Array, rest: Array) -> None:
    """Write ``wanted - rest`` to rest, and 0 where that is not finite."""
    expect("wanted", wanted, wanted.size)
    expect("rest", rest, wanted.size, dtype=wanted.dtype)
    np.subtract(wanted, rest, out=rest)
    rest[~np.isfinite(rest)] = 0.0

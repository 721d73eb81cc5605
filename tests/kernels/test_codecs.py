from __future__ import annotations

import numpy as np
import pytest

from onotrain._kernels import reference_codecs as reference

SIZES = [0, 1, 7, 255, 256, 257, 5000]
#: Of every kernel that fills messages, what it fills, given the number of values.
MESSAGES = {
    "half": lambda size: [np.full(size, 0xA5A5, np.uint16)],
    "bfloat": lambda size: [np.full(size, 0xA5A5, np.uint16)],
    "int8": lambda size: [np.full(-(-size // 256), np.nan, np.float32), np.full(size, 0x5A, np.int8)],
}
SCALE = 2.0**-20


def wide(rng, dtype, size):
    """Numbers of all magnitudes of float32, zeros, infinities and NaN among them, each kind in a stretch of its own."""
    values = (rng.standard_normal(size) * np.exp2(rng.uniform(-140, 120, size))).astype(dtype)
    values[rng.random(size) < 0.1] = 0.0
    values[: size // 4] = rng.standard_normal(size // 4)
    values[size // 3 : size // 2] *= dtype.type(2.0**-126)
    for bad in (np.nan, np.inf, -np.inf):
        values[size * 9 // 10 :][rng.random(size - size * 9 // 10) < 0.1] = bad
    return values


def encoded(module, name, values):
    """What a module's kernel makes of the values."""
    message = MESSAGES[name](values.size)
    getattr(module, f"encode_{name}")(values, *([SCALE] if name == "half" else []), *message)
    return message


def decoded(module, name, message, dtype):
    out = np.full(message[-1].size, 123.0, dtype)
    getattr(module, f"decode_{name}")(*message, *([1 / SCALE] if name == "half" else []), out)
    return out


def numbers(name, message):
    """The message as numbers: NaN has many bits."""
    return [part.view(np.float16) if name == "half" else part for part in message]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", MESSAGES)
def test_messages_equal_the_reference_bit_by_bit(kernels, rng, name, size):
    values = wide(rng, kernels.dtype, size)
    values.flags.writeable = False
    got, expected = encoded(kernels, name, values), encoded(reference, name, values)
    for mine, theirs in zip(numbers(name, got), numbers(name, expected), strict=True):
        np.testing.assert_array_equal(mine, theirs)
        np.testing.assert_array_equal(np.signbit(mine[mine == 0]), np.signbit(theirs[theirs == 0]))
    np.testing.assert_array_equal(
        decoded(kernels, name, expected, kernels.dtype), decoded(reference, name, expected, kernels.dtype)
    )


def test_every_half_comes_back(kernels):
    halves = np.arange(1 << 16, dtype=np.uint16)
    values, back = np.empty(halves.size, kernels.dtype), np.empty_like(halves)
    kernels.decode_half(halves, 1.0, values)
    np.testing.assert_array_equal(values, halves.view(np.float16).astype(kernels.dtype))
    kernels.encode_half(values, 1.0, back)
    np.testing.assert_array_equal(back.view(np.float16), halves.view(np.float16))
    np.testing.assert_array_equal(back[~np.isnan(values)], halves[~np.isnan(values)])


def test_halves_are_rounded_once(kernels):
    """Next to the middle between two of them; of float64 so near that float32 would be the middle itself."""
    low = np.arange(0x7BFF, dtype=np.uint16).view(np.float16).astype(kernels.dtype)
    high = np.arange(1, 0x7C00, dtype=np.uint16).view(np.float16).astype(kernels.dtype)
    middle = (low + high) / 2
    out = np.empty(low.size, np.uint16)
    for values, expected in [
        (np.nextafter(middle, low), low), (np.nextafter(middle, high), high),
        (middle, np.where(np.arange(low.size) % 2 == 0, low, high)),
    ]:  # fmt: skip
        kernels.encode_half(values, 1.0, out)
        np.testing.assert_array_equal(out.view(np.float16), expected)
        kernels.encode_half(-values, 1.0, out)
        np.testing.assert_array_equal(out.view(np.float16), -expected)


def test_beyond_the_largest_half_is_infinity(kernels):
    values = np.array([65519.0, 65520.0, 1e30, -65520.0, -1e30], kernels.dtype)
    out = np.empty(values.size, np.uint16)
    kernels.encode_half(values, 1.0, out)
    np.testing.assert_array_equal(out.view(np.float16), [65504.0, np.inf, np.inf, -np.inf, -np.inf])


def test_multiples_are_rounded_to_even(kernels):
    values = np.array([127.0, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 126.5, -126.5, -127.0], kernels.dtype)
    scales, multiples = encoded(kernels, "int8", values)
    assert scales == [1.0]
    np.testing.assert_array_equal(multiples, [127, 0, 0, 2, -2, 2, -2, 126, -126, -127])


@pytest.mark.parametrize(("units", "scale", "multiples"), [(127, 2.0**-126, [127, -1]), (126, 0.0, [0, 0])])
def test_the_smallest_scale_is_a_normal_number(kernels, units, scale, multiples):
    got = encoded(kernels, "int8", np.array([units * 2.0**-126, -(2.0**-126)], kernels.dtype))
    assert got[0] == [scale] and got[1].tolist() == multiples


def test_what_float32_cannot_hold_is_not_finite(double_kernels):
    values = np.array([1e300, -1e300, 3.5e38])
    (upper,) = encoded(double_kernels, "bfloat", values)
    np.testing.assert_array_equal(upper, [0x7F80, 0xFF80, 0x7F80])
    scales, _ = encoded(double_kernels, "int8", values)
    assert np.isnan(scales).all()


@pytest.mark.parametrize("size", SIZES)
def test_the_largest_magnitude_is_of_finite_values(kernels, rng, size):
    values = wide(rng, kernels.dtype, size)
    assert kernels.largest_magnitude(values) == reference.largest_magnitude(values)
    assert kernels.largest_magnitude(np.full(size, np.nan, kernels.dtype)) == 0.0
    if size:
        values[rng.integers(size)] = -np.finfo(kernels.dtype).max
        assert kernels.largest_magnitude(values) == np.finfo(kernels.dtype).max


@pytest.mark.parametrize("size", SIZES)
def test_the_rest_is_what_was_not_sent(kernels, rng, size):
    wanted, rest = wide(rng, kernels.dtype, size), wide(rng, kernels.dtype, size)
    expected = rest.copy()
    kernels.keep_rest(wanted, rest)
    reference.keep_rest(wanted, expected)
    np.testing.assert_array_equal(rest, expected)
    assert np.isfinite(rest).all()


def test_wrong_lengths_and_dtypes_are_refused(kernels):
    values = np.ones(300, kernels.dtype)
    other = np.ones(300, np.float64 if kernels.dtype == np.float32 else np.float32)
    # A reference implementation takes the dtype of the one array that has numbers of it.
    others = [] if kernels.path == "reference" else [other]
    u, i, s = np.zeros(300, np.uint16), np.zeros(300, np.int8), np.zeros(2, np.float32)
    for name, right, wrong in [
        ("encode_half", (values, 1.0, u), {0: [*others, values[:299], np.ones(600, values.dtype)[::2]], 2: [u[1:], i]}),
        ("decode_half", (u, 1.0, values), {0: [u[1:], i], 2: [*others, values[1:]]}),
        ("encode_bfloat", (values, u), {0: [*others, values[1:]], 1: [u[1:], i]}),
        ("decode_bfloat", (u, values), {0: [u[1:], i], 1: [*others, values[1:]]}),
        ("encode_int8", (values, s, i), {0: [*others, values[1:]], 1: [s[1:], s.astype(float)], 2: [i[1:], u]}),
        ("decode_int8", (s, i, values), {0: [s[1:], s.astype(float)], 1: [i[1:], u], 2: [*others, values[1:]]}),
        ("keep_rest", (values, values.copy()), {0: [other, values[1:]], 1: [other]}),
    ]:  # fmt: skip
        kernel = getattr(kernels, name)
        kernel(*right)
        for place, arguments in wrong.items():
            for argument in arguments:
                with pytest.raises(ValueError):
                    kernel(*(argument if index == place else given for index, given in enumerate(right)))
